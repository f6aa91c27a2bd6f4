"""Says once what goes wrong again and again, and once that it is over."""

import logging
import time

REMIND_S = 60.0
"""How often trouble that goes on is mentioned again."""


class Trouble:
    """One thing that is retried until it works.

    Args:
        log: where to say so.
        doing: what fails, as in "reading the bulk lane".
    """

    def __init__(self, log: logging.Logger, doing: str) -> None:
        self._log = log
        self._doing = doing
        self._kind: type[Exception] | None = None
        self._said_at = 0.0
        self._times = 0

    def report(self, error: Exception) -> None:
        """It has failed, and will be tried again."""
        self._times += 1
        now = time.monotonic()
        if self._kind is not type(error) or now - self._said_at > REMIND_S:
            self._kind, self._said_at = type(error), now
            self._log.warning("%s fails, and is tried again: %s", self._doing, error)

    def over(self) -> None:
        """It has worked."""
        if self._kind is not None:
            self._log.info("%s works again, after %d tries", self._doing, self._times)
            self._kind, self._times = None, 0
