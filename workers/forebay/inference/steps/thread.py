"""The thread on which the code of pipelines runs: an event loop of its own.

Whatever that code does, the worker's own loop goes on: it beats, renews leases, and hears of what
has been canceled. And because one loop runs one thing at a time, it can be told exactly whose code
a crash is to be blamed on: nobody's who only waits for a step.
"""

import asyncio
import concurrent.futures
import contextlib
import threading
import time
from collections.abc import Callable, Coroutine, Generator
from contextvars import ContextVar
from typing import Any, Final, TypeVar

import uvloop

from forebay.inference.gate import Gate
from forebay.lanes.consumer import Delivery
from forebay.lanes.running import Running

T = TypeVar("T")

SLOT: Final = "pipeline"
"""What runs on the loop, for `Running`."""

_whose: ContextVar[Delivery | None] = ContextVar("whose", default=None)
"""What the code is run for, in the tasks that it starts as well."""


class ExitError(Exception):
    """The code would have ended the program."""


class CodeThread:
    """Runs coroutines of a user's on a thread of their own.

    Args:
        running: is told whose runs, before it does.
        gate: of this process, whose event loop is the running one.
    """

    def __init__(self, running: Running, gate: Gate) -> None:
        self._running = running
        self._gate = gate
        self._home = asyncio.get_running_loop()
        self._waits = False
        self._loop = uvloop.new_event_loop()
        self._loop.set_task_factory(self._make_task)
        self._asked: float | None = None
        # Code that never returns must not keep the process from ending.
        self._thread = threading.Thread(target=self._run, name=SLOT, daemon=True)
        self._thread.start()

    def start(
        self, code: Callable[[], Coroutine[Any, Any, T]], delivery: Delivery
    ) -> "concurrent.futures.Future[T]":
        """Run a coroutine; to cancel the future cancels it.

        Args:
            code: makes it, on the thread.
            delivery: what it is run for.
        """
        return asyncio.run_coroutine_threadsafe(self._owned(code, delivery), self._loop)

    @property
    def stuck_s(self) -> float:
        """For how long the loop has not come round since it was first asked to, seconds.

        Ask again and again: only a loop that was asked can be late.
        """
        now, asked = time.monotonic(), self._asked
        if asked is None:
            self._asked = asked = now
            self._loop.call_soon_threadsafe(self._answer)
        elif self._waits:
            self._asked = asked = now
        return now - asked

    def close(self) -> None:
        """Have the thread end once the loop comes round; nothing must be running any more.

        It isn't waited for: it may have to wait for the gate, which is this thread's to open.
        """
        self._loop.call_soon_threadsafe(self._loop.stop)

    @contextlib.contextmanager
    def stretch(self, delivery: Delivery) -> Generator[None]:
        """On the thread: run a stretch of somebody's code; alone, if that has cost a worker."""
        self._waits = True
        with self._gate.stretch(self._home, alone=bool(delivery.strikes)):
            self._waits = False
            self._running.begin(SLOT, (delivery,))
            try:
                yield
            finally:
                self._running.end(SLOT, tell=True)

    def _run(self) -> None:
        self._loop.run_forever()
        self._loop.close()

    def _answer(self) -> None:
        self._asked = None

    async def _owned(self, code: Callable[[], Coroutine[Any, Any, T]], delivery: Delivery) -> T:
        _whose.set(delivery)
        return await asyncio.create_task(code())

    def _make_task(
        self, loop: asyncio.AbstractEventLoop, coro: Any, **options: Any
    ) -> "asyncio.Task[Any]":
        delivery = _whose.get()
        if delivery is not None:
            coro = _Told(coro, self, delivery)
        return asyncio.Task(coro, loop=loop, **options)


class _Told(Coroutine[Any, Any, T]):
    """A coroutine that says before each stretch of its code whose it is, and afterwards nobody's.

    Args:
        code: the coroutine.
        thread: on which it runs.
        delivery: what it is run for.
    """

    def __init__(
        self, code: Coroutine[Any, Any, T], thread: CodeThread, delivery: Delivery
    ) -> None:
        self._code = code
        self._thread = thread
        self._delivery = delivery

    def send(self, value: Any) -> Any:
        """Run until the next wait."""
        return self._stretch(lambda: self._code.send(value))

    def throw(self, *error: Any) -> Any:
        """Likewise, from an error."""
        return self._stretch(lambda: self._code.throw(*error))

    def close(self) -> None:
        """End it."""
        self._code.close()

    def __await__(self) -> Generator[Any, Any, T]:
        """Wait for it as for any."""
        return self._code.__await__()

    def _stretch(self, run: Callable[[], Any]) -> Any:
        with self._thread.stretch(self._delivery):
            try:
                return run()
            except SystemExit as error:
                # asyncio would end the loop for it, and with it everybody else's code.
                raise ExitError(
                    f"it ended the program ({error}); raise an error instead"
                ) from error
