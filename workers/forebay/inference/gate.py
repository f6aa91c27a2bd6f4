"""Lets batches of all replicas of a process run side by side, or one batch alone.

A row that has cost a worker runs alone. If it ends the process again, it must be clear that it was
no other: so nothing of another model runs beside it, and no model is being loaded.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator

from forebay.inference.moves import Moves


class Gate:
    """One for each process; all of it on the event loop."""

    def __init__(self) -> None:
        self._batches = 0
        self._loads = 0
        self._shut = False
        self._turn = asyncio.Lock()
        self._moves = Moves()

    async def enter(self) -> None:
        """Begin a batch among others; `leave` when it is done."""
        if self._shut:
            await self._moves.until(lambda: not self._shut)
        self._batches += 1

    def leave(self) -> None:
        """A batch that was let in is done."""
        self._batches -= 1
        if self._shut:
            self._moves.tell()

    @contextlib.asynccontextmanager
    async def alone(self) -> AsyncGenerator[None]:
        """Run the block while no batch runs and no model is being loaded.

        Batches go on while a load is waited for: that may take long.
        """
        async with self._turn:
            await self._moves.until(lambda: not self._loads)
            self._shut = True
            try:
                await self._moves.until(lambda: not self._batches)
                yield
            finally:
                self._shut = False
                self._moves.tell()

    @contextlib.asynccontextmanager
    async def loading(self) -> AsyncGenerator[None]:
        """Load a model in the block, beside batches but not beside one that runs alone."""
        await self._moves.until(lambda: not self._shut)
        self._loads += 1
        try:
            yield
        finally:
            self._loads -= 1
            self._moves.tell()
