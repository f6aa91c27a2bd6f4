"""What the queues' clients share: they take numbers of jobs on stdin and say how long each took.

One line of JSON for each number: {"ran_s": …, "seconds": …, "wrong": …}. A job is given a number
and gives it back. `ran_s` is from the first call until the job that was enqueued last has its
result, `seconds` until the client has the results of all; `wrong` counts those that were not what
was given. Reading results is told apart because some libraries' ways to do so cost more than the
jobs.
"""

import asyncio
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

AT_ONCE = 32
"""Calls that an asynchronous client has under way: each has a connection of its own."""

POLL_S = 0.01
"""How often a client looks for a result, where it has to look."""

RESULT_S = 60

URL = os.environ["BENCH_REDIS_URL"]


def serve(
    enqueue: Callable[[int], list[Any]],
    result: Callable[[Any], int],
    results: Callable[[list[Any]], list[int]] | None = None,
) -> None:
    """Answer orders until stdin ends.

    Args:
        enqueue: enqueues so many jobs; gives what their results are asked by, in order.
        result: waits for one.
        results: reads all, which are there; one after the other unless given.
    """
    answers = _answers()
    for line in sys.stdin:
        began = time.perf_counter()
        jobs = enqueue(int(line))
        result(jobs[-1])
        ran = time.perf_counter()
        found = [result(job) for job in jobs] if results is None else results(jobs)
        _tell(answers, began, ran, found)


async def serve_async(
    enqueue: Callable[[int], Awaitable[list[Any]]],
    result: Callable[[Any], Awaitable[int]],
    results: Callable[[list[Any]], Awaitable[list[int]]] | None = None,
) -> None:
    """Likewise, on a running event loop; results are read `AT_ONCE` at a time unless given."""
    answers = _answers()
    while line := await asyncio.to_thread(sys.stdin.readline):
        began = time.perf_counter()
        jobs = await enqueue(int(line))
        await result(jobs[-1])
        ran = time.perf_counter()
        found = await (each(result, jobs) if results is None else results(jobs))
        _tell(answers, began, ran, found)


async def each(do: Callable[[Any], Awaitable[Any]], items: Iterable[Any]) -> list[Any]:
    """Do something for each item, `AT_ONCE` at a time; the results are in order."""
    todo = list(items)
    found: list[Any] = [None] * len(todo)
    left = iter(enumerate(todo))

    async def some() -> None:
        for at, item in left:
            found[at] = await do(item)

    await asyncio.gather(*(some() for _ in range(AT_ONCE)))
    return found


def _answers() -> Any:
    """Standard output, kept for answers: what libraries print goes to stderr."""
    kept = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    return kept


def _tell(answers: Any, began: float, ran: float, found: list[Any]) -> None:
    seconds = time.perf_counter() - began
    wrong = sum(result != number for number, result in enumerate(found))
    told = {"ran_s": ran - began, "seconds": seconds, "wrong": wrong}
    answers.write(json.dumps(told) + "\n")
