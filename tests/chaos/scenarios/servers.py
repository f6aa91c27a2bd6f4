"""The server: killed and restarted from its append-only file, and paused."""

import asyncio
import functools

from tests.chaos.clients import Load
from tests.chaos.outcome import Outcome, Scenario
from tests.chaos.scene import beside, scene
from tests.fixtures.servers import Server
from tests.fixtures.shapes import running
from tests.fixtures.waiting import eventually

DURABLE = functools.partial(Server, aof=True, fsync="everysec")
"""A server as `durability = disk` has it."""

DOWN_S = 0.5
"""How long a killed server stays away."""

HELD = 140
"""About as many as two workers hold."""

FEW = 0.02
"""Share of predictions that may be run again after a pause."""


async def killed(short: bool) -> Outcome:
    """Kill the server again and again while predictions come."""
    count, over_s, every_s = (300, 4.0, 1.5) if short else (3_000, 30.0, 5.0)
    outcome = Outcome()
    with running(DURABLE) as server:
        async with scene(servers=server, batch={"max_wait_ms": 20}) as stage:
            gateways = [await stage.gateway() for _ in range(2)]
            for _ in range(2):
                await stage.worker()
            load = Load([gateway.http for gateway in gateways])
            kills = int(over_s / every_s)

            async def kill() -> None:
                for _ in range(kills):
                    await asyncio.sleep(every_s - DOWN_S)
                    await asyncio.to_thread(server.kill)
                    await asyncio.sleep(DOWN_S)
                    await asyncio.to_thread(server.start)

            async with beside(lambda: stage.audit.watch(load)), asyncio.TaskGroup() as all_of_it:
                all_of_it.create_task(kill())
                all_of_it.create_task(load.feed(count, over_s))
            for gateway in gateways:
                await gateway.ready()
            await stage.drained(outcome, list(load.values))
            await stage.audit.tally(load, gateways[0].http, outcome)
            outcome.all_succeed(count)
            outcome.promise(load.refused[503] > 0, "no client noticed that the server was gone")
            for program in stage.programs:
                outcome.promise(
                    program.starts == 1 and program.running, f"{program.name} has ended"
                )
            outcome.done = f"{count:,} predictions in {over_s:g} s; server killed {kills} times"
            outcome.notes += [
                f"lost: {outcome.tally.lost} of {count:,} acknowledged",
                f"setbacks of clients: {load.setbacks}",
            ]
    return outcome


async def paused(short: bool) -> Outcome:
    """Stop the server while some workers hold much, and another looks for what nobody settles."""
    count, over_s, pause_s, run_s = (260, 4.0, 4.5, 0.5) if short else (1_500, 20.0, 10.0, 1.0)
    # Presence lapses for all, and so does every lease.
    lease_s, presence_s = (3.0, 1.5) if short else (4.0, 1.5)
    outcome = Outcome()
    with running(Server) as server:
        async with scene(
            servers=server, batch={"max_rows": 4}, lease_s=lease_s, presence_s=presence_s
        ) as stage:
            gateway = await stage.gateway()
            load = Load([gateway.http], waiting_every=0)
            await load.feed(HELD, 0.0, name="early")
            for _ in range(2):
                await stage.odd_worker(run_s=run_s)
            await eventually(stage.audit.leased, what="something is leased")
            # It takes what is left, then it has time; after a whole lease it may judge others.
            await stage.worker()
            await asyncio.sleep(lease_s + 0.5)
            held = len(await stage.audit.leased())
            async with asyncio.TaskGroup() as clients:
                server.pause()
                clients.create_task(load.feed(count - HELD, over_s, name="late"))
                await asyncio.sleep(pause_s)
                server.resume()
            await gateway.ready()
            await stage.drained(outcome, list(load.values))
            await stage.audit.tally(load, gateway.http, outcome)
            few = int(count * FEW)
            outcome.promise(held > few, f"only {held} were leased when the server stopped")
            outcome.all_succeed(count)
            tally = outcome.tally
            outcome.promise(tally.rerun <= few, f"{tally.rerun} were re-run, of {held} leased")
            outcome.done = f"{count:,} predictions; server stopped for {pause_s:g} s, {held} leased"
            outcome.notes.append(f"setbacks of clients: {load.setbacks}")
    return outcome


SCENARIOS = (
    Scenario(
        "kill-server",
        "Server killed",
        "The server is killed and restarted from its append-only file (`durability = disk`): every "
        "acknowledged prediction ends, with its own output, and no process needs a restart.",
        killed,
    ),
    Scenario(
        "pause-server",
        "Server paused",
        "The server stops for longer than any presence and any lease lasts: nobody takes over what "
        f"others hold, but for {FEW:.0%} at most, and all succeed.",
        paused,
    ),
)
