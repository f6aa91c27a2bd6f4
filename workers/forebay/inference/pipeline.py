"""Three stages that overlap: fetch and prepare, run, settle.

    lanes ──▶ fetch + prepare ──▶ batcher ──▶ device thread ──▶ settle ──▶ lanes
              (next rows)                     (this batch)      (last batch)

The fetch stage holds at most `prefetch_rows` beyond what runs: enough to sort by length, little
enough that another replica is not starved. Nothing waits for company: a free device takes what
is there.
"""

import asyncio
import logging
import time

from redis.exceptions import RedisError, ResponseError

from forebay.contract.errors import DeadlineExceeded, ErrorKind, ForebayError
from forebay.contract.model import BatchLimits
from forebay.contract.prediction import Status
from forebay.inference.assembly import Assembly, RowRef, computation_bytes, unreadable
from forebay.inference.backends.base import Backend, PreparedRow
from forebay.inference.batcher import Batcher, MicroBatch
from forebay.inference.executor import Executor, Run
from forebay.lanes.consumer import Consumer, Delivery, Settlement
from forebay.runtime.clock import Clock

log = logging.getLogger(__name__)

BLOCK_MS = 500
"""Longest blocking read: how late an idle worker notices that it should stop or reclaim."""

RETRY_S = 0.1
"""Pause after Redis failed a command."""

INLINE_BYTES = 2_048
"""Payload tokenized on the event loop at once; more goes to the prepare thread."""

SETTLE_MAX = 64
"""Deliveries in one settle call: longer calls would hold up everybody else's commands."""


