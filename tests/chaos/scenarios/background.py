"""The background is killed again and again, and there is no worker."""

import asyncio
import random
import time

from tests.chaos.clients import Load
from tests.chaos.outcome import Outcome, Scenario
from tests.chaos.scene import beside, scene

LIFE_S = 3.0
"""How long the two are left alone once they are at work, at most."""

LATE_S = 120.0
"""By then some life of the background was long enough for a sweep."""


async def killed(short: bool) -> Outcome:
    """Kill the background and its clock while nobody but they can end predictions."""
    count, over_s, deadline_s = (100, 2.0, 3.0) if short else (2_000, 30.0, 5.0)
    outcome = Outcome()
    async with scene(bulk={"deadline_s": deadline_s}, sweep_s=0.5) as stage:
        gateway = await stage.gateway()
        load = Load([gateway.http], waiting_every=0)
        background, beat = stage.background()
        # Or all might expire in their first life, once that begins.
        await stage.at_work(background)
        await stage.at_work(beat)
        kills = 0

        async def kill() -> None:
            nonlocal kills
            while True:
                await stage.at_work(background)
                await stage.at_work(beat)
                await asyncio.sleep(random.uniform(0, LIFE_S))
                background.restart()
                beat.restart()
                kills += 1

        async with beside(kill, lambda: stage.audit.watch(load)):
            await load.feed(count, over_s)
            fed = time.monotonic()
            await stage.drained(outcome, list(load.values), within_s=deadline_s + LATE_S)
            late_s = time.monotonic() - fed - deadline_s
        outcome.promise(kills > 0, "the background was not killed")
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
        outcome.done = f"{count:,} predictions nobody runs; background killed {kills} times"
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
