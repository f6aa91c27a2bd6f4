"""Lets batches of all replicas of a process run side by side, or one batch alone.

A row that has cost a worker runs alone. If it ends the process again, it must be clear that it was
no other: so nothing of another model runs beside it, and no model is being loaded.

The code of pipelines runs on threads of its own, in stretches between two waits. Each stretch
passes the gate by itself, and what waits for a step is outside: else a step's row that is to run
alone, and the pipeline that waits for it in the same process, would wait for one another.
"""

import asyncio
import concurrent.futures
import contextlib
import threading
from collections.abc import AsyncGenerator, Generator

from forebay.inference.moves import Moves


class Gate:
    """One for each process; but for `stretch`, all of it on the event loop."""

    def __init__(self) -> None:
        self._batches = 0
        self._loads = 0
        self._shut = False
        self._turn = asyncio.Lock()
        self._moves = Moves()
        self._threads = threading.Condition()
        self._stretches = 0
        self._barred = False

    @property
    def is_open(self) -> bool:
        """Whether a batch may begin now."""
        return not self._shut

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
                with self._threads:
                    self._barred = True
                await self._moves.until(lambda: not self._stretches)
                yield
            finally:
                self._shut = False
                self._moves.tell()
                with self._threads:
                    self._barred = False
                    self._threads.notify_all()

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

    @contextlib.contextmanager
    def stretch(self, home: asyncio.AbstractEventLoop, *, alone: bool) -> Generator[None]:
        """On a thread of its own: run the block beside batches, or alone. Blocks until it may.

        Args:
            home: the event loop of the gate, which must not be waiting for this thread.
            alone: as for `alone`.
        """
        if alone:
            over = asyncio.Event()
            begun: concurrent.futures.Future[None] = concurrent.futures.Future()
            asyncio.run_coroutine_threadsafe(self._hold(begun, over), home)
            begun.result()
            try:
                yield
            finally:
                home.call_soon_threadsafe(over.set)
            return
        with self._threads:
            self._threads.wait_for(lambda: not self._barred)
            self._stretches += 1
        try:
            yield
        finally:
            with self._threads:
                self._stretches -= 1
                if self._barred:
                    home.call_soon_threadsafe(self._moves.tell)

    async def _hold(self, begun: "concurrent.futures.Future[None]", over: asyncio.Event) -> None:
        async with self.alone():
            begun.set_result(None)
            await over.wait()
