"""How much is on a model's lanes, and who is there to work it off."""

import msgspec

from forebay.contract.prediction import Lane, Place
from forebay.lanes.keys import LaneKeys
from forebay.runtime.redis import Commands


class Depth(msgspec.Struct, frozen=True):
    """Demand on one shard of a model.

    Attributes:
        realtime: rows in the realtime lane, leased ones included.
        bulk: likewise in the bulk lane.
        replicas: workers present.
        rate: rows a second that they work off together, as lately; 0 if not known.
        entered: rows that ever entered each lane.
    """

    realtime: int
    bulk: int
    replicas: int
    rate: float
    entered: dict[Lane, int]

    def place(self, lane: Lane, *, entered: int, rows: int) -> Place:
        """Where a prediction stands that waits.

        Args:
            lane: where it waits.
            entered: rows that had entered the lane when it had, its own included.
            rows: its own.
        """
        behind = self.entered[lane] - entered
        if lane is Lane.REALTIME:
            ahead = self.realtime - behind - rows
        else:
            ahead = self.bulk - behind - rows + self.realtime
        ahead = max(ahead, 0)
        return Place(ahead, ahead / self.rate if self.rate > 0 else None)


async def depth(redis: Commands, keys: LaneKeys, *, now_ms: int) -> Depth:
    """Read the demand counters, which the scripts keep exact, and count workers present."""
    lanes = [lane.value for lane in Lane]
    fields = [*lanes, *(f"{lane}_in" for lane in lanes), "rate"]
    told = await redis.execute_command("HMGET", keys.demand, *fields)
    realtime, bulk, realtime_in, bulk_in = (int(count or 0) for count in told[:4])
    replicas = await redis.execute_command("ZCOUNT", keys.workers, now_ms, "+inf")
    return Depth(
        realtime,
        bulk,
        int(replicas),
        rate=float(told[4] or 0),
        entered={Lane.REALTIME: realtime_in, Lane.BULK: bulk_in},
    )


async def counters(redis: Commands, keys: LaneKeys) -> dict[str, int]:
    """How many predictions ended how (by status) and how many results were dropped."""
    flat = await redis.execute_command("HGETALL", keys.counters)
    pairs = flat.items() if isinstance(flat, dict) else zip(flat[::2], flat[1::2], strict=True)
    return {name.decode(): int(value) for name, value in pairs}
