"""Which batches run on the event loop: a row that has come by itself, and takes next to no time.

A thread for it has to be woken, and the loop again once it is done: 0.1 to 0.3 ms. But while the
loop runs it nothing else is read: where others come meanwhile, or along with it, threads run rows
for a while. Decision 0078. Pure.
"""

from typing import Final

LONGEST_S: Final = 0.005
"""A batch that is expected to take longer never runs on the event loop."""

AFTER: Final = 64
"""Messages whose rows run on threads after one that had to wait, or came along with others."""


class Lone:
    """Whether the next batch may run on the event loop.

    Args:
        longest_s: what it may be expected to take at most.
    """

    def __init__(self, longest_s: float = LONGEST_S) -> None:
        self._longest_s = longest_s
        self._ended_ms = float("-inf")
        self._left = 0

    def came(self, enqueued_at_ms: int, *, by_themselves: bool) -> None:
        """Rows of one message have come.

        Args:
            enqueued_at_ms: when they were enqueued, whole ms of the server's clock.
            by_themselves: whether no others came along.
        """
        waited = enqueued_at_ms + 1 <= self._ended_ms  # in that ms, so surely before that
        if waited or not by_themselves:
            self._left = AFTER
            self._ended_ms = float("-inf")
        elif self._left:
            self._left -= 1

    def may(self, expected_s: float) -> bool:
        """Whether a batch may that has come by itself.

        Args:
            expected_s: what it takes, as far as is known; 0 if nothing is.
        """
        return not self._left and 0.0 < expected_s <= self._longest_s

    def ran(self, ended_ms: float) -> None:
        """One has.

        Args:
            ended_ms: when it was over, by the server's clock.
        """
        self._ended_ms = ended_ms
