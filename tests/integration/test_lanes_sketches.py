"""Conformance of the lanes, on the fake and on the real server: counts of what was served."""

from datetime import date, timedelta

from forebay.lanes import sketches
from forebay.lanes.sketches import DAY_MS
from tests.fixtures.lanes import ttl_ms
from tests.fixtures.servers import LaneServer

DAY = date(2026, 11, 22)
NOON_MS = 1_795_348_800_000
VERSION = "abcdef012345"


async def add(lanes: LaneServer, days: int = 0, **counts: int) -> None:
    await sketches.add(
        lanes.redis,
        lanes.echo,
        {name.replace("_", " "): count for name, count in counts.items()},
        version=VERSION,
        now_ms=NOON_MS + days * DAY_MS,
        keep_days=3,
    )


async def test_counts_of_workers_and_days_add_up(lanes: LaneServer) -> None:
    await add(lanes, rows_in=2, size_8=1, size_12=1)
    await add(lanes, rows_in=1, rows_out=1, size_8=1)
    await add(lanes, days=1, rows_in=4, size_8=4)
    await add(lanes, days=2, rows_in=9)
    found = await sketches.read(
        lanes.redis, lanes.echo, version=VERSION, days=[DAY, DAY + timedelta(days=1)]
    )
    assert (found.inputs, found.outputs) == (7, 1)
    assert found.counts == {"size": {"8": 6, "12": 1}}
    other = await sketches.read(lanes.redis, lanes.echo, version="other", days=[DAY])
    assert (other.inputs, other.counts) == (0, {})


async def test_a_day_is_forgotten_in_the_end(lanes: LaneServer) -> None:
    await add(lanes, rows_in=1)
    left = await ttl_ms(lanes.redis, lanes.echo.sketch(VERSION, DAY.isoformat()))
    assert 2 * DAY_MS < left <= 3 * DAY_MS
