"""Adds what a worker has counted to the day's in Redis."""

import asyncio
import logging

from redis.exceptions import RedisError

from forebay.contract.model import DriftWatch
from forebay.inference.backends.base import Model
from forebay.inference.trouble import Trouble
from forebay.inference.watch.watched import Watched
from forebay.lanes import sketches
from forebay.lanes.keys import LaneKeys
from forebay.runtime.clock import Clock
from forebay.runtime.redis import Commands

log = logging.getLogger(__name__)

TELL_S = 10.0
"""How often. What a worker that is killed had not told is lost: it was a sample anyway."""


class Telling:
    """Tells Redis what a backend has counted; nothing for one that is not watched.

    Args:
        backend: of the worker.
        redis: client.
        keys: of the model's shard.
        clock: the server's.
        drift: how long a day is kept.
    """

    def __init__(
        self, backend: Model, redis: Commands, keys: LaneKeys, clock: Clock, drift: DriftWatch
    ) -> None:
        self._watched = backend if isinstance(backend, Watched) else None
        self._redis = redis
        self._keys = keys
        self._clock = clock
        self._keep_days = drift.keep_days
        self._trouble = Trouble(log, "telling what was served")

    async def run(self) -> None:
        """Tell every few seconds, until cancelled."""
        while self._watched is not None:
            await asyncio.sleep(TELL_S)
            await self.tell()

    async def tell(self) -> None:
        """Tell now. What can't be told comes with the next: bins are few, so it never grows."""
        if self._watched is None or not (counts := self._watched.sketcher.take()):
            return
        try:
            await sketches.add(
                self._redis,
                self._keys,
                counts,
                version=self._watched.version,
                now_ms=self._clock.now_ms(),
                keep_days=self._keep_days,
            )
        except (RedisError, OSError) as error:
            self._watched.sketcher.put_back(counts)
            self._trouble.report(error)
        else:
            self._trouble.over()
