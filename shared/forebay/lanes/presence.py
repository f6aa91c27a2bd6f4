"""Which workers are there for a model, how fast each is, and which of them hold anything."""

from typing import cast

import msgspec
from redis.exceptions import ResponseError

from forebay.contract.prediction import Lane
from forebay.lanes.keys import GROUP, LaneKeys
from forebay.runtime.redis import Commands


class Present(msgspec.Struct, frozen=True):
    """A worker that is present.

    Attributes:
        worker: its name.
        rate: rows a second that it works off; 0 if not known.
        busy: whether it holds leases.
    """

    worker: str
    rate: float
    busy: bool


async def present(redis: Commands, keys: LaneKeys, *, now_ms: int) -> list[Present]:
    """The workers that are present on one shard of a model, by name.

    Raises:
        redis.exceptions.RedisError: Redis is out of reach.
    """
    raw = cast(
        list[bytes],
        await redis.execute_command("ZRANGEBYSCORE", keys.workers, now_ms, "+inf"),
    )
    if not raw:
        return []
    rates = await redis.execute_command("HMGET", keys.rates, *raw)
    busy = {name for lane in Lane for name in await holders(redis, keys, lane)}
    return sorted(
        (
            Present(name.decode(), float(rate or 0), name.decode() in busy)
            for name, rate in zip(raw, rates, strict=True)
        ),
        key=lambda one: one.worker,
    )


async def holders(redis: Commands, keys: LaneKeys, lane: Lane) -> list[str]:
    """Workers that hold leases of a lane, whether or not they are present.

    Raises:
        redis.exceptions.RedisError: Redis is out of reach.
    """
    held: set[str] = set()
    for stream in (keys.lane(lane), keys.ahead(lane)):
        try:
            consumers = await redis.execute_command("XINFO", "CONSUMERS", stream, GROUP)
        except ResponseError as error:
            if "no such key" in str(error):
                continue  # the lanes are gone from Redis, as the next read will tell
            raise
        told = [dict(zip(flat[::2], flat[1::2], strict=True)) for flat in consumers]
        held |= {about[b"name"].decode() for about in told if about[b"pending"]}
    return sorted(held)
