"""Cancels predictions: at once for who asks, and in groups for those whose clients went away."""

import logging
from collections.abc import Sequence

from redis.exceptions import RedisError

from forebay.contract.errors import ErrorInfo, ErrorKind
from forebay.contract.messages import Reply, encode
from forebay.contract.prediction import PredictionId, Status
from forebay.lanes import scripts
from forebay.lanes.coalescer import Coalescer
from forebay.lanes.keys import Keys
from forebay.lanes.scripts import FinishOutcome
from forebay.runtime.clock import Clock
from forebay.runtime.redis import Arg, Commands

log = logging.getLogger(__name__)

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
        self._waiting = Coalescer(self._write, prediction=lambda id_: id_, size=lambda _: 0)

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
            self._waiting.add(id_)

    async def run(self) -> None:
        """Write cancellations until cancelled; what is waiting then is still written."""
        await self._waiting.run()

    async def _write(self, ids: list[PredictionId]) -> None:
        try:
            await self._finish(ids)
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
