"""Finds the rows at fault in a batch that fails, so that their neighbours succeed.

Nearly always it is one. So it is searched for like a number in a sorted list: run the first half of
those it may be among; if that fails it is there, and the other half waits; else it is in the other
half, which then needs no run to tell. What had to wait runs together in the end. One row at fault
among n costs log2 n runs, and two more at most: one for its own error, one for what waited. If that
fails too there are several, and halving finds them all.
"""

from collections.abc import Callable, Sequence
from typing import TypeVar

from forebay.contract.errors import BackendFailed, ForebayError
from forebay.contract.rows import Output

R = TypeVar("R")

Run = Callable[[Sequence[R]], Sequence[Output] | None]
"""Runs rows: one output each, or None if they fail together."""


def bisect(rows: Sequence[R], run: Run[R]) -> list[Output | ForebayError]:
    """What each row comes to: its output, or `BackendFailed` if it fails by itself.

    Args:
        rows: at least one.
        run: tried with all of them, then with fewer as long as they fail.
    """
    outputs = run(rows)
    return list(outputs) if outputs is not None else _without_one(rows, run)


def _without_one(rows: Sequence[R], run: Run[R]) -> list[Output | ForebayError]:
    """Rows that fail together, if one of them is at fault."""
    results: dict[int, Output | ForebayError] = {}
    suspects, waiting, known = list(range(len(rows))), list[int](), len(rows) == 1
    while len(suspects) > 1:
        middle = len(suspects) // 2
        first, second = suspects[:middle], suspects[middle:]
        outputs = run([rows[index] for index in first])
        if outputs is None:
            suspects, known = first, True
            waiting += second
        else:
            suspects, known = second, False
            results.update(zip(first, outputs, strict=True))
    (suspect,) = suspects
    found = None if known else run([rows[suspect]])
    results[suspect] = _failed() if found is None else found[0]
    if waiting:
        held = [rows[index] for index in waiting]
        outputs = run(held)
        results.update(
            zip(waiting, _halved(held, run) if outputs is None else outputs, strict=True)
        )
    return [results[index] for index in range(len(rows))]


def _halved(rows: Sequence[R], run: Run[R]) -> list[Output | ForebayError]:
    """Rows that fail together, however many of them are at fault."""
    if len(rows) == 1:
        return [_failed()]
    middle = len(rows) // 2
    results: list[Output | ForebayError] = []
    for half in (rows[:middle], rows[middle:]):
        outputs = run(half)
        results += _halved(half, run) if outputs is None else outputs
    return results


def _failed() -> BackendFailed:
    return BackendFailed("The model failed on this row. The worker's log says why.")
