"""How many lines a process has in flight, shared by its batches.

By Little's law the lines in flight are their rate times the time that each takes. A second's worth
of them keeps every worker full and each line's wait short; more would only wait in the lane.
"""

import time
from collections.abc import Callable
from typing import Final

IN_FLIGHT_S: Final = 1.0
"""So many seconds' worth of lines are in flight."""

FEWEST: Final = 256
"""Lines that may be in flight whatever their rate: several batches of a worker."""

MOST: Final = 8_192

FEWEST_EACH: Final = 64
"""Lines that each batch may have in flight, however many batches there are."""

REFILL: Final = 7 / 8
"""Of its share, that a batch which was full goes down to before it goes on."""

MOST_BYTES: Final = 32_000_000
"""Bytes of requests in flight; a batch that has none in flight may have one, whatever its size."""

_MEASURED_S: Final = 0.5
_WEIGHT: Final = 0.5


class Window:
    """Lines in flight of one process.

    Args:
        now: a clock that never goes back, seconds.
    """

    def __init__(self, *, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._batches = 0
        self._bytes = 0
        self._rate = 0.0
        self._ended = 0
        self._since = now()

    @property
    def share(self) -> int:
        """Lines that a batch may have in flight."""
        all_ = min(max(int(self._rate * IN_FLIGHT_S), FEWEST), MOST)
        return max(all_ // max(self._batches, 1), FEWEST_EACH)

    def join(self) -> None:
        """A batch begins."""
        self._batches += 1

    def leave(self) -> None:
        """A batch ends."""
        self._batches -= 1

    def has_room(self, lines: int, size: int, *, again: bool = False) -> bool:
        """Whether a batch may have one more in flight.

        Args:
            lines: that it has.
            size: of the next, bytes.
            again: there was no room a moment ago. Then some more has to be free: lines that begin
                together go to Redis together.
        """
        most = int(REFILL * self.share) if again else self.share
        return not lines or (lines < most and self._bytes + size <= MOST_BYTES)

    def begin(self, size: int) -> None:
        """A line is in flight; `size` in bytes."""
        self._bytes += size

    def end(self, size: int) -> None:
        """It is no longer."""
        self._bytes -= size
        self._ended += 1
        passed_s = self._now() - self._since
        if passed_s >= _MEASURED_S:
            self._rate += _WEIGHT * (self._ended / passed_s - self._rate)
            self._ended = 0
            self._since += passed_s
