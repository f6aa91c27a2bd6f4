"""Commands to Redis outside the hot path: so many at once, and none while it is out of reach."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from redis.exceptions import RedisError, ResponseError

from forebay.lanes.lane import unavailable
from forebay.runtime.redis import Link

MAX_READS: Final = 32
"""At once: each takes a connection, of which the client has a hundred."""

T = TypeVar("T")


class Reads:
    """Runs them.

    Args:
        link: whether Redis is within reach.
    """

    def __init__(self, link: Link) -> None:
        self._link = link
        self._turns = asyncio.Semaphore(MAX_READS)

    async def run(self, read: Callable[[], Awaitable[T]]) -> T:
        """Run one when its turn has come.

        Raises:
            Unavailable: Redis is out of reach.
        """
        async with self._turns:
            # Asked when the turn has come: those before may just have found out.
            if not self._link.up:
                raise unavailable()
            try:
                return await read()
            except ResponseError:
                raise  # Redis is there and says no: a bug, not an outage
            except (RedisError, OSError) as error:
                self._link.suspect(error)
                raise unavailable() from error
