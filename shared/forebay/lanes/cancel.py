"""Cancels predictions: at once for who asks, and in groups for those whose clients went away."""

import asyncio
import logging
from collections.abc import Sequence

from redis.exceptions import RedisError

from forebay.contract.errors import ErrorInfo, ErrorKind
from forebay.contract.messages import Reply, encode
from forebay.contract.prediction import PredictionId, Status
from forebay.lanes import scripts
from forebay.lanes.keys import Keys
from forebay.lanes.scripts import Arg, FinishOutcome
from forebay.runtime.clock import Clock
from forebay.runtime.redis import Commands

log = logging.getLogger(__name__)

MAX_CALL = 100
"""Predictions canceled in one script call."""

MAX_WAITING = 100_000
"""Cancellations that wait for Redis. Beyond that they are dropped, and what they meant runs."""


class Canceler:
    """Ends predictions as canceled.

    Args:
        redis: client whose commands are not retried.
        keys: key builder.
        clock: the server's clock.
    """

    def __init__(self, redis: Commands, keys: Keys, clock: Clock) -> None:
        self._redis = redis
        self._keys = keys
        self._clock = clock
        self._waiting: dict[str, PredictionId] = {}
        self._wake = asyncio.Event()

    async def cancel(self, id_: PredictionId) -> FinishOutcome:
        """Cancel one prediction; whoever waits for it is told.

        Raises:
            redis.exceptions.RedisError: Redis is out of reach.
        """
        (outcome,) = await self._finish([id_])
        return outcome

    def cancel_soon(self, id_: PredictionId) -> None:
        """Cancel one that nobody waits for any more, together with others."""
        if len(self._waiting) < MAX_WAITING:
            self._waiting[id_.text] = id_
            self._wake.set()

    async def run(self) -> None:
        """Write cancellations until cancelled; what is waiting then is still written."""
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                await self._flush()
        finally:
            await self._flush()

    async def _flush(self) -> None:
        while self._waiting:
            shards: dict[tuple[str, int], list[PredictionId]] = {}
            for id_ in self._waiting.values():
                shards.setdefault((id_.model, id_.shard), []).append(id_)
            self._waiting.clear()
            for ids in shards.values():
                for first in range(0, len(ids), MAX_CALL):
                    try:
                        await self._finish(ids[first : first + MAX_CALL])
                    except (RedisError, OSError) as error:
                        log.debug("canceling for clients that went away failed: %s", error)

    async def _finish(self, ids: Sequence[PredictionId]) -> list[FinishOutcome]:
        """Cancel predictions of one shard."""
        keys = self._keys.of_prediction(ids[0])
        now_ms = self._clock.now_ms()
        args: list[Arg] = []
        for id_ in ids:
            reply = Reply(
                prediction=id_.text,
                status=Status.CANCELED,
                completed_at_ms=now_ms,
                error=ErrorInfo(ErrorKind.CANCELED, "The prediction was canceled."),
            )
            args += (id_.text, Status.CANCELED.value, encode(reply))
        return await scripts.finish(
            self._redis, keys, records=[keys.record(id_.text) for id_ in ids], args=args
        )
