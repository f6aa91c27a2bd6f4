"""A long line: how fast rows enter and leave a bulk lane, and how much memory one that waits takes.

Two servers that keep nothing on disk, one with no row waiting and one with more and more. At each
length the same rows enter and leave both in turn, so that a slow minute is nobody's fault. A row is
a prediction of its own, the dearest way to queue it. Rows enter and leave by the lanes' own code,
many a call, as gateways and workers have it.
"""

import asyncio
import tempfile
import time
from collections.abc import AsyncGenerator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

import msgspec

from forebay.contract.messages import Reply
from forebay.contract.model import BulkLimits
from forebay.contract.prediction import Lane, PredictionId, Status
from forebay.contract.rows import ValueRow
from forebay.lanes.consumer import Consumer, ConsumerLimits, Settlement
from forebay.lanes.lane import Submission
from forebay.lanes.parts import parts_of
from forebay.lanes.producer import Producer
from forebay.runtime import catalog
from forebay.runtime.redis import Commands
from forebay.runtime.settings import Settings
from tests.bench import redis_server
from tests.bench.stats import Figures, spread

MODEL = "echo"
LENGTHS = (0, 10_000, 100_000, 1_000_000)
ROWS = 20_000
"""That enter and leave while they are timed."""

READ_ROWS = 256
AT_ONCE = 4_096
DAY_MS = 86_400_000
RETAIN_MS = 1_000
GONE_S = 3.0
"""Until the records of what has left are gone."""

READY_S = 30.0
POLL_S = 0.05


class Side:
    """Both ends of one server's bulk lane."""

    def __init__(self, producer: Producer, consumer: Consumer) -> None:
        self._producer = producer
        self._consumer = consumer
        self.rows = 0

    async def enter(self, rows: int) -> float:
        """Enqueue so many rows; gives how many a second."""
        lanes, room = self._producer, asyncio.Semaphore(AT_ONCE)
        errors: list[Exception] = []

        def done(error: Exception | None, *, known: bool = False) -> None:
            room.release()
            if error is not None:
                errors.append(error)

        began = time.perf_counter()
        for number in range(rows):
            await room.acquire()
            now_ms = lanes.clock.now_ms()
            parts = parts_of(
                (ValueRow(b"%d" % number),), now_ms=now_ms, deadline_ms=DAY_MS, truncate=False
            )
            lanes.writer.submit(
                Submission(PredictionId.new(MODEL), Lane.BULK, parts, now_ms, DAY_MS, RETAIN_MS),
                done,
            )
        for _ in range(AT_ONCE):
            await room.acquire()
        took = time.perf_counter() - began
        if errors:
            raise errors[0]
        self.rows += rows
        return rows / took

    async def leave(self, rows: int) -> float:
        """Lease so many rows and settle them; gives how many a second."""
        left, began = rows, time.perf_counter()
        while left > 0:
            taken = await self._consumer.read(Lane.BULK, rows=min(READ_ROWS, left))
            now_ms = self._producer.clock.now_ms()
            await self._consumer.settle(
                [
                    Settlement(one, Reply(one.prediction, Status.SUCCEEDED, now_ms, one.part))
                    for one in taken
                ]
            )
            if not taken:
                raise RuntimeError(f"{left:,} rows that were enqueued are not on the lane.")
            left -= len(taken)
        self.rows -= rows
        return rows / (time.perf_counter() - began)

    async def used_bytes(self) -> int:
        """Memory that the server uses."""
        redis: Commands = self._producer.redis
        told: bytes = await redis.execute_command("INFO", "memory")
        fields = dict(line.split(b":", 1) for line in told.splitlines() if b":" in line)
        return int(fields[b"used_memory"])


@asynccontextmanager
async def side(url: str, home: Path, models_file: Path) -> AsyncGenerator[Side]:
    """A producer and a consumer of the server's lane."""
    settings = Settings(redis_url=url, home=str(home))
    spec = catalog.read(models_file).find(MODEL)
    spec = msgspec.structs.replace(spec, bulk=BulkLimits(max_rows=2 * LENGTHS[-1]))
    producer = Producer(settings, {MODEL: spec})
    async with producer.running(), asyncio.timeout(None) as limit:
        limit.reschedule(asyncio.get_running_loop().time() + READY_S)
        while not producer.link.up:  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(POLL_S)
        limit.reschedule(None)
        consumer = Consumer(
            producer.redis,
            producer.keys.of_prediction(PredictionId.new(MODEL)),
            reads=dict.fromkeys(Lane, producer.redis),
            settles=producer.redis,
            worker="bench",
            limits=ConsumerLimits(
                lease_ms=DAY_MS,
                presence_ms=DAY_MS,
                dead_letter_max=settings.dead_letter_max,
                dead_letter_max_bytes=settings.dead_letter_max_bytes,
            ),
            clock=producer.clock,
        )
        await consumer.join()
        yield Side(producer, consumer)


async def compare(empty: Side, filled: Side, rounds: int, *, lengths: tuple[int, ...]) -> Figures:
    """Rates at each length in turn, and what of the empty server's rate they are, in per cent."""
    found: Figures = {}
    for each in (empty, filled):
        await each.enter(ROWS)
        await each.leave(ROWS)
    await asyncio.sleep(GONE_S)
    before = await filled.used_bytes()
    for length in lengths:
        if length > filled.rows:
            await filled.enter(length - filled.rows)
        await asyncio.sleep(GONE_S)
        if length:
            used = await filled.used_bytes() - before
            found |= _figure("queued-bytes", [used / length])
        rates: dict[str, list[float]] = {"in": [], "out": [], "in-share": [], "out-share": []}
        for number in range(rounds):
            # Who goes first takes turns, too: the second finds caches warm, or cold.
            sides = (empty, filled) if number % 2 == 0 else (filled, empty)
            entered = {side: await side.enter(ROWS) for side in sides}
            left = {side: await side.leave(ROWS) for side in sides}
            rates["in"].append(entered[filled])
            rates["out"].append(left[filled])
            rates["in-share"].append(100 * entered[filled] / entered[empty])
            rates["out-share"].append(100 * left[filled] / left[empty])
        for name, values in rates.items():
            found |= _figure(f"queued-{name}-at-{length}", values)
        for way in ("in", "out"):
            found |= _figure(f"queued-{way}", rates[f"{way}-share"])
    return found


def _figure(name: str, values: list[float]) -> Figures:
    value = spread(values)
    assert value is not None
    return {name: value}


async def measure(root: Path, rounds: int, *, lengths: tuple[int, ...] = LENGTHS) -> Figures:
    """Measure on two servers of their own; what is told of the longest line is told last.

    Args:
        root: the repository, with `models.toml`.
        rounds: how often at each length.
        lengths: rows waiting, rising.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="forebay-queued-")))
        urls = [
            stack.enter_context(
                redis_server.serve(folder=folder / name, log=folder / f"{name}.log")
            )
            for name in ("empty", "filled")
        ]
        models = root / "models.toml"
        async with side(urls[0], folder, models) as empty, side(urls[1], folder, models) as filled:
            return await compare(empty, filled, rounds, lengths=lengths)


def curve(figures: Figures) -> list[tuple[int, float, float]]:
    """Rows waiting, and rows a second in and out, as far as they were measured."""
    found = []
    for length in LENGTHS:
        entered = figures.get(f"queued-in-at-{length}")
        left = figures.get(f"queued-out-at-{length}")
        if entered is not None and left is not None:
            found.append((length, entered.median, left.median))
    return found
