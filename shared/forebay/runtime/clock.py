"""The one clock: the Redis server's, followed from here.

Deadlines are compared on several machines whose clocks differ; all of them use the server's.
"""

import time


class Clock:
    """Tells the server's Unix time from the local monotonic clock and a measured offset.

    Until the first `follow` it goes by the local clock.
    """

    def __init__(self) -> None:
        self._offset_s = time.time() - time.monotonic()

    def now_ms(self) -> int:
        """Unix time in milliseconds."""
        return int((time.monotonic() + self._offset_s) * 1000)

    def now(self) -> float:
        """Unix time in seconds."""
        return time.monotonic() + self._offset_s

    def follow(self, server_us: int, sent: float, received: float) -> None:
        """Set the offset from one answer of the server.

        Args:
            server_us: the server's Unix time, microseconds.
            sent: `time.monotonic()` before the question.
            received: `time.monotonic()` after the answer.
        """
        self._offset_s = server_us / 1e6 - (sent + received) / 2
