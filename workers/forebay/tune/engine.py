"""A worker's batching without its lanes: what it takes in, how it forms batches, how it runs them.

The same batcher, limits and numbers as in `inference.pipeline`: rows are held up to
`prefetch_rows`, and one batch stands ready behind those that run. What is left out is Redis.
"""

import asyncio
import random
import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import msgspec

from forebay.contract.errors import BackendFailed, ForebayError, InvalidInput
from forebay.contract.model import BatchLimits
from forebay.contract.rows import Row, row_bytes
from forebay.inference.backends.base import Backend, PreparedRow
from forebay.inference.batcher import Batcher, Pending
from forebay.inference.cost import Cost
from forebay.inference.intake import INLINE_BYTES
from forebay.inference.urgency import Urgency
from forebay.tune.orders import Arrive, Saturate

PASSES_A_STREAM = 4
"""At least so many passes are waited for, however long they take."""

GIVE_UP = 2.0
"""Rows still under way after so many times the stretch are given up: it was far too much."""

_NEVER_MS = 2**62


class Ended(msgspec.Struct, frozen=True):
    """One pass that has ended.

    Attributes:
        at: `time.monotonic()` of its end.
        arrivals: the same of its rows' arrivals.
    """

    at: float
    arrivals: list[float]


class Supply(Protocol):
    """Where rows come from."""

    def take(self) -> tuple[float, Row] | None:
        """The next row and when it arrived; None if none is there now."""
        ...


class Endless:
    """As many rows as are asked for."""

    def __init__(self, rows: Sequence[Row], *, seed: int) -> None:
        self._rows = shuffled(rows, seed)

    def take(self) -> tuple[float, Row]:
        """A row that has just arrived."""
        return time.monotonic(), next(self._rows)


