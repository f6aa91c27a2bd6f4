"""Gateways that are killed, and clients that go away."""

import asyncio
import contextlib

from tests.chaos.clients import CutOff, Http, Load, creation, request
from tests.chaos.outcome import Outcome, Scenario
from tests.chaos.scene import Scene, beside, scene
from tests.fixtures.waiting import eventually

BUSY = 2
"""Predictions that keep the worker busy."""

STAYED = 20

AT_ONCE = 250
"""Clients that are there together before they go."""

HEARD_S = 3.0
"""After so long a worker knows of predictions that were canceled."""


async def killed(short: bool) -> Outcome:
    """Kill one of two gateways while clients wait at both."""
    count, over_s = (200, 3.0) if short else (2_000, 20.0)
    outcome = Outcome()
    async with scene(batch={"max_rows": 16}) as stage:
        victim, survivor = [await stage.gateway() for _ in range(2)]
        workers = [await stage.odd_worker(run_s=0.2) for _ in range(2)]
        load = Load([victim.http, survivor.http], waiting_every=3)
        async with beside(lambda: stage.audit.watch(load)), asyncio.TaskGroup() as clients:
            clients.create_task(load.feed(count, over_s))
            await asyncio.sleep(over_s / 2)
            # What waits is surely there when the gateway goes.
            for worker in workers:
                worker.pause()
            clients.create_task(load.feed(100, 0.2, name="crowd"))
            await eventually(lambda: _waiting(stage, 40), what="many wait")
            of_victim = len(load.values)
            victim.program.kill()
            for worker in workers:
                worker.resume()
        await stage.drained(outcome, list(load.values))
        await stage.audit.tally(load, survivor.http, outcome)
        outcome.all_succeed(count + 100)
        outcome.promise(load.cut["clean"] > 0, "no client was cut off")
        outcome.promise(
            not load.cut["within an answer"],
            f"{load.cut['within an answer']} clients had a part of an answer",
        )
        outcome.promise(not load.refused, f"the other gateway refused clients: {load.setbacks}")
        outcome.done = (
            f"{count + 100:,} predictions at two gateways; one killed after {of_victim:,}"
        )
        outcome.notes.append(
            f"connections that ended without a byte of an answer: {load.cut['clean']}; nobody there"
            f" any more: {load.cut['refused']}"
        )
    return outcome


async def gone(short: bool) -> Outcome:
    """Have clients ask, and leave before their batch is formed."""
    count = 300 if short else 5_000
    outcome = Outcome()
    async with scene(realtime={"max_rows": 20_000, "deadline_s": 300}) as stage:
        gateway = await stage.gateway()
        await stage.odd_worker()
        load = Load([gateway.http], waiting_every=1)
        async with asyncio.TaskGroup() as clients:
            # One runs, one batch stands ready behind it: whoever comes now is in neither.
            release = stage.folder / "release"
            for number in range(BUSY):
                clients.create_task(load.want(f"hold {release}", waits=True))
                await eventually(lambda n=number: _taken(stage, n + 1), what="it is taken up")  # type: ignore[misc]
            left = 0
            while left < count:
                group = [f"gone-{number}" for number in range(left, min(left + AT_ONCE, count))]
                left += len(group)
                await _come_and_go(stage, gateway.http, group, BUSY + left)

            async def only_the_busy() -> bool:
                return await stage.audit.demand() <= BUSY

            with contextlib.suppress(AssertionError):
                await eventually(only_the_busy)
            demand = await stage.audit.demand()
            # The worker hears of it by pub/sub, within moments.
            await asyncio.sleep(HEARD_S)
            release.touch()
            for number in range(STAYED):
                clients.create_task(load.want(f"stays-{number}", waits=True))
        await stage.drained(outcome, list(load.values))
        await stage.audit.tally(load, gateway.http, outcome)
        ran = sum(row.startswith("gone") for batch in stage.begun() for row in batch.rows)
        counted = await stage.audit.counters()
        outcome.promise(ran == 0, f"{ran} of them were run")
        outcome.promise(demand <= BUSY, f"{demand - BUSY} rows stayed in demand once all had left")
        outcome.promise(
            counted.get("canceled", 0) == count,
            f"{counted.get('canceled', 0)} of {count} were canceled",
        )
        outcome.all_succeed(BUSY + STAYED)
        outcome.done = f"{left:,} clients asked and left while the worker was busy; {STAYED} stayed"
        outcome.notes.append(f"forward passes with a row of a client that had left: {ran}")
    return outcome


async def _waiting(stage: Scene, rows: int) -> bool:
    return await stage.audit.demand() > rows


async def _taken(stage: Scene, count: int) -> bool:
    if count == 1:
        return stage.batches.exists()
    return len(await stage.audit.leased()) >= count


async def _come_and_go(stage: Scene, gateway: Http, values: list[str], expected: int) -> None:
    """Connect, ask, see to it that there have been so many on the lane in all, and go."""
    writers = []
    for value in values:
        with contextlib.suppress(CutOff):
            _, writer = await gateway.connect()
            writer.write(request("POST", "/v1/predictions", creation(value), {"prefer": "wait=60"}))
            writers.append(writer)

    async def all_are_there() -> bool:
        return await _asked(stage) >= expected

    await eventually(all_are_there, what="all are on the lane")
    for writer in writers:
        writer.close()


async def _asked(stage: Scene) -> int:
    """Predictions that were ever on a lane, as long as none has ended but by being canceled."""
    # In this order: what is canceled between the two is missed this time, never counted twice.
    canceled = (await stage.audit.counters()).get("canceled", 0)
    return canceled + await stage.audit.demand()


SCENARIOS = (
    Scenario(
        "kill-gateway",
        "Gateway killed",
        "One of two gateways is killed: those who waited there get a clean connection error, what "
        "was accepted is unaffected, and the other gateway shows every result.",
        killed,
    ),
    Scenario(
        "clients-leave",
        "Clients gone",
        "Clients ask, and leave while the worker is busy: no forward pass is run for any of them.",
        gone,
    ),
)
