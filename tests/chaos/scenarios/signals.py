"""SIGTERM of everybody, at random moments under load."""

import asyncio
import random
import time
from collections import Counter

from tests.chaos.clients import Load
from tests.chaos.outcome import Outcome, Scenario
from tests.chaos.programs import Program
from tests.chaos.scene import Scene, beside, scene

DRAIN_S = 30.0
RATE = 80
"""Clients a second."""
LONGEST_S = 300
"""No run takes as long."""


async def terminated(short: bool) -> Outcome:
    """Tell one process after the other to end, and start it again."""
    at_least_s = 0.0 if short else 60.0
    outcome = Outcome()
    async with scene(batch={"max_rows": 16, "max_wait_ms": 50}, drain_s=DRAIN_S) as stage:
        gateways = [await stage.gateway() for _ in range(2)]
        await stage.worker()
        await stage.odd_worker(run_s=0.3)
        stage.background()
        load = Load([gateway.http for gateway in gateways])
        ended: Counter[str] = Counter()
        began = time.monotonic()

        async def end_one_after_the_other() -> None:
            while not ended or time.monotonic() - began < at_least_s:
                # Everybody's turn comes, in an order nobody knows.
                for program in random.sample(stage.programs, len(stage.programs)):
                    await _up(stage, program)
                    await asyncio.sleep(random.uniform(0.0, 0.4))
                    await stage.exits(program, outcome)
                    ended[program.name.rpartition("-")[0]] += 1
                    program.start()
            load.stop()

        async with beside(lambda: stage.audit.watch(load)), asyncio.TaskGroup() as all_of_it:
            all_of_it.create_task(end_one_after_the_other())
            await load.feed(RATE * LONGEST_S, LONGEST_S)
        took_s = time.monotonic() - began
        for gateway in gateways:
            await gateway.ready()
        await stage.drained(outcome, list(load.values))
        await stage.audit.tally(load, gateways[0].http, outcome)
        struck = sum(n > 0 for n in (await stage.audit.strikes(load.values)).values())
        outcome.all_succeed(load.came)
        outcome.promise(struck == 0, f"{struck} got a strike from a worker that ended in order")
        outcome.promise(
            not load.cut["within an answer"],
            f"{load.cut['within an answer']} clients had a part of an answer",
        )
        told = ", ".join(f"{name} {times}" for name, times in sorted(ended.items()))
        outcome.done = f"{load.came:,} predictions in {took_s:.0f} s; {ended.total()} times SIGTERM"
        outcome.notes += [f"ended: {told}", f"setbacks of clients: {load.setbacks}"]
    return outcome


async def _up(stage: Scene, program: Program) -> None:
    """Wait until a program that was just started is of use, and so has something to lose."""
    gateway = next((one for one in stage.gateways if one.program is program), None)
    if gateway is not None:
        await gateway.ready()
    elif program in stage.sweepers:
        await stage.at_work(program)
    else:
        await stage.present(program)


SCENARIOS = (
    Scenario(
        "sigterm",
        "Everybody told to end",
        "Workers, gateways and backgrounds get SIGTERM at random moments under load: each ends "
        "with 0 within its grace, nothing is lost, and nobody is struck.",
        terminated,
    ),
)
