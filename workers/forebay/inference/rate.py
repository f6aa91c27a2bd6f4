"""How many rows a second this worker works off while it has any. Pure: it is told the time."""

import math

MEMORY_S = 10.0
"""What lies this many busy seconds back counts for a third."""


class ServiceRate:
    """An exponentially weighted mean over busy time; idle time doesn't count.

    While the worker is busy all the time this is its throughput. While it is not, batches are
    small, and the rate is lower than what it could do.
    """

    def __init__(self) -> None:
        self._rows = 0.0
        self._busy_s = 0.0
        self._since: float | None = None

    def begin(self, now_s: float) -> None:
        """There is work, as of now; no matter if there was some before."""
        if self._since is None:
            self._since = now_s

    def done(self, rows: int, now_s: float, *, idle: bool) -> None:
        """So many rows have been worked off.

        Args:
            rows: since the last time.
            now_s: on the same clock as always.
            idle: whether nothing is left.
        """
        elapsed = now_s - (now_s if self._since is None else self._since)
        kept = math.exp(-elapsed / MEMORY_S)
        self._rows = self._rows * kept + rows
        self._busy_s = self._busy_s * kept + elapsed
        self._since = None if idle else now_s

    @property
    def rows_per_s(self) -> float:
        """0 before anything was measured."""
        return self._rows / self._busy_s if self._busy_s > 0 else 0.0
