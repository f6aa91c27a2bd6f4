"""Worker processes of this machine, one for each replica.

    start ▶ ready ▶ chosen while idle ▶ order to unload: what is held is finished ▶ SIGTERM ▶ gone

A worker is chosen because it holds nothing; what it may have leased since then it finishes, however
long that takes, before it is asked to end.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Final, Protocol

from forebay.runtime.process import pid_of

if TYPE_CHECKING:
    from forebay.lanes.presence import Present

log = logging.getLogger(__name__)

FIRST_PAUSE_S: Final = 5.0
LONGEST_PAUSE_S: Final = 300.0
"""Before a model is started again whose worker has been given up."""


class Crew(Protocol):
    """Keeps worker processes running, by name."""

    def start(self, name: str, model: str, *, vital: bool) -> None:
        """Start a worker and keep it running; without a vital one nothing else is to run."""
        ...

    def has(self, name: str) -> bool:
        """Whether it is kept running; False once it has ended, or has been given up."""
        ...

    def pid(self, name: str) -> int | None:
        """Its process id; None while it doesn't run."""
        ...

    async def stop(self, name: str) -> None:
        """Have it end, and wait until it has."""
        ...


Retire = Callable[[str, str], Awaitable[None]]
"""Has a worker, by its own name, finish what it holds of a model, and take nothing more."""


class _Failure:
    """A model whose worker could not be kept running."""

    def __init__(self) -> None:
        self.pause_s = FIRST_PAUSE_S
        self.until = time.monotonic() + self.pause_s

    def again(self) -> None:
        self.pause_s = min(2 * self.pause_s, LONGEST_PAUSE_S)
        self.until = time.monotonic() + self.pause_s


class ProcessTarget:
    """Replicas as processes of this machine; others' are none of its business.

    Args:
        crew: keeps them running.
        vital: how many of a model's replicas are vital, by what it is served under.
        retire: asks a worker to finish; whatever comes of it, the worker is told to end then.
    """

    def __init__(self, crew: Crew, *, vital: Callable[[str], int], retire: Retire) -> None:
        self._crew = crew
        self._vital = vital
        self._retire = retire
        self._names: dict[str, list[str]] = {}
        self._leaving: dict[str, asyncio.Task[None]] = {}
        self._failures: dict[str, _Failure] = {}

    def started(self, model: str, present: "Sequence[Present]") -> int:
        """As in `Target`."""
        return len(self._staying(model))

    def busy(self, model: str, present: "Sequence[Present]") -> int:
        """As in `Target`."""
        of = self._workers(model, present)
        return sum(one.busy for one in of.values())

    def scale(self, model: str, replicas: int, present: "Sequence[Present]") -> None:
        """As in `Target`."""
        self._note_failures(model, present)
        names = self._staying(model)
        if replicas > len(names):
            failure = self._failures.get(model)
            if failure is None or time.monotonic() >= failure.until:
                for _ in range(replicas - len(names)):
                    self._start(model)
        elif replicas < len(names):
            workers = self._workers(model, present)
            # Those that are not ready yet first, then the idle; the last to come goes first.
            spare = [name for name in reversed(names) if name not in workers]
            idle = {name for name, one in workers.items() if not one.busy}
            spare += [name for name in reversed(names) if name in idle]
            for name in spare[: len(names) - replicas]:
                worker = workers[name].worker if name in workers else None
                leaving = self._leave(model, name, worker)
                self._leaving[name] = asyncio.create_task(leaving, name=f"retire {name}")

    async def aclose(self) -> None:
        """Have nobody leave any more: whoever has not gone yet is its crew's to end."""
        for task in self._leaving.values():
            task.cancel()
        await asyncio.gather(*self._leaving.values(), return_exceptions=True)

    def _start(self, model: str) -> None:
        names = self._names.setdefault(model, [])
        number = 1
        while (name := _name(model, number)) in names:
            number += 1
        names.append(name)
        self._crew.start(name, model, vital=number <= self._vital(model))

    def _staying(self, model: str) -> list[str]:
        return [name for name in self._names.get(model, ()) if name not in self._leaving]

    def _workers(self, model: str, present: "Sequence[Present]") -> "dict[str, Present]":
        """Those of ours that are present, by the crew's names; who leaves is not among them."""
        by_pid = {pid: one for one in present if (pid := pid_of(one.worker)) is not None}
        found: dict[str, Present] = {}
        for name in self._staying(model):
            pid = self._crew.pid(name)
            if pid is not None and pid in by_pid:
                found[name] = by_pid[pid]
        return found

    def _note_failures(self, model: str, present: "Sequence[Present]") -> None:
        if self._workers(model, present):
            self._failures.pop(model, None)
        for name in self._staying(model):
            if self._crew.has(name):
                continue
            self._names[model].remove(name)
            if model in self._failures:
                self._failures[model].again()
            else:
                self._failures[model] = _Failure()
            pause_s = self._failures[model].pause_s
            log.error("%s is not started again for %.0f s; what waits for it waits", model, pause_s)

    async def _leave(self, model: str, name: str, worker: str | None) -> None:
        try:
            if worker is not None:
                await self._retire(worker, model)
            await self._crew.stop(name)
            self._names[model].remove(name)
        finally:
            del self._leaving[name]


def _name(model: str, number: int) -> str:
    return f"worker:{model}" if number == 1 else f"worker:{model}#{number}"