class Arrivals:
    """A queue of rows that have come and that nobody has taken yet."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[float, Row]] = deque()

    def add(self, at: float, row: Row) -> None:
        """A row has come."""
        self._waiting.append((at, row))

    def take(self) -> tuple[float, Row] | None:
        """The one that has waited for longest."""
        return self._waiting.popleft() if self._waiting else None


class Engine:
    """Runs rows through a backend.

    Args:
        backend: warm.
        limits: of a batch, and of what is held beyond it.
    """

    def __init__(self, backend: Backend, limits: BatchLimits) -> None:
        self._backend = backend
        self._limits = limits
        self._cost = Cost()
        self._device = ThreadPoolExecutor(backend.streams, thread_name_prefix="device")
        self._prepare = ThreadPoolExecutor(1, thread_name_prefix="prepare")

    async def saturate(self, rows: Sequence[Row], order: Saturate) -> list[Ended]:
        """Keep it busy; the passes that ended after the lead, in the order of their ends."""
        enough = asyncio.Event()
        begin = time.monotonic() + order.lead_s
        passes: list[Ended] = []

        def ended(one: Ended) -> None:
            if one.at >= begin:
                passes.append(one)
            least = PASSES_A_STREAM * self._backend.streams
            if one.at >= begin + order.seconds and len(passes) > least:
                enough.set()

        async with self._running(Endless(rows, seed=order.seed), ended) as work:
            work.look()
            await work.until(asyncio.ensure_future(enough.wait()))
        return sorted(passes, key=lambda one: one.at)

    async def arrive(self, rows: Sequence[Row], order: Arrive) -> tuple[list[Ended], int]:
        """Run rows as they come; the passes, and how many rows came."""
        supply, passes, all_done = Arrivals(), list[Ended](), asyncio.Event()
        times = poisson(order.rate, order.seconds, seed=order.seed)
        done = 0

        def ended(one: Ended) -> None:
            nonlocal done
            passes.append(one)
            done += len(one.arrivals)
            if done == len(times):
                all_done.set()

        loop = asyncio.get_running_loop()
        async with self._running(supply, ended) as work:

            def come(at: float, row: Row) -> None:
                supply.add(at, row)
                work.look()

            def send() -> None:
                # A thread that sleeps keeps time better than the loop, whose clock ticks in ms.
                began = time.monotonic()
                for after, row in zip(times, shuffled(rows, order.seed), strict=False):
                    time.sleep(max(0.0, began + after - time.monotonic()))
                    loop.call_soon_threadsafe(come, began + after, row)

            with ThreadPoolExecutor(1, thread_name_prefix="arrivals") as clients:
                await work.until(loop.run_in_executor(clients, send))
                await work.until(
                    asyncio.ensure_future(all_done.wait()), timeout_s=GIVE_UP * order.seconds
                )
        return passes, len(times)

    def close(self) -> None:
        """Wait for what runs, then end the threads and free the model."""
        self._device.shutdown(wait=True)
        self._prepare.shutdown(wait=True)
        self._backend.close()

    def _running(self, supply: Supply, ended: Callable[[Ended], None]) -> "_Work":
        return _Work(
            self._backend, self._limits, self._cost, supply, self._device, self._prepare, ended
        )


class _Work:
    """Takes in, batches and runs until its block ends; then waits for what runs."""

    def __init__(
        self,
        backend: Backend,
        limits: BatchLimits,
        cost: Cost,
        supply: Supply,
        device: ThreadPoolExecutor,
        prepare: ThreadPoolExecutor,
        ended: Callable[[Ended], None],
    ) -> None:
        self._backend = backend
        self._limits = limits
        self._supply = supply
        self._device = device
        self._prepare = prepare
        self._ended = ended
        self._batcher: Batcher[tuple[float, PreparedRow]] = Batcher(limits, cost)
        self._cost = cost
        self._room = asyncio.Event()
        self._held = asyncio.Event()
        self._places = asyncio.Semaphore(backend.streams + 1)
        self._failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._stages: list[asyncio.Task[None]] = []
        self._passes: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> "_Work":
        stages = (self._take_in(), self._run())
        self._stages = [asyncio.create_task(self._told(stage)) for stage in stages]
        return self

    async def __aexit__(self, *_: object) -> None:
        for stage in self._stages:
            stage.cancel()
        await asyncio.gather(*self._stages, return_exceptions=True)
        # What runs is not stopped by anything, and would be in the way of what comes next.
        await asyncio.gather(*self._passes)
        self._failure.cancel()

    def look(self) -> None:
        """There may be rows, or room for them."""
        self._room.set()

    async def until(self, wanted: "asyncio.Future[Any]", *, timeout_s: float | None = None) -> None:
        """Wait for something, or for so long.

        Raises:
            ForebayError: the model failed meanwhile.
        """
        try:
            both: set[asyncio.Future[Any]] = {wanted, self._failure}
            await asyncio.wait(both, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            wanted.cancel()
        if self._failure.done():
            self._failure.result()

    async def _told(self, stage: Coroutine[Any, Any, None]) -> None:
        """Run it, and tell if it fails."""
        try:
            await stage
        except Exception as error:
            if not self._failure.done():
                self._failure.set_exception(error)

    async def _take_in(self) -> None:
        while True:
            while self._batcher.held(Urgency.REALTIME) < self._limits.prefetch_rows:
                taken = self._supply.take()
                if taken is None:
                    break
                at, row = taken
                prepared = await self._prepared(row)
                self._batcher.add(
                    Urgency.REALTIME,
                    (at, prepared),
                    length=prepared.length,
                    deadline_at_ms=_NEVER_MS,
                )
                self._held.set()
            self._room.clear()
            await self._room.wait()

    async def _prepared(self, row: Row) -> PreparedRow:
        if row_bytes(row) <= INLINE_BYTES:
            (prepared,) = self._backend.prepare([row], truncate=True)
        else:
            loop = asyncio.get_running_loop()
            (prepared,) = await loop.run_in_executor(
                self._prepare, lambda: self._backend.prepare([row], truncate=True)
            )
        if isinstance(prepared, InvalidInput):
            raise prepared
        return prepared

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._places.acquire()
            while not len(self._batcher):
                self._held.clear()
                await self._held.wait()
            rows = self._batcher.next(0).rows
            self._room.set()
            future = loop.run_in_executor(self._device, self._one_pass, rows)
            task = asyncio.create_task(self._told(self._collect(rows, future)))
            self._passes.add(task)
            task.add_done_callback(self._passes.discard)

    def _one_pass(self, rows: Sequence[Pending[tuple[float, PreparedRow]]]) -> tuple[float, float]:
        """When it began, and when it ended."""
        began = time.monotonic()
        try:
            self._backend.run([row.item[1] for row in rows])
        except ForebayError:
            raise
        except Exception as error:  # a user's class raises what it likes
            raise BackendFailed(
                f"The model failed on rows of the traffic: {type(error).__name__}: {error}"
            ) from error
        return began, time.monotonic()

    async def _collect(
        self,
        rows: Sequence[Pending[tuple[float, PreparedRow]]],
        future: "asyncio.Future[tuple[float, float]]",
    ) -> None:
        began, at = await future
        self._cost.saw(len(rows), rows[-1].length, at - began)
        self._places.release()
        self._ended(Ended(at, [row.item[0] for row in rows]))


def shuffled(rows: Sequence[Row], seed: int) -> Iterator[Row]:
    """The rows over and over again, in another order each time."""
    order = random.Random(seed)  # noqa: S311 - no secret
    while True:
        yield from order.sample(rows, len(rows))


def poisson(rate: float, seconds: float, *, seed: int) -> list[float]:
    """Times, in seconds from the beginning, of arrivals that know nothing of one another.

    Args:
        rate: arrivals a second, on average.
        seconds: until when; there is one arrival at least.
        seed: equal ones give equal times at equal rates, and in proportion at others.
    """
    gaps = random.Random(seed)  # noqa: S311 - no secret
    times = [gaps.expovariate(1.0) / rate]
    while (after := times[-1] + gaps.expovariate(1.0) / rate) < seconds:
        times.append(after)
    return times
