"""How a command asks Redis: one connection, closed at the end, and one clear error."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

from forebay.contract.errors import Unavailable
from forebay.runtime.settings import Settings

if TYPE_CHECKING:
    from forebay.lanes.keys import Keys
    from forebay.runtime.redis import Commands

T = TypeVar("T")


def ask(settings: Settings, what: "Callable[[Commands, Keys], Awaitable[T]]") -> T:
    """Do something with a connection to Redis.

    Args:
        settings: say where Redis is, and what keys begin with.
        what: is given the connection, and the keys.

    Raises:
        Unavailable: Redis is out of reach, or refuses.
        ForebayError: whatever `what` raises.
    """
    # Here, because commands that ask nothing have not the client's tenths of a second.
    from redis.exceptions import RedisError

    from forebay.lanes.keys import Keys
    from forebay.runtime.redis import connect, mask

    async def run() -> T:
        redis = connect(settings.redis_url, timeout_s=settings.redis_timeout_s)
        try:
            return await what(redis, Keys(settings.key_prefix))
        finally:
            await redis.aclose()

    try:
        return asyncio.run(run())
    except BrokenPipeError:
        raise  # whoever read what we print, not Redis
    except (RedisError, OSError) as error:
        raise Unavailable(
            f"Redis at {mask(settings.redis_url)} can't be asked: {error}."
        ) from error
