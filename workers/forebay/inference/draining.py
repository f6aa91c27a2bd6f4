"""The end of a worker: each model finishes what it holds, or lets it go."""

import asyncio
import time
from collections.abc import Iterable, Set

from forebay.contract.versions import model_of
from forebay.inference.housing import Housing
from forebay.inference.slot import Slot

RELEASE_MARGIN_S = 2.0
"""Part of the grace that is kept for letting go what could not be finished."""


async def drain(
    slots: Iterable[Slot], housing: Housing, *, loads: Set[asyncio.Task[None]], grace_s: float
) -> None:
    """Let all models finish what they hold, and release what they can't in time.

    Pipelines first, for half of it: they wait for models that may be of this worker.

    Args:
        slots: all models of the worker.
        housing: drains them.
        loads: those under way, on threads that nobody can stop: they are waited for as long.
        grace_s: that the process is given.
    """
    left_s = max(grace_s - RELEASE_MARGIN_S, 0.1)
    ends = time.monotonic() + left_s
    *callers, last = waves(slots)
    for wave in callers:
        left_s /= 2
        for slot in wave:
            housing.drain(slot)
        if tasks := _tasks(wave):
            await asyncio.wait(tasks, timeout=left_s)
    for slot in last:
        housing.drain(slot)
    serving = {task for wave in (*callers, last) for task in _tasks(wave)}
    if not serving and not loads:
        return
    _, late = await asyncio.wait({*serving, *loads}, timeout=max(ends - time.monotonic(), 0.1))
    for task in late & serving:
        task.cancel()
    await asyncio.gather(*(late & serving), return_exceptions=True)


def _tasks(slots: Iterable[Slot]) -> list[asyncio.Task[None]]:
    return [slot.task for slot in slots if slot.task is not None]


def waves(slots: Iterable[Slot]) -> list[list[Slot]]:
    """Models in the order in which they can be drained: what others call after those."""
    left, waves = list(slots), list[list[Slot]]()
    while True:
        called = {model_of(step) for slot in left for step in slot.spec.steps}
        first = [slot for slot in left if model_of(slot.spec.name) not in called]
        if not first or len(first) == len(left):
            return [*waves, left]
        waves.append(first)
        left = [slot for slot in left if slot not in first]
