"""Requests that come again: the same Idempotency-Key, or the same id of the client's own making.

    claim the name ──fresh──▶ enqueue under the id claimed
          └──taken──▶ same request? ──no──▶ 422
                            └──yes──▶ the prediction it stands for, as it is or when it ends

Whoever comes second doesn't enqueue, unless the first died between claiming and enqueueing; then
the id claimed makes it safe.
"""

import asyncio
import contextlib
from http import HTTPStatus
from typing import Final

from forebay.contract.errors import NotFound, Unavailable
from forebay.contract.prediction import Prediction, PredictionId
from forebay.gateway.errors import RequestFault
from forebay.gateway.names import Name, own_key
from forebay.gateway.reads import Reads
from forebay.lanes.claims import Claims
from forebay.lanes.records import Records

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


class Repeats:
    """Leads requests that come again to the prediction of the first.

    Args:
        claims: names and what they stand for.
        records: predictions as they were stored.
        reads: how to ask Redis.
    """

    def __init__(self, claims: Claims, records: Records, reads: Reads) -> None:
        self._claims = claims
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
        looks = 0
        while True:
            prediction = await self._reads.run(lambda: self._records.prediction(id_))
            looks += 1
            if prediction is None:
                if looks > LOOKS_BEFORE_ENQUEUE:
                    return None
            elif prediction.status.terminal or asyncio.get_running_loop().time() >= until:
                return prediction
            await asyncio.sleep(LOOK_S)

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
