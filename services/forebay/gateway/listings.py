"""Pages of the predictions that have an id, the newest first.

A page says where the ones beside it begin: by a cursor, which is a spot in the list and which way
to go from there. What has come since the first page, and what is no longer kept, moves nothing.
"""

import asyncio
import base64
import binascii
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from typing import Final

import msgspec

from forebay.contract.errors import InvalidInput, NotFound
from forebay.contract.messages import UnknownWireVersionError
from forebay.contract.prediction import Prediction, PredictionId
from forebay.gateway.access import visitor
from forebay.gateway.reads import Reads
from forebay.lanes.listing import Listed, Listing, Spot
from forebay.lanes.predictions import Records

PAGE: Final = 100
"""Predictions of a page, at most."""

PAGE_BYTES: Final = 8_000_000
"""A page that has come to so much is not made longer: outputs may be large."""

BITE: Final = 25
"""Entries that are looked up in one go, each by a few commands."""

AT_ONCE: Final = 5
"""Predictions that are read at once: each takes a connection, and its output memory."""

MOST_LOOKED_UP: Final = 2_000
"""Entries for one page. Where most are no longer kept it is shorter, and the next goes on."""

LARGEST: Final = 2**53
"""Of a cursor's or request's numbers."""

SKEW_MS: Final = 60_000
"""By how much an entry may have been listed at another time than its prediction was created."""

Render = Callable[[Prediction], bytes]


class Cursor(msgspec.Struct, frozen=True):
    """Where a page begins, and which way it goes from there.

    Attributes:
        spot: not on the page itself.
        older: whether what came before the spot is on the page, or what came after.
    """

    spot: Spot
    older: bool

    @property
    def text(self) -> str:
        """As clients have it; opaque to them."""
        way = "older" if self.older else "newer"
        told = f"{way} {self.spot.ms} {self.spot.sequence} {self.spot.model}"
        return base64.urlsafe_b64encode(told.encode()).decode().rstrip("=")

    @classmethod
    def parse(cls, text: str) -> "Cursor":
        """Read one back.

        Raises:
            InvalidInput: it is none.
        """
        try:
            told = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
            way, ms, sequence, model = told.decode("ascii").split(" ")
            spot = Spot(int(ms), int(sequence), model)
        except (binascii.Error, ValueError):
            way, spot = "", Spot(0, 0, "")
        if way not in ("older", "newer") or not _plausible(spot):
            raise InvalidInput(
                "This is no cursor of a list of predictions: take the `next` or `previous` of a "
                "page as it is, or leave it out for the newest.",
                param="cursor",
            )
        return cls(spot, way == "older")


class Created(msgspec.Struct, frozen=True):
    """When predictions were created that are asked for: Unix time in ms, both ends included."""

    after_ms: int = 0
    before_ms: int = LARGEST

    def includes(self, at_ms: int) -> bool:
        """Whether a time is between them."""
        return self.after_ms <= at_ms <= self.before_ms


class Page(msgspec.Struct, frozen=True):
    """A page.

    Attributes:
        results: predictions as the caller renders them, the newest first.
        previous: where the page of newer ones begins; None if this is the first.
        next: where the page of older ones begins; None if there are none.
    """

    results: list[bytes]
    previous: Cursor | None
    next: Cursor | None


class Listings:
    """Makes pages.

    Args:
        listing: what there is.
        records: predictions as they were stored.
        reads: how to ask Redis.
        served: names under which models and their versions are served.
    """

    def __init__(
        self, listing: Listing, records: Records, reads: Reads, served: Iterable[str]
    ) -> None:
        self._listing = listing
        self._records = records
        self._reads = reads
        self._served = tuple(served)

    async def page(self, cursor: Cursor | None, created: Created, render: Render) -> Page:
        """The page that a cursor begins; the first without one.

        Raises:
            Unavailable: Redis is out of reach.
        """
        results: list[bytes] = []
        spots: list[Spot] = []
        bytes_ = looked_up = 0
        beyond: Spot | None = None
        async for listed, prediction in self._walk(cursor, created):
            looked_up += 1
            if prediction is None:
                if looked_up < MOST_LOOKED_UP:
                    continue
                beyond = listed.spot
                break
            if len(results) == PAGE or bytes_ > PAGE_BYTES:
                beyond = spots[-1]
                break
            results.append(render(prediction))
            spots.append(listed.spot)
            bytes_ += len(results[-1])
        return _page(cursor, results, spots, beyond)

    async def _walk(
        self, cursor: Cursor | None, created: Created
    ) -> AsyncGenerator[tuple[Listed, Prediction | None], None]:
        """Entries from a cursor on, each with its prediction; None where it is not to be shown."""
        models = await self._reads.run(lambda: self._listing.models(self._served))
        older = cursor is None or cursor.older
        spot = Spot(created.before_ms + SKEW_MS, 0, "")
        if cursor is not None:
            spot = min(cursor.spot, spot) if older else cursor.spot
        while True:
            bite = await self._bite(models, spot, created, older=older)
            for first in range(0, len(bite), AT_ONCE):
                some = bite[first : first + AT_ONCE]
                predictions = await asyncio.gather(*(self._read(one.prediction) for one in some))
                for listed, prediction in zip(some, predictions, strict=True):
                    shown = prediction is not None and created.includes(prediction.created_at_ms)
                    yield listed, prediction if shown else None
            if len(bite) < BITE:
                return
            spot = bite[-1].spot

    async def _bite(
        self, models: Sequence[str], spot: Spot, created: Created, *, older: bool
    ) -> list[Listed]:
        if older:
            since_ms = max(created.after_ms - SKEW_MS, 0)
            return await self._reads.run(
                lambda: self._listing.older(models, spot, since_ms=since_ms, most=BITE)
            )
        until_ms = created.before_ms + SKEW_MS
        return await self._reads.run(
            lambda: self._listing.newer(models, spot, until_ms=until_ms, most=BITE)
        )

    async def _read(self, text: str) -> Prediction | None:
        """A prediction; None if it is another's, gone or damaged, or its client has deleted it."""
        try:
            id_ = PredictionId.parse(text)
            if not visitor.may_see(id_):
                return None
            prediction = await self._reads.run(lambda: self._records.prediction(id_))
        except (NotFound, LookupError, msgspec.MsgspecError, UnknownWireVersionError):
            return None
        return prediction if prediction is not None and prediction.input is not None else None


def _plausible(spot: Spot) -> bool:
    return 0 <= spot.ms <= LARGEST and 0 <= spot.sequence <= LARGEST


def _page(
    cursor: Cursor | None, results: list[bytes], spots: list[Spot], beyond: Spot | None
) -> Page:
    """A page of what a walk has found, and the cursors to both sides of it."""
    onward = None if beyond is None else Cursor(beyond, older=cursor is None or cursor.older)
    if cursor is None:
        return Page(results, None, onward)
    back = Cursor(spots[0] if spots else cursor.spot, older=not cursor.older)
    if cursor.older:
        return Page(results, back, onward)
    return Page(results[::-1], onward, back)
