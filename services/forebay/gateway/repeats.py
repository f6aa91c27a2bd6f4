"""Requests that come again: the same Idempotency-Key, or the same id of the client's own making.

    claim the name ──fresh──▶ enqueue under the id claimed
          └──taken──▶ same request? ──no──▶ 422
                            └──yes──▶ the prediction it stands for, as it is or when it ends

Whoever comes second doesn't enqueue, unless the first died between claiming and enqueueing; then
the id claimed makes it safe.
"""

import asyncio
import contextlib
from collections.abc import Generator
from http import HTTPStatus
from typing import Final

from forebay.contract.errors import NotFound, Unavailable
from forebay.contract.prediction import Prediction, PredictionId
from forebay.gateway.errors import RequestFault
from forebay.gateway.names import Name, own_key
from forebay.gateway.reads import Reads
from forebay.lanes.claims import Claims
from forebay.lanes.predictions import Records

LOOK_S: Final = 0.05
"""How often the prediction of an earlier request is looked at."""

LOOKS_BEFORE_ENQUEUE: Final = 10
"""How often a name that is taken is looked up without a prediction to be seen, before it is taken
that the one who claimed it died."""


class KeyReused(RequestFault):
    """The name stands for another request."""

    status = HTTPStatus.UNPROCESSABLE_ENTITY

    def __init__(self, what: str, *, param: str) -> None:
        super().__init__(
            f"{what} was sent before with another request. Use a new one for a new request.",
            param=param,
        )


class _Followed:
    """A prediction that requests follow: how many, and the task that looks after it for them."""

    def __init__(self, look: asyncio.Task[Prediction | None]) -> None:
        self.look = look
        self.by = 0


class Repeats:
    """Leads requests that come again to the prediction of the first.

    Args:
        claims: names and what they stand for.
        records: predictions as they were stored.
        reads: how to ask Redis.
    """

    def __init__(self, claims: Claims, records: Records, reads: Reads) -> None:
        self._claims = claims
        self._followed: dict[str, _Followed] = {}
        self._records = records
        self._reads = reads

    async def claim(self, name: Name, id_: PredictionId, *, ttl_ms: int) -> PredictionId:
        """Claim a name, and say which prediction it stands for: `id_` if this is the first.

        Raises:
            KeyReused: it stands for another request.
            Unavailable: Redis is out of reach.
        """
        claim = await self._reads.run(
            lambda: self._claims.claim(name.key, id_, name.fingerprint, ttl_ms=ttl_ms)
        )
        if claim.fingerprint != name.fingerprint:
            raise KeyReused(
                "This Idempotency-Key" if name.shown is None else "This id", param=name.param
            )
        return claim.id

    async def release(self, name: Name, id_: PredictionId) -> None:
        """Give a name back: its request was refused, and may come again as if for the first time.

        If Redis is out of reach just then, the next one with it looks for a while and goes on.
        """
        with contextlib.suppress(Unavailable):
            await self._reads.run(lambda: self._claims.release(name.key, id_, name.fingerprint))

    async def follow(self, id_: PredictionId, wait_s: float) -> Prediction | None:
        """The prediction of an earlier request, as it ends or as it is after `wait_s`.

        None if it was never enqueued, or is gone.

        Raises:
            Unavailable: Redis is out of reach.
        """
        until = asyncio.get_running_loop().time() + wait_s
        prediction = await self._known(id_)
        left_s = until - asyncio.get_running_loop().time()
        if prediction is None or prediction.status.terminal or left_s <= 0:
            return prediction
        with self._looking(id_) as look:
            await asyncio.wait({look}, timeout=left_s)
            return look.result() if look.done() else await self._read(id_)

    @contextlib.contextmanager
    def _looking(self, id_: PredictionId) -> Generator[asyncio.Task[Prediction | None]]:
        """The one look after a prediction of all who follow it here."""
        followed = self._followed.get(id_.text)
        if followed is None:
            task = asyncio.create_task(self._ended(id_), name=f"follow {id_.text}")
            followed = self._followed[id_.text] = _Followed(task)
        followed.by += 1
        try:
            yield followed.look
        finally:
            followed.by -= 1
            if not followed.by:
                followed.look.cancel()
                del self._followed[id_.text]

    async def _known(self, id_: PredictionId) -> Prediction | None:
        """The prediction, once there is one; None if who claimed the name seems to have died."""
        for _ in range(LOOKS_BEFORE_ENQUEUE):
            if (prediction := await self._read(id_)) is not None:
                return prediction
            await asyncio.sleep(LOOK_S)
        return await self._read(id_)

    async def _ended(self, id_: PredictionId) -> Prediction | None:
        """The prediction once it has ended; None once it is gone."""
        while True:
            prediction = await self._read(id_)
            if prediction is None or prediction.status.terminal:
                return prediction
            await asyncio.sleep(LOOK_S)

    async def _read(self, id_: PredictionId) -> Prediction | None:
        return await self._reads.run(lambda: self._records.prediction(id_))

    async def resolve(self, text: str) -> PredictionId:
        """The prediction that an id means, Forebay's own or a client's.

        Raises:
            NotFound: there is none.
            Unavailable: Redis is out of reach.
        """
        key = own_key(text)
        found = await self._reads.run(lambda: self._claims.find(key)) if key else None
        if found is not None:
            return found
        raise NotFound(f"There is no prediction {text[:200]!r}, or no longer.")
