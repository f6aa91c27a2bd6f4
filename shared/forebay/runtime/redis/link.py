"""The link: whether the server is within reach, and what time it is there."""

import asyncio
import logging
import time

from redis.asyncio import Redis
from redis.exceptions import BusyLoadingError, RedisError

from forebay.runtime.clock import Clock
from forebay.runtime.redis.client import Commands
from forebay.runtime.redis.times import now_us

log = logging.getLogger(__name__)

WATCH_S = 1.0
"""How often a healthy server is asked for the time."""

RETURN_S = 0.1
"""How often an absent server is asked."""


class Link:
    """Watches one Redis server: whether it answers, and what time it is there.

    Args:
        redis: client with a timeout.
        clock: follows the server's time.
    """

    def __init__(self, redis: Redis, clock: Clock) -> None:
        self._redis = redis
        self._commands: Commands = redis
        self._clock = clock
        self._up = True
        self._changed_at = time.monotonic()
        self._returned = asyncio.Event()
        self._returned.set()
        self._look = asyncio.Event()
        self.outages = 0

    @property
    def up(self) -> bool:
        """False while the server is known to be out of reach."""
        return self._up

    @property
    def down_s(self) -> float:
        """For how long the server has been out of reach, seconds."""
        return 0.0 if self._up else time.monotonic() - self._changed_at

    def suspect(self, error: Exception) -> None:
        """Report a failed command: the link counts as down until the server answers again."""
        self._set(False, error)
        self._look.set()

    async def returned(self) -> None:
        """Wait until the server is within reach."""
        await self._returned.wait()

    async def run(self) -> None:
        """Watch until cancelled."""
        while True:
            await self.check()
            try:
                async with asyncio.timeout(WATCH_S if self._up else RETURN_S):
                    await self._look.wait()
            except TimeoutError:
                pass
            self._look.clear()

    async def check(self) -> None:
        """Ask the server whether it takes commands, and for the time, once."""
        try:
            # TIME is answered even while a server loads its data and refuses all else.
            await self._commands.execute_command("PING")
            sent = time.monotonic()
            server_us = await now_us(self._commands)
        except (RedisError, OSError) as error:
            self._set(False, error)
            if not isinstance(error, BusyLoadingError):
                # A connection that failed may still be in the pool; the next try takes a new one.
                await self._redis.connection_pool.disconnect(inuse_connections=False)
            return
        self._clock.follow(server_us, sent, time.monotonic())
        self._set(True, None)

    def _set(self, up: bool, error: Exception | None) -> None:
        if up == self._up:
            return
        self._up = up
        self._changed_at = time.monotonic()
        if up:
            self._returned.set()
            log.info("redis is within reach again")
        else:
            self.outages += 1
            self._returned.clear()
            log.warning("redis is out of reach: %s", error)