class Pipeline:
    """Moves deliveries of one model from its lanes through the backend and back.

    Args:
        consumer: this worker's end of the lanes.
        backend: warm.
        limits: of a batch, and of what is held beyond it.
        clock: the server's.
        max_deliveries: a delivery with a higher attempt number becomes a dead letter.
        reclaim_s: how often lapsed leases are looked for.
    """

    def __init__(
        self,
        consumer: Consumer,
        backend: Backend,
        limits: BatchLimits,
        *,
        clock: Clock,
        max_deliveries: int,
        reclaim_s: float,
    ) -> None:
        self._consumer = consumer
        self._backend = backend
        self._limits = limits
        self._clock = clock
        self._max_deliveries = max_deliveries
        self._reclaim_s = reclaim_s
        self._next_reclaim = 0.0
        self._batcher: Batcher[RowRef] = Batcher(limits)
        self._executor = Executor(backend)
        self._held: dict[bytes, Assembly] = {}
        self._unsettled: list[Settlement] = []
        self._rows_per_entry = 1.0
        self._backlog = True
        self._draining = False
        self._work = asyncio.Event()
        self._room = asyncio.Event()
        self._outcome = asyncio.Event()
        self._idle = asyncio.Event()
        self._group = asyncio.TaskGroup()

    @property
    def held(self) -> list[Delivery]:
        """What this worker has leased and not settled."""
        return [assembly.delivery for assembly in self._held.values()]

    async def run(self) -> None:
        """Work until `drain`, then return once nothing is held.

        Raises:
            ExceptionGroup: the backend broke its protocol; the leases lapse and peers take over.
        """
        async with self._group as group:
            run = group.create_task(self._run_stage(), name="run")
            settle = group.create_task(self._settle_stage(), name="settle")
            await self._fetch_stage()
            while self._held:
                self._idle.clear()
                await self._idle.wait()
            run.cancel()
            settle.cancel()
        self._executor.close()

    def drain(self) -> None:
        """Read nothing more; finish what is held."""
        self._draining = True
        self._room.set()

    def lose(self, entries: set[bytes]) -> None:
        """Drop deliveries whose lease has gone to a peer: whatever they come to is refused."""
        for entry in entries:
            assembly = self._held.get(entry)
            if assembly is not None:
                log.warning("lost the lease of %s", assembly.delivery.prediction)
                self._let_go(assembly)

    # fetch and prepare

    async def _fetch_stage(self) -> None:
        while not self._draining:
            room = self._limits.prefetch_rows - len(self._batcher)
            if room <= 0:
                self._room.clear()
                await self._room.wait()
                continue
            count = max(1, int(room / self._rows_per_entry))
            try:
                deliveries = await self._fetch(count)
            except ResponseError as error:
                if not str(error).startswith("NOGROUP"):
                    raise
                log.warning("the lanes are gone from Redis: joining anew")
                await self._rejoin()
                continue
            except (RedisError, OSError) as error:
                log.warning("reading the lanes failed: %s", error)
                await asyncio.sleep(RETRY_S)
                continue
            if deliveries:
                await self._prepare(deliveries)

    async def _fetch(self, count: int) -> list[Delivery]:
        now = time.monotonic()
        if now >= self._next_reclaim:
            self._next_reclaim = now + self._reclaim_s
            reclaimed = await self._consumer.reclaim(count)
            if reclaimed:
                log.warning("took over %d leases that had lapsed", len(reclaimed))
                return reclaimed
        # A lane that gave less than was asked for is empty: the blocking read asks and waits in
        # one round trip. It takes from both lanes alike, so a backlog is read realtime first.
        deliveries = await self._consumer.read(count) if self._backlog else []
        if not deliveries:
            deliveries = await self._consumer.wait(count, block_ms=BLOCK_MS)
        self._backlog = len(deliveries) >= count
        return deliveries

    async def _rejoin(self) -> None:
        try:
            await self._consumer.join()
        except (RedisError, OSError) as error:
            log.warning("joining the lanes failed: %s", error)
            await asyncio.sleep(RETRY_S)

    async def _prepare(self, deliveries: list[Delivery]) -> None:
        loop = asyncio.get_running_loop()
        rows = 0
        for delivery in deliveries:
            held = self._held.get(delivery.entry)
            if held is not None:
                # Our own lease had lapsed, while Redis was away: we go on, under its new attempt.
                held.delivery = delivery
                continue
            computation = delivery.computation
            if computation is None:
                self._bury(delivery, ErrorKind.INTERNAL, "The worker can't read this message.")
                continue
            if delivery.attempt > self._max_deliveries:
                self._bury(
                    delivery,
                    ErrorKind.WORKER_LOST,
                    f"{delivery.attempt - 1} workers were lost while they had this prediction.",
                )
                continue
            rows += len(computation.rows)
            assembly = Assembly(delivery, computation)
            self._held[delivery.entry] = assembly
            if computation_bytes(computation) <= INLINE_BYTES:
                prepared = self._prepared(assembly)
            else:
                prepared = await loop.run_in_executor(
                    self._executor.prepare_thread, self._prepared, assembly
                )
            self._admit(assembly, prepared)
        self._rows_per_entry = max(1.0, rows / len(deliveries))

    def _prepared(self, assembly: Assembly) -> list[PreparedRow | ForebayError]:
        computation = assembly.computation
        try:
            return list(self._backend.prepare(computation.rows, truncate=computation.truncate))
        except Exception:
            log.exception("preparing %s failed", assembly.delivery.prediction)
            return [ForebayError("The worker could not prepare this row. Its log says why.")]

    def _admit(self, assembly: Assembly, prepared: list[PreparedRow | ForebayError]) -> None:
        for index, row in enumerate(prepared):
            if isinstance(row, ForebayError):
                assembly.fail(row, row=index)
                self._settle(assembly)
                return
        lane = assembly.delivery.lane
        deadline = assembly.computation.deadline_at_ms
        for index, row in enumerate(prepared):
            if isinstance(row, PreparedRow):
                ref = RowRef(assembly, index, row)
                assembly.pending.append(
                    self._batcher.add(lane, ref, length=row.length, deadline_at_ms=deadline)
                )
        self._work.set()

    def _bury(self, delivery: Delivery, kind: ErrorKind, message: str) -> None:
        log.error("%s becomes a dead letter: %s", delivery.prediction, message)
        reply = unreadable(delivery, self._clock.now_ms(), kind=kind, message=message)
        self._unsettled.append(Settlement(delivery, reply, dead=message))
        self._outcome.set()

    # run

    async def _run_stage(self) -> None:
        while True:
            await self._executor.room.acquire()
            batch = await self._next_batch()
            self._room.set()
            future = self._executor.submit([row.item.prepared for row in batch.rows])
            self._group.create_task(self._collect(batch, future), name="collect")

    async def _next_batch(self) -> MicroBatch[RowRef]:
        while True:
            if not len(self._batcher):
                self._work.clear()
                await self._work.wait()
            if self._limits.max_wait_ms:
                await asyncio.sleep(self._limits.max_wait_ms / 1000)
            batch = self._batcher.next(self._clock.now_ms())
            for row in batch.expired:
                self._expire(row.item.assembly)
            if batch.rows:
                return batch

    def _expire(self, assembly: Assembly) -> None:
        if not assembly.settled:
            error = DeadlineExceeded("The prediction's deadline passed before it could run.")
            assembly.fail(error, row=None, status=Status.EXPIRED)
            self._settle(assembly)

    async def _collect(self, batch: MicroBatch[RowRef], future: "asyncio.Future[Run]") -> None:
        try:
            run = await future
        finally:
            self._executor.room.release()
        offset = self._clock.now() - time.monotonic()
        began, ended = (run.began + offset) * 1000, (run.ended + offset) * 1000
        for row, result in zip(batch.rows, run.results, strict=True):
            assembly = row.item.assembly
            if assembly.settled:
                continue
            if assembly.began_ms is None:
                assembly.began_ms = began
            assembly.done_ms = ended
            if isinstance(result, ForebayError):
                assembly.fail(result, row=row.item.index)
            else:
                assembly.take(row.item.index, result)
            if assembly.complete:
                self._settle(assembly)

    # settle

    def _settle(self, assembly: Assembly) -> None:
        self._unsettled.append(
            assembly.settlement(
                self._consumer.keys, version=self._backend.version, now_ms=self._clock.now_ms()
            )
        )
        self._outcome.set()
        assembly.settled = True
        lane = assembly.delivery.lane
        for row in assembly.pending:
            self._batcher.discard(lane, row)

    async def _settle_stage(self) -> None:
        while True:
            await self._outcome.wait()
            self._outcome.clear()
            while self._unsettled:
                chunk = self._unsettled[:SETTLE_MAX]
                try:
                    await self._consumer.settle(chunk)
                except (RedisError, OSError) as error:
                    # Safe to repeat: what is recorded already stays as it is.
                    log.warning("settling %d results failed, trying again: %s", len(chunk), error)
                    await asyncio.sleep(RETRY_S)
                    continue
                del self._unsettled[: len(chunk)]
                for settlement in chunk:
                    self._held.pop(settlement.delivery.entry, None)
            if not self._held:
                self._idle.set()

    def _let_go(self, assembly: Assembly) -> None:
        assembly.settled = True
        for row in assembly.pending:
            self._batcher.discard(assembly.delivery.lane, row)
        self._held.pop(assembly.delivery.entry, None)
        if not self._held:
            self._idle.set()
