"""The threads that run micro-batches: the most urgent first, and bulk with a share of its own.

A batch stands ready behind those that run, so that no thread waits for the event loop. It may be
of bulk; one of realtime that comes meanwhile goes before it.

Where a forward pass is one thread on a CPU, bulk has threads of its own, which stand back further:
then the system interrupts a batch of bulk that runs for one of realtime that comes. And rows that
went ahead of a full lane have some that don't stand back, for which it interrupts both.
"""

import asyncio
import contextlib
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import Final, Generic, TypeVar

T = TypeVar("T")

BULK_SHARE: Final = 0.1
"""However much waits in realtime, bulk gets so much time for each second that realtime gets."""

NICE: Final = 5
"""How far the threads stand back behind the event loop, and processes beside this one."""

AHEAD_NICE: Final = 0
"""And those of rows that went ahead. They don't wait for a batch of somebody who asks for much, and
can't keep everything from him: threads of `NICE` get a quarter of a core beside them."""

BULK_NICE: Final = 15
"""And those of bulk alone: by Linux's table of weights they get a tenth of a core beside threads of
`NICE` that want all of it, which is `BULK_SHARE`."""

INTERRUPTS: Final = sys.platform == "linux"
"""Whether threads of one process may differ in how far they stand back."""

MOST_OWED: Final = 2
"""Batches that bulk is owed at most."""


class _Job(Generic[T]):
    """What is to run, and who waits for it."""

    __slots__ = ("done", "loop", "run")

    def __init__(self, run: Callable[[], T]) -> None:
        self.run = run
        self.loop = asyncio.get_running_loop()
        self.done: asyncio.Future[T] = self.loop.create_future()


class Devices(Generic[T]):
    """Runs jobs on threads.

    Args:
        threads: how many.
        name: what they are called, with a number behind it.
        nice: how far they stand back behind others.
    """

    def __init__(self, threads: int, *, name: str, nice: int = NICE) -> None:
        self._nice = nice
        self._urgent: deque[_Job[T]] = deque()
        self._bulk: deque[_Job[T]] = deque()
        # Of each job that waits one, so that a thread which got one finds a job.
        self._tickets: SimpleQueue[bool] = SimpleQueue()
        self._owed_s = 0.0
        self._bulk_s = 0.0
        self._lock = threading.Lock()
        self._threads = [
            threading.Thread(target=self._work, name=f"{name}_{index}", daemon=True)
            for index in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, run: Callable[[], T], *, urgent: bool) -> "asyncio.Future[T]":
        """Have something run; on an event loop."""
        job = _Job(run)
        (self._urgent if urgent else self._bulk).append(job)
        self._tickets.put(True)
        return job.done

    def close(self) -> None:
        """Run what waits, then end the threads."""
        for _ in self._threads:
            self._tickets.put(False)
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        self._stand_back()
        while self._tickets.get():
            job, is_urgent = self._next()
            began = time.monotonic()
            result: T | BaseException
            try:
                result = job.run()
            except BaseException as error:  # it is for who waits
                result = error
            took_s = time.monotonic() - began
            with self._lock:
                if not is_urgent:
                    self._bulk_s = took_s
                    self._owed_s -= took_s
                else:
                    self._bulk_s = self._bulk_s or took_s  # a guess until one has run
                    if self._bulk:
                        self._owed_s += BULK_SHARE * took_s
                self._owed_s = min(max(self._owed_s, 0.0), MOST_OWED * self._bulk_s)
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                job.loop.call_soon_threadsafe(_tell, job.done, result)
            del job, result

    def _stand_back(self) -> None:
        """What brings work and takes it away is quick, and goes before what computes."""
        with contextlib.suppress(AttributeError, OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), self._nice)

    def _next(self) -> tuple[_Job[T], bool]:
        with self._lock:
            if self._urgent and not (self._bulk and self._owed_s > self._bulk_s):
                return self._urgent.popleft(), True
            return self._bulk.popleft(), False


def _tell(done: "asyncio.Future[T]", result: T | BaseException) -> None:
    if done.done():
        return  # nobody waits any more
    if isinstance(result, BaseException):
        done.set_exception(result)
    else:
        done.set_result(result)
