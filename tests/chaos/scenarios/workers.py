"""Workers that are killed, and one that is paused for longer than its lease."""

import asyncio
import contextlib
import random

from tests.chaos.clients import Load
from tests.chaos.outcome import Outcome, Scenario
from tests.chaos.scene import beside, scene
from tests.fixtures.waiting import PATIENCE_S, eventually

SECOND = "second"


async def killed(short: bool) -> Outcome:
    """Kill one of three workers every second while predictions come."""
    count, over_s = (400, 4.0) if short else (10_000, 60.0)
    outcome = Outcome()
    # A batch waits a little for company, so that a kill finds something in every worker's hands.
    async with scene(batch={"max_rows": 32, "max_wait_ms": 50}) as stage:
        gateway = await stage.gateway()
        workers = [await stage.worker(), await stage.worker(), await stage.odd_worker(run_s=0.03)]
        load = Load([gateway.http])
        kills = 0

        async def kill() -> None:
            nonlocal kills
            # Not while stragglers are waited for: on a slow machine nobody would ever be up.
            for _ in range(int(over_s)):
                await asyncio.sleep(1)
                victim = random.choice(workers)
                victim.restart()
                kills += 1

        async with beside(kill, lambda: stage.audit.watch(load)):
            await load.feed(count, over_s)
        for worker in workers:
            worker.start()
        await stage.drained(outcome, list(load.values))
        await stage.audit.tally(load, gateway.http, outcome)
        outcome.all_succeed(count)
        outcome.promise(kills > 0, "nobody was killed")
        outcome.done = f"{count:,} predictions in {over_s:g} s; 3 workers, {kills} kills"
        counters = await stage.audit.counters()
        struck = sum(n > 0 for n in (await stage.audit.strikes(load.values)).values())
        outcome.notes.append(
            f"{struck} got a strike; {counters.get('stale', 0) + counters.get('late', 0)} late "
            f"results were refused; setbacks of clients: {load.setbacks}"
        )
    return outcome


async def paused(short: bool) -> Outcome:
    """Stop a worker in the middle of a batch until its leases have gone to another; wake it."""
    count = 60 if short else 400
    outcome = Outcome()
    async with scene(batch={"max_rows": 8}, lease_s=1.5, presence_s=0.6) as stage:
        gateway = await stage.gateway()
        # It takes its leases for longer than others do: else it may find out that it has lost
        # them before it has anything to say.
        sleeper = await stage.odd_worker("sleeper", run_s=0.3, lease_s=60.0)
        load = Load([gateway.http], waiting_every=2)
        async with asyncio.TaskGroup() as clients:
            clients.create_task(load.feed(count, 0.5))
            await eventually(stage.batches.exists, what="a batch has begun")
            await eventually(lambda: len(load.values) > 8, what="predictions are accepted")
            sleeper.pause()
            held = await stage.audit.leased(sleeper.pid)
            await stage.odd_worker("successor", run_s=0.01)
        await stage.drained(outcome, list(load.values))
        before = await stage.audit.counters()
        shown = await stage.audit.tally(load, gateway.http, outcome)
        sleeper.resume()

        async def is_refused() -> bool:
            return (await stage.audit.counters()).get("stale", 0) > before.get("stale", 0)

        with contextlib.suppress(AssertionError):
            await eventually(is_refused)
        await stage.present(sleeper)
        again = await stage.audit.tally(load, gateway.http, outcome)
        after = await stage.audit.counters()
        refused = after.get("stale", 0) - before.get("stale", 0)
        outcome.promise(refused > 0, "nothing that the sleeper said was refused")
        outcome.promise(bool(held), "the sleeper held nothing")
        outcome.promise(
            all(shown[id_].version == "successor" for id_ in held if id_ in shown),
            "a result of what the sleeper held is not its successor's",
        )
        outcome.promise(shown == again, "results changed once the sleeper was awake")
        outcome.all_succeed(count)
        outcome.done = (
            f"{count} predictions; the worker that held {len(held)} stopped past its lease, woken"
        )
        outcome.notes.append(f"{refused} results of the sleeper were refused")
    return outcome


async def shared(short: bool) -> Outcome:
    """Kill one of two workers, which have both models, every second while both are wanted."""
    count, over_s = (200, 4.0) if short else (5_000, 60.0)
    outcome, second = Outcome(), Outcome()
    async with (
        scene(batch={"max_rows": 32, "max_wait_ms": 50}, others=[SECOND]) as stage,
        contextlib.aclosing(stage.audit_of(SECOND)) as audit,
    ):
        gateway = await stage.gateway()
        workers = [await stage.worker(SECOND), await stage.worker(SECOND)]
        loads = [Load([gateway.http]), Load([gateway.http], model=SECOND)]
        kills = 0

        async def kill() -> None:
            nonlocal kills
            for _ in range(int(over_s)):
                await asyncio.sleep(1)
                random.choice(workers).restart()
                kills += 1

        watches = (lambda: stage.audit.watch(loads[0])), (lambda: audit.watch(loads[1]))
        async with beside(kill, *watches), asyncio.TaskGroup() as clients:
            for load in loads:
                clients.create_task(load.feed(count, over_s))
        for worker in workers:
            worker.start()
        await stage.drained(outcome, list(loads[0].values))
        left = await audit.ended(list(loads[1].values), within_s=PATIENCE_S)
        second.promise(not left, f"{len(left)} predictions of the second model have not ended")
        await stage.audit.tally(loads[0], gateway.http, outcome)
        await audit.tally(loads[1], gateway.http, second)
        for one in (outcome, second):
            one.all_succeed(count)
        outcome.add(second)
        outcome.promise(kills > 0, "nobody was killed")
        outcome.done = (
            f"{2 * count:,} predictions of 2 models in {over_s:g} s; 2 workers with both, "
            f"{kills} kills"
        )
    return outcome


SCENARIOS = (
    Scenario(
        "kill-workers",
        "Workers killed",
        "One of three workers is killed every second: all predictions succeed with their own "
        "outputs, none is lost, none is seen twice.",
        killed,
    ),
    Scenario(
        "kill-shared-workers",
        "Workers with several models killed",
        "One of two workers with two models is killed every second: all predictions of both "
        "succeed with their own outputs, none is lost, none is seen twice.",
        shared,
    ),
    Scenario(
        "pause-worker",
        "Worker paused past its lease",
        "A worker is stopped past its lease and woken: nothing it then says is seen.",
        paused,
    ),
)
