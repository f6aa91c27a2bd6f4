"""What a worker hears of leases that ended though it did not settle them.

Their prediction was canceled, has expired, or has failed in another part. Pub/sub may lose a word,
and nothing but time is lost with it: what has ended is refused when it settles. After a reconnect
the worker asks for all of its leases.

On the same channel it is told where a caller has gone ahead of those that wait: a lane alone, for
the end of whose stream it is worth reading on.
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
        ahead: called with lanes on which somebody has gone ahead.
        missed: called when some may have been missed.
    """

    def __init__(
        self,
        redis: Redis,
        keys: LaneKeys,
        *,
        ended: Callable[[set[LeaseId]], None],
        ahead: Callable[[set[Lane]], None],
        missed: Callable[[], Awaitable[None]],
    ) -> None:
        self._redis = redis
        self._channel = keys.endings
        self._ended = ended
        self._ahead = ahead
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
                    leases, lanes = read(message["data"])
                    if leases:
                        self._ended(leases)
                    if lanes:
                        self._ahead(lanes)
                elif message["type"] == "subscribe":
                    await self._missed()


def read(data: bytes) -> tuple[set[LeaseId], set[Lane]]:
    """The leases that a message names, and the lanes that it names alone."""
    leases: set[LeaseId] = set()
    lanes: set[Lane] = set()
    for name in data.split():
        text, _, entry = name.partition(b":")
        lane = Lane(text.decode())
        if entry:
            leases.add((lane, entry))
        else:
            lanes.add(lane)
    return leases, lanes
