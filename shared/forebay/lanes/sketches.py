"""What workers have served, day by day, in counts: see `forebay.contract.sketch`."""

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime

from forebay.contract.sketch import Sketch
from forebay.lanes import scripts
from forebay.lanes.keys import LaneKeys
from forebay.runtime.redis import Commands

DAY_MS = 86_400_000


def day_of(now_ms: int) -> date:
    """The day of a time, in UTC."""
    return datetime.fromtimestamp(now_ms / 1000, UTC).date()


async def add(
    redis: Commands,
    keys: LaneKeys,
    counts: Mapping[str, int],
    *,
    version: str,
    now_ms: int,
    keep_days: int,
) -> None:
    """Add counts to today's.

    Args:
        redis: client.
        keys: of the model's shard.
        counts: by field.
        version: of the model.
        now_ms: the server's time.
        keep_days: for how long the day is kept from now on.
    """
    key = keys.sketch(version, day_of(now_ms).isoformat())
    await scripts.sketch(redis, key=key, keep_ms=keep_days * DAY_MS, counts=counts)


async def read(redis: Commands, keys: LaneKeys, *, version: str, days: Iterable[date]) -> Sketch:
    """What a version has served on several days together."""
    total: Counter[str] = Counter()
    for day in days:
        flat = await redis.execute_command("HGETALL", keys.sketch(version, day.isoformat()))
        pairs = flat.items() if isinstance(flat, dict) else zip(flat[::2], flat[1::2], strict=True)
        total.update({field.decode(): int(count) for field, count in pairs})
    return Sketch.of_fields(total)
