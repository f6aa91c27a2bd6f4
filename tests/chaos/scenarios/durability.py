"""A server that is killed, and forgets: all, or what it was told in the last second."""

import asyncio
import functools
import time
from collections.abc import Callable
from pathlib import Path

from tests.chaos.clients import Load
from tests.chaos.outcome import Outcome, Scenario
from tests.chaos.scene import beside, scene
from tests.fixtures.servers import Server
from tests.fixtures.shapes import running

DOWN_S = 0.5
"""How long a killed server stays away."""

UNSAVED_S = 1.0
"""As `appendfsync everysec` has it."""

LOOK_S = 0.02
"""Pause between two looks at the append-only file."""


class Saved:
    """How long the append-only file was, and how many were acknowledged, at each moment.

    Args:
        folder: of the server.
        load: counts who was acknowledged.
    """

    def __init__(self, folder: Path, load: Load) -> None:
        self._folder = folder
        self._load = load
        self._seen: list[tuple[float, int, int]] = []

    async def watch(self) -> None:
        """Take note, until cancelled."""
        while True:
            # In this order: who was acknowledged by then is in the file.
            now, acknowledged = time.monotonic(), len(self._load.values)
            self._seen.append((now, acknowledged, self._file.stat().st_size))
            await asyncio.sleep(LOOK_S)

    def lose(self, seconds: float) -> int:
        """Cut off what came within so many seconds.

        Returns:
            How many were acknowledged before that.
        """
        until = self._seen[-1][0] - seconds
        _, acknowledged, size = next(one for one in reversed(self._seen) if one[0] <= until)
        with self._file.open("r+b") as file:
            file.truncate(size)
        return acknowledged

    @property
    def _file(self) -> Path:
        (file,) = self._folder.glob("appendonlydir/*.incr.aof")
        return file


async def all_lost(short: bool) -> Outcome:
    """Kill a server that keeps nothing."""
    return await _forgets(Server, None, short=short)


async def second_lost(short: bool) -> Outcome:
    """Kill a server, and cut off what may not have been on the disk yet."""
    durable = functools.partial(Server, aof=True, fsync="everysec")
    return await _forgets(durable, UNSAVED_S, short=short)


async def _forgets(make: Callable[[Path], Server], lost_s: float | None, *, short: bool) -> Outcome:
    """Kill a server once while predictions come.

    Args:
        make: the server.
        lost_s: what is cut from its file; None: it keeps nothing at all.
        short: the short form.
    """
    count, over_s = (400, 5.0) if short else (3_000, 30.0)
    outcome = Outcome()
    with running(make) as server:
        async with scene(servers=server, batch={"max_wait_ms": 20}, lease_s=2.0) as stage:
            gateways = [await stage.gateway() for _ in range(2)]
            for _ in range(2):
                await stage.worker()
            # Nobody waits: who did would wait for what is forgotten until their time is over.
            load = Load([gateway.http for gateway in gateways], waiting_every=0)
            saved = Saved(server.folder, load)
            kept = before = 0

            async def kill() -> None:
                nonlocal kept, before
                await asyncio.sleep(over_s / 2)
                await asyncio.to_thread(server.kill)
                kept = 0 if lost_s is None else saved.lose(lost_s)
                await asyncio.sleep(DOWN_S)
                before = len(load.values)
                await asyncio.to_thread(server.start)

            watches = [lambda: stage.audit.watch(load), *([saved.watch] if lost_s else [])]
            async with beside(*watches), asyncio.TaskGroup() as all_of_it:
                all_of_it.create_task(kill())
                all_of_it.create_task(load.feed(count, over_s))
            for gateway in gateways:
                await gateway.ready()
            ids = list(load.values)
            known = set(await stage.audit.recorded())
            await stage.drained(outcome, [id_ for id_ in ids if id_ in known])
            told = await stage.audit.tally(load, gateways[0].http, outcome, forgets=True)
            tally = outcome.tally
            stay = [*ids[:kept], *ids[before:]]
            missing = sum(id_ not in told for id_ in stay)
            outcome.promise(not missing, f"{missing} are lost that had to be kept")
            outcome.promise(tally.accepted == count, f"{tally.accepted} of {count} were accepted")
            outcome.promise(not tally.failed, f"{tally.failed} failed")
            outcome.promise(load.refused[503] > 0, "no client noticed that the server was gone")
            for program in stage.programs:
                outcome.promise(
                    program.starts == 1 and program.running, f"{program.name} has ended"
                )
            outcome.done = f"{count:,} predictions in {over_s:g} s; server killed once"
            outcome.notes += [
                f"lost: {tally.lost:,} of {count:,} acknowledged, {before:,} of them before the "
                "server was killed",
                f"setbacks of clients: {load.setbacks}",
            ]
            if lost_s is not None:
                outcome.done += f", its file cut by what came within {lost_s:g} s"
    return outcome


SCENARIOS = (
    Scenario(
        "forget-second",
        "Power lost",
        "The server is killed, and what the last second had added to its append-only file is gone, "
        "as when the machine loses power (`durability = disk`): what was acknowledged before that "
        "second ends, with its own output. What had ended in that second may end once more.",
        second_lost,
    ),
    Scenario(
        "forget-all",
        "Memory lost",
        "The server is killed and keeps nothing (`durability = memory`): all that was acknowledged "
        "is lost, results too; what is acknowledged from then on ends, with its own output, and no "
        "process needs a restart.",
        all_lost,
    ),
)
