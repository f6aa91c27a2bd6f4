"""Hearing that something waits for a model that no worker is there for.

Enqueue says so, once a call. Pub/sub may lose a word: whoever starts workers looks at the lanes now
and then all the same, so that only time is lost with it.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable

from redis.asyncio import Redis
from redis.exceptions import RedisError

from forebay.lanes.keys import Keys

log = logging.getLogger(__name__)

RETRY_S = 0.5
"""Pause after the subscription broke."""


class Wakes:
    """Listens for several models.

    Args:
        redis: made by `connect_blocking`.
        keys: key builder.
        models: what they are served under; at least one.
        woken: called with those that something may wait for.
    """

    def __init__(
        self,
        redis: Redis,
        keys: Keys,
        models: Iterable[str],
        *,
        woken: Callable[[Iterable[str]], None],
    ) -> None:
        self._redis = redis
        self._models = {keys.of(model).wake.encode(): model for model in models}
        self._woken = woken

    async def run(self) -> None:
        """Listen until cancelled, through any number of reconnects."""
        while True:
            try:
                await self._listen()
            except (RedisError, OSError) as error:
                log.debug("listening for what waits is interrupted: %s", error)
            await asyncio.sleep(RETRY_S)

    async def _listen(self) -> None:
        async with self._redis.pubsub() as pubsub:
            await pubsub.subscribe(*self._models)
            async for message in pubsub.listen():
                if message["type"] in {"message", "subscribe"}:
                    # What was said before the subscription stood has not been heard.
                    self._woken([self._models[message["channel"]]])
