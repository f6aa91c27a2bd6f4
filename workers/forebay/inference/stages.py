"""Three stages that overlap: fetch and prepare, run, settle.

    lanes ──▶ intake of each ──▶ batcher ──▶ device threads ──▶ ledger ──▶ lanes
              (next rows)                     (these batches)    (last ones)

A short row of realtime that has come by itself runs on the event loop (`lone`).

An intake holds about `prefetch_rows` beyond what runs: enough to sort by length, little enough
that another replica is not starved. Nothing waits for company: a free device takes what is there.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from forebay.contract.errors import Canceled, DeadlineExceeded, ForebayError
from forebay.contract.model import BatchLimits
from forebay.contract.prediction import Lane, Status
from forebay.inference.assembly import Assembly, RowRef
from forebay.inference.backends.base import Model
from forebay.inference.batcher import Batcher, MicroBatch
from forebay.inference.execution import Execution, Room, Run
from forebay.inference.gate import Gate
from forebay.inference.intake import Intake
from forebay.inference.ledger import Ledger
from forebay.inference.log_sender import LogSender
from forebay.inference.lone import Lone
from forebay.inference.pace import Pace
from forebay.inference.traced import batch_ran
from forebay.inference.urgency import Urgency
from forebay.lanes.consumer import Consumer, Delivery, LeaseId
from forebay.runtime.clock import Clock
from forebay.runtime.tracing import active

if TYPE_CHECKING:
    from forebay.runtime.tracing.spans import Tracing


class Stages:
    """Moves deliveries of one model from its lanes through the backend and back.

    Args:
        consumer: this worker's end of the lanes.
        backend: warm.
        executor: runs its batches.
        limits: of a batch, and of what is held beyond it.
        clock: the server's.
        max_strikes: a delivery that cost as many workers becomes a dead letter.
        reclaim_s: how often lapsed leases are looked for.
        gate: of this process; stages that have it to themselves need none.
        logs: has what was said of predictions, where their code may say something.
        here: runs a batch on the event loop, if a short one may run there.
    """

    def __init__(
        self,
        consumer: Consumer,
        backend: Model,
        limits: BatchLimits,
        *,
        executor: Execution,
        clock: Clock,
        max_strikes: int,
        reclaim_s: float,
        gate: Gate | None = None,
        logs: LogSender | None = None,
        here: Callable[[Sequence[RowRef]], Run] | None = None,
    ) -> None:
        self._limits = limits
        self._gate = gate or Gate()
        self._clock = clock
        self._pace = Pace(limits)
        self._lone = Lone()
        self._batcher: Batcher[RowRef] = Batcher(limits, self._pace.cost)
        self._executor = executor
        self._here = here
        self._ledger = Ledger(
            consumer,
            self._batcher,
            executor=executor,
            version=backend.version,
            clock=clock,
            freed=self._look,
            logs=logs,
        )
        self._tracing = active()
        self._work = asyncio.Event()
        self._intakes = [
            Intake(
                lane,
                consumer=consumer,
                backend=backend,
                executor=self._executor,
                batcher=self._batcher,
                ledger=self._ledger,
                came=self._hurry if lane is Lane.REALTIME else self._wait,
                room_rows=limits.prefetch_rows,
                max_strikes=max_strikes,
                reclaim_s=reclaim_s,
            )
            for lane in Lane
        ]
        self._group = asyncio.TaskGroup()

    @property
    def held(self) -> list[Delivery]:
        """What this worker has leased and not settled."""
        return self._ledger.held

    async def run(self) -> None:
        """Work until `drain`, then return once nothing is held.

        Raises:
            ExceptionGroup: the backend broke its protocol; the leases lapse and peers take over.
        """
        async with self._group as group:
            runs = [
                group.create_task(self._run_stage(room), name="run")
                for room in self._executor.rooms
            ]
            settle = group.create_task(self._ledger.run(), name="settle")
            intakes = [
                group.create_task(intake.run(), name=f"intake {intake.lane}")
                for intake in self._intakes
            ]
            await asyncio.wait(intakes)
            await self._ledger.emptied()
            for run in runs:
                run.cancel()
            settle.cancel()
        self._executor.close()

    @property
    def rate(self) -> float:
        """Rows a second that this worker works off while it has any; 0 if not known yet."""
        return self._ledger.rate.rows_per_s

    @property
    def hung(self) -> list[str]:
        """Where a forward pass has taken longer than any may, as `Running` names it."""
        return self._executor.longer_than(self._limits.timeout_s)

    def drain(self) -> None:
        """Lease nothing more; finish what is in hand, give back what is not."""
        for intake in self._intakes:
            intake.drain()

    def lose(self, leases: set[LeaseId]) -> None:
        """Drop deliveries whose lease is no longer this worker's: what they come to is refused."""
        self._ledger.lose(leases, why="its lease is no longer this worker's")

    def drop(self, leases: set[LeaseId]) -> None:
        """Drop deliveries whose prediction has been ended by authority, so that they don't run."""
        self._ledger.end(leases)

    def read_on(self, lanes: set[Lane]) -> None:
        """Somebody has gone ahead of those that wait on these lanes."""
        for intake in self._intakes:
            if intake.lane in lanes:
                intake.read_on()

    async def let_go(self) -> None:
        """Give back all that is held and has not ended; it runs again elsewhere, or later."""
        await self._ledger.let_go()

    def _hurry(self, assembly: Assembly, by_itself: bool) -> None:
        """Rows of realtime have come."""
        self._pace.came()
        if self._here is None:
            self._work.set()
            return
        self._lone.came(assembly.computation.enqueued_at_ms, by_themselves=by_itself)
        if not by_itself or not self._is_lone(assembly):
            self._work.set()
            return
        batch = self._batcher.next(self._clock.now_ms(), urgencies=(Urgency.REALTIME,))
        for row in batch.expired:
            self._expire(row.item.assembly)
        if batch.rows:
            run = self._here([row.item for row in batch.rows])
            self._lone.ran(self._clock.now() * 1000)
            self._take_in(batch, run)

    def _is_lone(self, assembly: Assembly) -> bool:
        """Whether nothing else is here than a row that may run on the event loop."""
        if len(assembly.pending) != 1 or self._batcher.held(Urgency.REALTIME) != 1:
            return False
        if any(room.running for room in self._executor.rooms if not room.interrupted):
            return False
        if self._limits.max_wait_ms or not self._gate.is_open:
            return False
        (row,) = assembly.pending
        if row.alone is not None or row.urgency is not Urgency.REALTIME:
            return False
        return self._lone.may(self._pace.cost.seconds(1, row.length))

    def _wait(self, assembly: Assembly, by_itself: bool) -> None:
        """Rows of bulk have come: threads run them."""
        self._work.set()

    def _look(self) -> None:
        """Rows have left the batcher."""
        for intake in self._intakes:
            intake.look()

    async def _run_stage(self, room: Room) -> None:
        while True:
            await room.free.acquire()
            batch = await self._next_batch(room)
            if batch.alone and room.isolates:
                await self._run_alone(batch, room)
            else:
                if room.isolates:
                    await self._gate.enter()
                future = self._submit(batch)
                room.running += 1
                self._group.create_task(self._collect(batch, future, room), name="collect")

    async def _run_alone(self, batch: MicroBatch[RowRef], room: Room) -> None:
        """Run a batch while nothing else runs, so that nothing else is struck if it crashes."""
        try:
            async with self._gate.alone():
                self._take_in(batch, await self._submit(batch))
        finally:
            room.free.release()

    def _submit(self, batch: MicroBatch[RowRef]) -> "asyncio.Future[Run]":
        return self._executor.submit([row.item for row in batch.rows], batch.rows[0].urgency)

    async def _next_batch(self, room: Room) -> MicroBatch[RowRef]:
        while True:
            if not any(map(self._batcher.held, room.urgencies)):
                self._work.clear()
                await self._work.wait()
                continue
            if self._limits.max_wait_ms:
                await asyncio.sleep(self._limits.max_wait_ms / 1000)
            batch = self._batcher.next(
                self._clock.now_ms(),
                urgencies=room.urgencies,
                bulk=self._pace.bulk(interrupted=room.interrupted),
            )
            self._look()
            for row in batch.expired:
                self._expire(row.item.assembly)
            if batch.rows:
                return batch

    def _expire(self, assembly: Assembly) -> None:
        if not assembly.settled:
            error = DeadlineExceeded("The prediction's deadline passed before it could run.")
            assembly.fail(error, row=None, status=Status.EXPIRED)
            self._ledger.settle(assembly)

    async def _collect(
        self, batch: MicroBatch[RowRef], future: "asyncio.Future[Run]", room: Room
    ) -> None:
        try:
            run = await future
        finally:
            room.free.release()
            room.running -= 1
            if room.isolates:
                self._gate.leave()
        self._take_in(batch, run)

    def _take_in(self, batch: MicroBatch[RowRef], run: Run) -> None:
        """What came of a batch goes to the deliveries that its rows are of."""
        self._pace.cost.saw(len(batch.rows), batch.longest, run.ended - run.began)
        offset = self._clock.now() - time.monotonic()
        began, ended = (run.began + offset) * 1000, (run.ended + offset) * 1000
        if self._tracing is not None:
            self._trace(self._tracing, batch, began, ended)
        for row, result in zip(batch.rows, run.results, strict=True):
            assembly = row.item.assembly
            if assembly.settled:
                continue
            if assembly.began_ms is None:
                assembly.began_ms = began
            assembly.done_ms = ended
            if run.steps:
                assembly.steps += run.steps
            if isinstance(result, DeadlineExceeded):
                assembly.fail(result, row=None, status=Status.EXPIRED)
            elif isinstance(result, Canceled):
                assembly.fail(result, row=None, status=Status.CANCELED)
            elif isinstance(result, ForebayError):
                assembly.fail(result, row=row.item.index)
            else:
                assembly.take(row.item.index, result)
            if assembly.complete:
                self._ledger.settle(assembly)

    def _trace(
        self, tracing: "Tracing", batch: MicroBatch[RowRef], began: float, ended: float
    ) -> None:
        spans = [
            row.item.assembly.trace for row in batch.rows if row.item.assembly.trace is not None
        ]
        if spans:
            model = batch.rows[0].item.assembly.delivery.prediction
            batch_ran(
                tracing,
                spans,
                model=model.rpartition("-")[0].rpartition("-")[0],
                rows=len(batch.rows),
                length=batch.longest,
                began_ms=began,
                ended_ms=ended,
            )
