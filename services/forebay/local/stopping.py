"""How what runs in the foreground is told to stop: once to drain, twice to hurry."""

import asyncio
import signal
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class StopError(Exception):
    """We were asked to stop."""


class Stopping:
    """Listens for SIGINT, SIGTERM and SIGHUP from its making on; on an event loop.

    Attributes:
        stop: set by the first.
        hurry: set by the next.
    """

    def __init__(self) -> None:
        self.stop, self.hurry = asyncio.Event(), asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self._on_signal)

    async def unless(self, work: Coroutine[Any, Any, T]) -> T:
        """Do the work, unless or until we are asked to stop.

        Raises:
            StopError: we were; the work has been cancelled.
        """
        task = asyncio.ensure_future(work)
        stopped = asyncio.ensure_future(self.stop.wait())
        try:
            await asyncio.wait({task, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if stopped.done():
                raise StopError
            return task.result()
        finally:
            for future in (task, stopped):
                future.cancel()
            await asyncio.gather(task, stopped, return_exceptions=True)

    def _on_signal(self) -> None:
        (self.hurry if self.stop.is_set() else self.stop).set()
