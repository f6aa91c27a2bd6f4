"""Servers that have a successor: a primary under Sentinel, and a node of a cluster."""

import asyncio
from collections.abc import Callable

from tests.chaos.clients import Load
from tests.chaos.outcome import Outcome, Scenario
from tests.chaos.scene import beside, scene
from tests.fixtures.servers import Server
from tests.fixtures.shapes import ClusterServers, Group, Servers, running

RATE = 60
"""Clients a second."""
LONGEST_S = 600
"""No run takes as long."""
QUIET_S = 2.0
"""How long all is well before each failover, and after the last."""


async def primary_killed(short: bool) -> Outcome:
    """Kill the primary that sentinels watch, again and again."""
    with running(Group) as group:

        def fail(_: str) -> Server:
            before = group.primary
            before.kill()
            group.until_promoted(before)
            return before

        return await _under_load(
            group, fail, group.until_complete, times=1 if short else 4, what="primary"
        )


async def node_killed(short: bool) -> Outcome:
    """Kill the node of a cluster that holds a key of the model, again and again."""
    with running(ClusterServers) as cluster:

        def fail(key: str) -> Server:
            before = cluster.owner(key)
            before.kill()
            cluster.until_promoted(before)
            return before

        return await _under_load(
            cluster, fail, cluster.until_whole, times=1 if short else 4, what="node"
        )


async def _under_load(
    servers: Servers,
    fail: Callable[[str], Server],
    until_well: Callable[[], None],
    *,
    times: int,
    what: str,
) -> Outcome:
    """Have servers fail while predictions come.

    Args:
        servers: all of them.
        fail: kills the one that holds a key; returns it once another has taken over.
        until_well: waits until all follow one another again.
        times: how often; who was killed comes back soon after, to follow its successor.
        what: they are called.
    """
    outcome = Outcome()
    # A command that a dead server swallows is given up soon, and so is a lease nobody settles.
    async with scene(
        servers=servers,
        batch={"max_wait_ms": 20},
        durability="replicated",
        redis_timeout_s=1.0,
        lease_s=3.0,
    ) as stage:
        gateways = [await stage.gateway() for _ in range(2)]
        for _ in range(2):
            await stage.worker()
        load = Load([gateway.http for gateway in gateways])

        async def fail_again_and_again() -> None:
            for _ in range(times):
                await asyncio.to_thread(until_well)
                await asyncio.sleep(QUIET_S)
                killed = await asyncio.to_thread(fail, stage.audit.keys.demand)
                await asyncio.sleep(QUIET_S)
                await asyncio.to_thread(killed.start)
            await asyncio.sleep(QUIET_S)
            load.stop()

        async with beside(lambda: stage.audit.watch(load)), asyncio.TaskGroup() as all_of_it:
            all_of_it.create_task(fail_again_and_again())
            await load.feed(RATE * LONGEST_S, LONGEST_S)
        for gateway in gateways:
            await gateway.ready()
        await stage.drained(outcome, list(load.values))
        # What was settled in the last moment may not have reached the successor: it runs again.
        await stage.audit.tally(load, gateways[0].http, outcome, forgets=True)
        outcome.all_succeed(load.came)
        outcome.promise(load.refused[503] > 0, f"no client noticed that the {what} was gone")
        outcome.promise(set(load.refused) <= {503}, f"clients were answered {load.setbacks}")
        for program in stage.programs:
            outcome.promise(program.starts == 1 and program.running, f"{program.name} has ended")
        outcome.done = f"{load.came:,} predictions; {what} killed, {times} times"
        outcome.notes += [
            f"lost: {outcome.tally.lost} of {outcome.tally.accepted:,} acknowledged",
            f"refused meanwhile: {load.setbacks}; no client was accepted for {load.longest_s:.1f} s"
            " at most",
        ]
    return outcome


SCENARIOS = (
    Scenario(
        "kill-primary",
        "Primary killed",
        "A primary is killed and Sentinel promotes a replica (`durability = replicated`): every "
        "acknowledged prediction ends, with its own output, and no process needs a restart.",
        primary_killed,
    ),
    Scenario(
        "kill-node",
        "Cluster node killed",
        "The node of a Redis Cluster of three that holds the model is killed, its replica takes "
        "over, and it comes back as the replica (`durability = replicated`): every acknowledged "
        "prediction ends, with its own output, and no process needs a restart.",
        node_killed,
    ),
)
