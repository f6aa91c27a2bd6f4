"""Wakes those who wait for something to change in this process. All of it on the event loop."""

import asyncio
from collections.abc import Callable


class Moves:
    """Something that changes now and then."""

    def __init__(self) -> None:
        self._next = asyncio.Event()

    def tell(self) -> None:
        """Something has changed."""
        self._next.set()
        self._next = asyncio.Event()

    async def wait(self) -> None:
        """Wait for the next change."""
        await self._next.wait()

    async def until(self, met: Callable[[], bool]) -> None:
        """Wait until a condition is met, which is asked now and on each change."""
        while not met():
            await self.wait()
