"""The one clock: the Redis server's, followed from here.

Deadlines are compared on several machines whose clocks differ; all of them use the server's.
"""

import math
import time

DRIFT = 1e-4
"""Seconds that two clocks may come apart in a second."""

LITTLE_S = 0.01
"""Doubt that is not worth keeping an older answer for."""


class Clock:
    """Tells the server's Unix time from the local monotonic clock and a measured offset.

    Until the first `follow` it goes by the local clock.
    """

    def __init__(self) -> None:
        self._offset_s = time.time() - time.monotonic()
        self._doubt_s = math.inf
        self._followed = 0.0

    def now_ms(self) -> int:
        """Unix time in milliseconds."""
        return int((time.monotonic() + self._offset_s) * 1000)

    def now(self) -> float:
        """Unix time in seconds."""
        return time.monotonic() + self._offset_s

    def follow(self, server_us: int, sent: float, received: float) -> None:
        """Set the offset from one answer of the server.

        An answer that took long tells little: it is passed over as long as an earlier one, and all
        that clocks may have drifted since, is less in doubt (as in NTP's clock filter, RFC 5905).

        Args:
            server_us: the server's Unix time, microseconds.
            sent: `time.monotonic()` before the question.
            received: `time.monotonic()` after the answer.
        """
        doubt_s = (received - sent) / 2
        if doubt_s > max(self._doubt_s, LITTLE_S) + DRIFT * (received - self._followed):
            return
        self._doubt_s, self._followed = doubt_s, received
        self._offset_s = server_us / 1e6 - (sent + received) / 2
