"""Conformance of the lanes, on the fake and on the real server: models that nobody is there for."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable
from typing import Any

from forebay.contract.prediction import Lane
from forebay.lanes import scaling
from forebay.lanes.presence import present
from forebay.lanes.scaling import Wanted
from forebay.lanes.sweeps import expire_overdue
from forebay.lanes.wakes import Wakes
from forebay.runtime.redis import now_ms
from tests.fixtures.lanes import (
    LONG_MS,
    enqueue,
    join,
    read,
    settlement,
    submission,
    view,
)
from tests.fixtures.servers import LaneServer
from tests.fixtures.waiting import eventually

GRACE_MS = 60_000


@contextlib.asynccontextmanager
async def listening(lanes: LaneServer) -> AsyncIterator[list[str]]:
    """What is heard of two models, once both are listened to."""
    heard: list[str] = []

    def woken(models: Iterable[str]) -> None:
        heard.extend(models)

    wakes = Wakes(lanes.client(blocking=True), lanes.keys, ["echo", "other"], woken=woken)
    task = asyncio.create_task(wakes.run())
    # Each is looked at once the subscription stands: nobody knows what was said before.
    await eventually(lambda: sorted(heard) == ["echo", "other"], what="both are listened to")
    heard.clear()
    try:
        yield heard
    finally:
        task.cancel()
        await asyncio.wait([task])


async def test_enqueue_says_that_nobody_is_there_once_a_call_until_somebody_is(
    lanes: LaneServer,
) -> None:
    wake = lanes.echo.wake
    async with listening(lanes) as heard:
        await enqueue(lanes, submission(), submission(2), wake=wake)
        await eventually(lambda: heard == ["echo"])
        await enqueue(lanes, submission(lane=Lane.BULK), wake=wake)
        await eventually(lambda: heard == ["echo"] * 2)
        # A lane that is full has nobody either.
        await enqueue(lanes, submission(9), bounds=(1, 1), wake=wake)
        await eventually(lambda: heard == ["echo"] * 3)

        first, second = await join(lanes, "first"), await join(lanes, "second")
        await enqueue(lanes, submission(), wake=wake)
        await first.leave()
        await enqueue(lanes, submission(), wake=wake)
        await second.leave()
        await enqueue(lanes, submission(), wake=wake)
        await eventually(lambda: len(heard) > 3)
        assert heard == ["echo"] * 4


async def test_silence_counts_as_absence(lanes: LaneServer) -> None:
    await join(lanes, presence_ms=1)
    async with listening(lanes) as heard:
        await eventually(lambda: nobody(lanes))
        await enqueue(lanes, submission(), wake=lanes.echo.wake)
        await eventually(lambda: heard == ["echo"])


async def nobody(lanes: LaneServer) -> bool:
    """Whether nobody is present."""
    return not await present(lanes.redis, lanes.echo, now_ms=await now_ms(lanes.redis))


async def test_what_finds_nobody_has_more_time_on_its_lane_and_with_the_sweep(
    lanes: LaneServer,
) -> None:
    slept = submission(deadline_ms=1, grace_ms=GRACE_MS)
    plain = submission(deadline_ms=1)
    await enqueue(lanes, slept, plain)

    async def swept() -> bool:
        return await expire_overdue(lanes.redis, lanes.echo) == 1

    await eventually(swept)
    worker = await join(lanes)
    (delivery,) = await read(worker, 10)
    assert delivery.prediction == slept.id.text
    assert delivery.computation is not None
    # The message says what was asked for, 10 minutes from the epoch; the entry says more.
    assert delivery.computation.deadline_at_ms == slept.created_at_ms + 1 + GRACE_MS
    assert await worker.settle([settlement(delivery)])
    assert (await view(lanes)).counters == {"succeeded": 1, "expired": 1}


async def test_what_finds_somebody_has_the_time_it_asked_for(lanes: LaneServer) -> None:
    worker = await join(lanes)
    one = submission(grace_ms=GRACE_MS)
    await enqueue(lanes, one)
    (delivery,) = await read(worker, 10)
    assert delivery.computation is not None
    assert delivery.computation.deadline_at_ms == LONG_MS
    record: Any = await lanes.redis.execute_command("HGET", lanes.echo.record(one.id.text), "dl")
    assert int(record) == one.created_at_ms + LONG_MS


async def test_while_somebody_is_there_an_enqueue_costs_no_command_more(
    real_lanes: LaneServer,
) -> None:
    """On the real server only: it counts commands, those in scripts too."""
    await join(real_lanes)

    async def cost(wake: str, grace_ms: int) -> dict[str, int]:
        await enqueue(real_lanes, submission())  # the script is there
        before = await calls(real_lanes)
        await enqueue(real_lanes, submission(grace_ms=grace_ms), wake=wake)
        after = await calls(real_lanes)
        return {name: n - before.get(name, 0) for name, n in after.items() if name != "info"}

    fixed = await cost("", 0)
    assert await cost(real_lanes.echo.wake, GRACE_MS) == fixed
    assert fixed["hmget"] == 1
    assert not fixed.get("publish")


async def calls(lanes: LaneServer) -> dict[str, int]:
    """How often each command has been called."""
    told = (await lanes.redis.execute_command("INFO", "commandstats")).decode()
    lines = (line for line in told.split() if line.startswith("cmdstat_"))
    return {
        line.removeprefix("cmdstat_").partition(":")[0]: int(line.split("calls=")[1].split(",")[0])
        for line in lines
    }


async def test_who_is_there_how_fast_and_who_holds_anything(lanes: LaneServer) -> None:
    async def told() -> list[tuple[str, float, bool]]:
        found = await present(lanes.redis, lanes.echo, now_ms=await now_ms(lanes.redis))
        return [(one.worker, one.rate, one.busy) for one in found]

    assert await told() == []
    idle, busy = await join(lanes, "idle"), await join(lanes, "busy")
    await busy.beat(rate=12.5)
    await enqueue(lanes, submission(lane=Lane.BULK))
    (held,) = await read(busy, 1)
    assert await told() == [("busy", 12.5, True), ("idle", 0.0, False)]
    await busy.settle([settlement(held)])
    await idle.leave()
    assert await told() == [("busy", 12.5, False)]


async def test_what_is_wanted_is_told_and_lapses(lanes: LaneServer) -> None:
    assert await scaling.told(lanes.redis, lanes.echo) is None
    wanted = Wanted(replicas=2, started=1, why="there is work")
    await scaling.tell(lanes.redis, lanes.echo, wanted)
    assert await scaling.told(lanes.redis, lanes.echo) == wanted
    left: Any = await lanes.redis.execute_command("PTTL", lanes.echo.scaling)
    assert 0 < left <= scaling.KEPT_MS
    await lanes.redis.execute_command("SET", lanes.echo.scaling, b"\xff")
    assert await scaling.told(lanes.redis, lanes.echo) is None
