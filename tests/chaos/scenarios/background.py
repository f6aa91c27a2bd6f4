"""The background is killed again and again, and there is no worker."""

import asyncio
import time

from tests.chaos.clients import Load
from tests.chaos.outcome import Outcome, Scenario
from tests.chaos.scene import beside, scene

LATE_S = 30.0
"""By then the background has found the time to sweep between two kills."""


async def killed(short: bool) -> Outcome:
    """Kill the background and its clock while nobody but they can end predictions."""
    count, over_s, deadline_s, every_s = (100, 1.0, 2.0, 4.0) if short else (2_000, 20.0, 5.0, 4.0)
    outcome = Outcome()
    async with scene(bulk={"deadline_s": deadline_s}, sweep_s=0.5) as stage:
        gateway = await stage.gateway()
        load = Load([gateway.http], waiting_every=0)
        background, beat = stage.background()
        kills = 0

        async def kill() -> None:
            nonlocal kills
            while True:
                await asyncio.sleep(every_s)
                background.restart()
                beat.restart()
                kills += 1

        async with beside(kill, lambda: stage.audit.watch(load)):
            await load.feed(count, over_s)
            fed = time.monotonic()
            await stage.drained(outcome, list(load.values), within_s=deadline_s + LATE_S)
            late_s = time.monotonic() - fed - deadline_s
            # At least one life of the background has been cut short.
            while kills == 0:
                await asyncio.sleep(0.1)
        told = await stage.audit.tally(load, gateway.http, outcome)
        early = await stage.audit.ended_early(load.values)
        outcome.promise(
            all(one.status == "canceled" for one in told.values()), "one ended in another way"
        )
        counted = await stage.audit.counters()
        outcome.promise(
            counted.get("expired") == count, f"{counted.get('expired')} of {count} have expired"
        )
        outcome.promise(early == 0, f"{early} expired before their deadline")
        outcome.done = f"{count:,} predictions that nobody runs; background killed {kills} times"
        outcome.notes.append(f"the last had ended {max(late_s, 0):.1f} s after its deadline")
    return outcome


SCENARIOS = (
    Scenario(
        "kill-background",
        "Background killed",
        "The background and its clock are killed again and again: predictions that no worker takes "
        "up expire all the same, and none before its deadline.",
        killed,
    ),
)
