"""What time it is on the server, for those who keep no clock that follows it."""

from typing import cast

from forebay.runtime.redis.client import Commands


async def now_us(redis: Commands) -> int:
    """Unix time in microseconds, by the server's clock.

    Raises:
        redis.exceptions.RedisError: it is out of reach.
    """
    seconds, micros = cast("tuple[bytes, bytes]", await redis.execute_command("TIME"))
    return int(seconds) * 1_000_000 + int(micros)


async def now_ms(redis: Commands) -> int:
    """Unix time in milliseconds, by the server's clock.

    Raises:
        redis.exceptions.RedisError: it is out of reach.
    """
    return await now_us(redis) // 1000
