"""The thread on which an engine runs: it takes in what was submitted, steps, tells what came."""

import asyncio
import contextlib
import functools
import queue
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final

from forebay.inference.generation.protocol import Delta, Engine, Wanted

NAME: Final = "generate"
"""Of the thread, and of what runs there, as `Running` is told it."""

Command = Callable[[Engine], None]


class EngineThread:
    """Steps an engine for as long as it is busy. All methods are called on the event loop.

    Args:
        engine: of no use to others from now on.
        heard: called on the event loop with what steps gave, in order.
        broken: called there if the engine raised: it is of no use any more.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        heard: Callable[[Sequence[Delta]], None],
        broken: Callable[[Exception], None],
    ) -> None:
        self._engine = engine
        self._heard = heard
        self._broken = broken
        self._commands: queue.SimpleQueue[Command | None] = queue.SimpleQueue()
        self._began: float | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to serve the running event loop."""
        loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._run, args=(loop,), name=NAME, daemon=True)
        self._thread.start()

    def submit(self, wanted: Wanted) -> None:
        """Have a text generated."""
        self._commands.put(lambda engine: engine.submit(wanted))

    def cancel(self, id_: int) -> None:
        """Drop one before the next step."""
        self._commands.put(lambda engine: engine.cancel(id_))

    def longer_than(self, seconds: float) -> bool:
        """Whether a step has taken longer than this by now."""
        began = self._began
        return began is not None and time.monotonic() - began > seconds

    def stop(self) -> None:
        """End after the step that runs; doesn't wait for it."""
        self._commands.put(None)

    def close(self) -> None:
        """End, and wait for it."""
        self.stop()
        if self._thread is not None:
            self._thread.join()

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        def tell(what: Callable[[], None]) -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(what)

        try:
            while self._take_in():
                self._began = time.monotonic()
                deltas = self._engine.step()
                self._began = None
                if deltas:
                    tell(functools.partial(self._heard, deltas))
        except Exception as error:
            tell(functools.partial(self._broken, error))

    def _take_in(self) -> bool:
        """Carry out what was asked, waiting for it while there is nothing to do; False to end."""
        while True:
            try:
                command = self._commands.get(block=not self._engine.busy)
            except queue.Empty:
                return True
            if command is None:
                return False
            command(self._engine)
