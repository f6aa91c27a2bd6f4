"""Whose row goes next: of the callers that have any, the oldest of whoever was given least. Pure.

Start-time fair queueing (Goyal, Vin and Cheng, 1996): each caller has a tally of the lengths it was
given, and who comes anew begins where the one is who was served last. So a caller with a few rows
goes ahead of what another has heaped up, and never owes anything for having been away.
"""

from collections import deque
from collections.abc import Iterable
from typing import Generic, Protocol, TypeVar


class Row(Protocol):
    """A row that waits."""

    length: int
    caller: int
    taken: bool


T = TypeVar("T", bound=Row)


class Turns(Generic[T]):
    """Rows by caller, each caller's by age. Rows leave by being `taken`."""

    def __init__(self) -> None:
        self._queues: dict[int, deque[T]] = {}
        self._given: dict[int, float] = {}
        self._waiting: dict[int, int] = {}
        self._now = 0.0

    def add(self, row: T) -> None:
        """A row has come."""
        queue = self._queues.get(row.caller)
        if queue is None:
            queue = self._queues[row.caller] = deque()
            self._given[row.caller] = max(self._given.get(row.caller, 0.0), self._now)
        queue.append(row)
        self._waiting[row.caller] = self._waiting.get(row.caller, 0) + row.length

    def next(self) -> T | None:
        """The row whose turn it is; it stays. None if there is none."""
        found: T | None = None
        least = (0.0, 0)
        for caller, queue in self._queues.items():
            while queue and queue[0].taken:
                queue.popleft()
            if queue:
                # Of two that were given the same, whoever has less to wait for.
                given = self._given[caller], len(queue)
                if found is None or given < least:
                    found, least = queue[0], given
        if found is not None:
            self._now = max(self._now, least[0])
        if len(self._queues) > 1:
            self._forget()
        return found

    def took(self, rows: Iterable[T]) -> None:
        """Rows that were taken to be run."""
        for row in rows:
            self._given[row.caller] += row.length

    def left(self, rows: Iterable[T]) -> None:
        """Rows that were taken, to be run or not."""
        for row in rows:
            waits = self._waiting.get(row.caller, 0) - row.length
            if waits > 0:
                self._waiting[row.caller] = waits
            else:
                self._waiting.pop(row.caller, None)

    def waits(self, caller: int) -> int:
        """Length of all rows of a caller that wait."""
        return self._waiting.get(caller, 0)

    def crowd(self, caller: int) -> int:
        """Length of all rows that wait of whoever has most of them besides this caller."""
        others = (length for one, length in self._waiting.items() if one != caller)
        return max(others, default=0)

    def _forget(self) -> None:
        """Let go of callers that have nothing here and owe nothing."""
        for caller in [one for one, queue in self._queues.items() if not queue]:
            del self._queues[caller]
        if len(self._given) > len(self._queues):
            self._given = {
                caller: given
                for caller, given in self._given.items()
                if caller in self._queues or given > self._now
            }
