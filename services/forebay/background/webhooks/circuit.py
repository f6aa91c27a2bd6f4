"""When a host that does not answer is called again: a circuit breaker, pure.

closed ──MOST_FAILURES in a row──▶ open, for a pause ──▶ one call is let through ─┬─▶ closed
                                    ▲                                             │
                                    └────────── for twice as long, at most ◀──────┘
"""

from typing import Final

MOST_FAILURES: Final = 10
"""In a row: a receiver that fails half of its calls comes to that once in a thousand."""

LONGEST_PAUSE_S: Final = 300.0


class Circuit:
    """Of one host.

    Args:
        first_pause_s: the pause after it opens.
    """

    def __init__(self, first_pause_s: float) -> None:
        self._first_s = min(first_pause_s, LONGEST_PAUSE_S)
        self._pause_s = self._first_s
        self._failures = 0
        self._until = 0.0
        self._probing = False

    @property
    def unused(self) -> bool:
        """Whether it tells nothing that a new one would not."""
        return self._failures == 0

    def closed_in_s(self, now: float) -> float:
        """How long no call is to be begun, seconds; 0 if one may be, now.

        Args:
            now: by any monotonic clock, seconds.
        """
        if self._failures < MOST_FAILURES:
            return 0.0
        if self._probing:
            return self._pause_s
        return max(self._until - now, 0.0)

    def begin(self) -> None:
        """A call is begun."""
        self._probing = self._failures >= MOST_FAILURES

    def succeeded(self) -> None:
        """A call was answered."""
        self._failures, self._probing, self._pause_s = 0, False, self._first_s

    def failed(self, now: float) -> None:
        """A call was not."""
        self._failures += 1
        if self._failures < MOST_FAILURES:
            return
        if self._probing:
            self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)
        if self._probing or self._failures == MOST_FAILURES:
            self._until = now + self._pause_s
        self._probing = False

    def given_up(self) -> None:
        """A call was begun and came to nothing that tells of the host."""
        self._probing = False
