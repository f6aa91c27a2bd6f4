"""How much is on a model's lanes, and who is there to work it off."""

import msgspec

from forebay.contract.prediction import Lane
from forebay.lanes.keys import LaneKeys
from forebay.runtime.redis import Commands


class Depth(msgspec.Struct, frozen=True):
    """Demand on one shard of a model.

    Attributes:
        realtime: rows in the realtime lane, leased ones included.
        bulk: likewise in the bulk lane.
        replicas: workers present.
    """

    realtime: int
    bulk: int
    replicas: int


async def depth(redis: Commands, keys: LaneKeys, *, now_ms: int) -> Depth:
    """Read the demand counters, which the scripts keep exact, and count workers present."""
    realtime, bulk = await redis.execute_command(
        "HMGET", keys.demand, Lane.REALTIME.value, Lane.BULK.value
    )
    replicas = await redis.execute_command("ZCOUNT", keys.workers, now_ms, "+inf")
    return Depth(int(realtime or 0), int(bulk or 0), int(replicas))


async def counters(redis: Commands, keys: LaneKeys) -> dict[str, int]:
    """How many predictions ended how (by status) and how many results were dropped."""
    flat = await redis.execute_command("HGETALL", keys.counters)
    pairs = flat.items() if isinstance(flat, dict) else zip(flat[::2], flat[1::2], strict=True)
    return {name.decode(): int(value) for name, value in pairs}
