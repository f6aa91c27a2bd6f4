"""What a worker hears of leases that ended though it did not settle them.

Their prediction was canceled, has expired, or has failed in another part. Pub/sub may lose a word,
and nothing but time is lost with it: what has ended is refused when it settles. After a reconnect
the worker asks for all of its leases.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from redis.asyncio import Redis
from redis.exceptions import RedisError

from forebay.contract.prediction import Lane
from forebay.lanes.consumer import LeaseId
from forebay.lanes.keys import LaneKeys

log = logging.getLogger(__name__)

RETRY_S = 0.5
"""Pause after the subscription broke."""


class Endings:
    """Listens for one worker.

    Args:
        redis: made by `connect_blocking`.
        keys: of the model's shard.
        ended: called with leases, some of which may be this worker's.
        missed: called when some may have been missed.
    """

    def __init__(
        self,
        redis: Redis,
        keys: LaneKeys,
        *,
        ended: Callable[[set[LeaseId]], None],
        missed: Callable[[], Awaitable[None]],
    ) -> None:
        self._redis = redis
        self._channel = keys.endings
        self._ended = ended
        self._missed = missed

    async def run(self) -> None:
        """Listen until cancelled, through any number of reconnects."""
        while True:
            try:
                await self._listen()
            except (RedisError, OSError) as error:
                log.debug("listening for endings is interrupted: %s", error)
            await asyncio.sleep(RETRY_S)

    async def _listen(self) -> None:
        async with self._redis.pubsub() as pubsub:
            await pubsub.subscribe(self._channel)
            async for message in pubsub.listen():
                if message["type"] == "message":
                    self._ended(leases_of(message["data"]))
                elif message["type"] == "subscribe":
                    await self._missed()


def leases_of(data: bytes) -> set[LeaseId]:
    """The leases that a message names."""
    leases: set[LeaseId] = set()
    for name in data.split():
        lane, _, entry = name.partition(b":")
        leases.add((Lane(lane.decode()), entry))
    return leases
