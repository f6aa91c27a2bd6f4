"""Copies for shadows: versions that run what clients ask of others, and answer nobody.

    primary has its result ─▶ sampled? ─▶ a submission of the same parts to the shadow's bulk lane
                                                  └─▶ its id, once a second, to be compared

A copy is made when the primary has its result, or is on its lane where nobody waits, and it is
written by a coalescer of its own: no request waits for one, or fails by one. What can't be taken
at once is dropped and counted.
"""

import asyncio
import functools
import logging
import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Final

import msgspec
from redis.exceptions import RedisError

from forebay.contract.errors import ForebayError
from forebay.contract.model import BulkLimits, ModelSpec
from forebay.contract.prediction import Lane, PredictionId
from forebay.gateway.split import Split
from forebay.lanes.keys import Keys
from forebay.lanes.lane import LaneWriter, Part, Submission
from forebay.lanes.shadows import Copy, copy_id
from forebay.lanes.shadows import Shadows as Books
from forebay.runtime.catalog import Catalog
from forebay.runtime.clock import Clock
from forebay.runtime.redis import Link

log = logging.getLogger(__name__)

MOST_ROWS: Final = 1_024
"""Rows on a shadow's lane; more are not copied."""

MOST_UNDER_WAY: Final = 256
"""Copies of a gateway that are on their way to Redis; more are not made."""

MOST_BYTES: Final = 1_000_000
"""A request with more payload is not copied."""

TELL_S: Final = 1.0
"""How often it is told what was copied."""

DEADLINE_SHARE: Final = 0.5
"""A shadow has this share of the time for which results that nobody has the id of are kept: the
rest is for comparing."""


class Shadows:
    """Copies what clients ask for.

    Args:
        catalog: the models there are.
        split: versions that get requests get no copies.
        writer: of its own, whose bounds are those of `bounded`.
        books: where copies are told.
        keys: key builder.
        link: whether Redis is within reach.
        clock: the server's clock.
        kept_ms: how long results are kept that nobody has the id of.
    """

    def __init__(
        self,
        catalog: Catalog,
        split: Split,
        writer: LaneWriter,
        *,
        books: Books,
        keys: Keys,
        link: Link,
        clock: Clock,
        kept_ms: int,
    ) -> None:
        self._split = split
        self._writer = writer
        self._books = books
        self._keys = keys
        self._link = link
        self._clock = clock
        self._kept_ms = kept_ms
        self._of = {
            name: [
                (version, catalog.version(spec, version).name, told.sample)
                for version, told in spec.versions.items()
                if told.shadow
            ]
            for name, spec in catalog.models.items()
        }
        self._under_way = 0
        self._copies: defaultdict[str, list[Copy]] = defaultdict(list)
        self._dropped: Counter[str] = Counter()

    def __bool__(self) -> bool:
        """Whether any model has a shadow."""
        return any(self._of.values())

    def copy(self, model: ModelSpec, original: PredictionId, parts: Sequence[Part]) -> None:
        """Copy a request to its model's shadows, or not; raises nothing.

        Args:
            model: as in the catalog.
            original: what the request was made.
            parts: as they were put on its lane.
        """
        size = 0
        for version, served, sample in self._of[model.name]:
            if random.random() >= sample or self._split.shares(model).get(version):  # noqa: S311
                continue
            size = size or sum(len(part.message) for part in parts)
            if self._under_way >= MOST_UNDER_WAY or size > MOST_BYTES:
                self._dropped[served] += 1
                continue
            submission = Submission(
                copy_id(original, served),
                Lane.BULK,
                tuple(parts),
                self._clock.now_ms(),
                int(self._kept_ms * DEADLINE_SHARE),
                self._kept_ms,
            )
            done = functools.partial(self._copied, served, original, submission.created_at_ms)
            self._under_way += 1
            try:
                self._writer.submit(submission, done)
            except ForebayError as error:
                done(error)

    def _copied(
        self,
        served: str,
        original: PredictionId,
        since_ms: int,
        error: ForebayError | None,
        *,
        known: bool = False,
    ) -> None:
        self._under_way -= 1
        if error is None:
            self._copies[served].append(Copy(original, since_ms))
        else:
            self._dropped[served] += 1

    async def run(self) -> None:
        """Tell what was copied until cancelled."""
        while True:
            await asyncio.sleep(TELL_S)
            await self._link.returned()
            await self.tell()

    async def tell(self) -> None:
        """Tell once; what can't be told is not compared."""
        for served in {*self._copies, *self._dropped}:
            copies, dropped = self._copies.pop(served, []), self._dropped.pop(served, 0)
            try:
                await self._books.sent(self._keys.of(served), copies, dropped=dropped)
            except (RedisError, OSError) as error:
                log.warning("%d copies for %s are not compared: %s", len(copies), served, error)


def bounded(catalog: Catalog) -> dict[str, ModelSpec]:
    """What has lanes, with bulk lanes as short as copies may fill them."""
    short = BulkLimits(max_rows=MOST_ROWS)
    return {
        name: msgspec.structs.replace(spec, bulk=short) for name, spec in catalog.served.items()
    }
