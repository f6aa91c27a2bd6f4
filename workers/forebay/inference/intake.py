"""Fetch and prepare: keeps one lane's share of rows with the batcher.

    lane ──lease──▶ unprepared ──prepare──▶ batcher

Each lane has an intake, a connection and a room of its own, so a flood on the bulk lane takes
nothing from realtime. No more is leased than about the rows there is room for, and a delivery is
prepared only when there is: what is not yet prepared at a drain goes back untouched.

Of what went ahead of those that wait for their turn on the lane it takes as much again: that is not
to wait here for room that others have filled.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence

from redis.exceptions import RedisError, ResponseError

from forebay.contract.errors import ErrorKind, ForebayError
from forebay.contract.prediction import MAX_PART_ROWS, Lane
from forebay.inference.assembly import Assembly, RowRef
from forebay.inference.backends.base import Model, PreparedRow
from forebay.inference.batcher import Batcher
from forebay.inference.execution import Execution
from forebay.inference.ledger import Ledger
from forebay.inference.trouble import Trouble
from forebay.inference.urgency import OF_LANE, Urgency, urgency_of
from forebay.lanes.consumer import Consumer, Delivery
from forebay.lanes.scripts import READ_BYTES

log = logging.getLogger(__name__)

BLOCK_MS = 500
"""Longest blocking read: how late an idle worker notices that it should stop or reclaim."""

RETRY_S = 0.1
"""Pause after Redis failed a command."""

TOGETHER = 8
"""Computations prepared in one go on the event loop."""

FEWEST = 4
"""Bulk is read once one part in so many of its room is free, not whenever a row has left."""

BULK_S = 0.25
"""Of bulk as many rows are held as the worker works off in so long: from more of them more are of
like length, and another replica misses none of them."""

MOST_TIMES = 4
"""But no more than so many times what is held of any lane."""

INLINE_BYTES = 2_048
"""Rows of a message up to this size are tokenized on the event loop, others on a thread."""


class Intake:
    """One lane's way into the worker.

    Args:
        lane: which.
        consumer: this worker's end of the lanes.
        backend: prepares rows.
        executor: has the thread for what takes longer.
        batcher: where rows go.
        ledger: takes leases in, refusals and dead letters.
        came: called when there are new rows to run: of what, and whether nothing else has come with
            it.
        room_rows: rows of this lane that the batcher holds, but for one computation; of bulk more,
            where rows are quick.
        max_strikes: a delivery with as many becomes a dead letter.
        reclaim_s: how often leases that nobody will settle are looked for.
    """

    def __init__(
        self,
        lane: Lane,
        *,
        consumer: Consumer,
        backend: Model,
        executor: Execution,
        batcher: Batcher[RowRef],
        ledger: Ledger,
        came: Callable[[Assembly, bool], None],
        room_rows: int,
        max_strikes: int,
        reclaim_s: float,
    ) -> None:
        self.lane = lane
        self._consumer = consumer
        self._backend = backend
        self._executor = executor
        self._batcher = batcher
        self._ledger = ledger
        self._came = came
        self._least_room = room_rows
        self._max_strikes = max_strikes
        self._reclaim_s = reclaim_s
        self._urgency = OF_LANE[lane]
        self._urgencies = {urgency for room in executor.rooms for urgency in room.urgencies}
        self._next_reclaim = 0.0
        self._taken_over = 0
        # What a blocking read may bring is not known: on bulk, take the worst for granted.
        self._rows_per_entry = 1.0 if lane is Lane.REALTIME else float(MAX_PART_ROWS)
        self._bytes_per_entry = 1.0
        self._backlog = True
        self._trouble = Trouble(log, f"reading the {lane.value} lane")
        room = next(room for room in executor.rooms if self._urgency in room.urgencies)
        self._suspects_from = room.suspects_from
        self._draining = False
        self._room = asyncio.Event()
        self._overtaken = False
        self._unprepared: deque[Assembly] = deque()
        self._ahead: deque[Assembly] = deque()
        self._guests: list[Assembly] = []
        self._prepared = 0

    def look(self) -> None:
        """There may be room again."""
        self._room.set()

    def drain(self) -> None:
        """Lease nothing more."""
        self._draining = True
        self._room.set()

    def read_on(self) -> None:
        """Somebody has gone ahead: lease that even if there is no room for what has not."""
        self._overtaken = True
        self._room.set()

    async def run(self) -> None:
        """Lease and prepare until drained."""
        while not self._draining:
            room_ahead = self._is_room_ahead()
            if self._ahead and room_ahead:
                self._guests.append(self._ahead[0])
                await self._prepare_next(self._ahead)
            elif (self._overtaken and room_ahead) or self._is_short:
                await self._take_in()
            elif self._unprepared and self._rows_wanted > 0:
                await self._prepare_next(self._unprepared)
            else:
                self._room.clear()
                await self._room.wait()
        await self._ledger.give_back([*self._ahead, *self._unprepared])

    @property
    def _room_rows(self) -> int:
        if self.lane is Lane.REALTIME:
            return self._least_room
        some = int(self._ledger.rate.rows_per_s * BULK_S)
        return min(max(some, self._least_room), MOST_TIMES * self._least_room)

    @property
    def _is_short(self) -> bool:
        """Whether more is to be leased."""
        worth = max(self._room_rows // FEWEST, 1) if self.lane is Lane.BULK else 1
        return not self._unprepared and not self._ahead and self._rows_wanted >= worth

    @property
    def _rows_wanted(self) -> int:
        return self._room_rows - self._batcher.held(self._urgency)

    def _is_room_ahead(self) -> bool:
        """Whether more is to be held of what went ahead."""
        if not self._guests:
            return True
        self._guests = [one for one in self._guests if not one.settled]
        return sum(one.rows for one in self._guests) < self._room_rows

    async def _take_in(self) -> None:
        """Lease what there is room for, or what has gone ahead."""
        overtaken, self._overtaken = self._overtaken, False
        try:
            if overtaken:
                deliveries = await self._consumer.read(self.lane, rows=0)
            else:
                deliveries = await self._lease(self._rows_wanted)
        except (RedisError, OSError) as error:
            # Whatever it is, the worker stays and tries again: a server may be full, loading,
            # a replica, or gone, and what is held is still to be settled.
            if isinstance(error, ResponseError) and str(error).startswith("NOGROUP"):
                log.warning("the lanes are gone from Redis: joining anew")
                await self._rejoin()
            else:
                self._trouble.report(error)
                await asyncio.sleep(RETRY_S)
        else:
            self._trouble.over()
            for assembly in self._register(deliveries):
                ahead = assembly.delivery.went_ahead
                (self._ahead if ahead else self._unprepared).append(assembly)

    async def _lease(self, rows: int) -> list[Delivery]:
        now = time.monotonic()
        if now >= self._next_reclaim:
            reclaimed = await self._consumer.reclaim(self.lane, rows=rows)
            if reclaimed:
                self._taken_over += len(reclaimed)
                return reclaimed  # and look again at once: there may be more
            if taken := self._taken_over:
                self._taken_over = 0
                leases = "1 lease" if taken == 1 else f"{taken:,} leases"
                log.warning("took over %s that nobody would settle", leases)
            self._next_reclaim = now + self._reclaim_s
        # A lane that gave less than was asked for is empty: the blocking read asks and waits in
        # one round trip.
        deliveries = await self._consumer.read(self.lane, rows=rows) if self._backlog else []
        if not deliveries:
            most = max(1, int(min(rows / self._rows_per_entry, READ_BYTES / self._bytes_per_entry)))
            deliveries = await self._consumer.wait(self.lane, most=most, block_ms=BLOCK_MS)
        taken = sum(map(_rows_of, deliveries))
        if deliveries:
            self._rows_per_entry = max(taken / len(deliveries), self._rows_per_entry / 2, 1.0)
            size = sum(delivery.size for delivery in deliveries)
            self._bytes_per_entry = max(size / len(deliveries), self._bytes_per_entry / 2, 1.0)
        # Where nothing came in all that time, a read makes sure that nobody waits for a turn.
        self._backlog = not deliveries or taken + self._rows_per_entry > rows
        return deliveries

    async def _rejoin(self) -> None:
        try:
            await self._consumer.join()
        except (RedisError, OSError) as error:
            self._trouble.report(error)
            await asyncio.sleep(RETRY_S)

    def _register(self, deliveries: Sequence[Delivery]) -> list[Assembly]:
        """Take deliveries in: they are renewed from now on."""
        taken: list[Assembly] = []
        for delivery in deliveries:
            if delivery.computation is None:
                self._ledger.bury(
                    delivery, ErrorKind.INTERNAL, "The worker can't read this message."
                )
            elif delivery.strikes >= self._max_strikes:
                self._ledger.bury(
                    delivery,
                    ErrorKind.WORKER_LOST,
                    f"{delivery.strikes} workers were lost while they were running this.",
                )
            elif assembly := self._ledger.open(delivery, delivery.computation):
                taken.append(assembly)
        return taken

    async def _prepare_next(self, assemblies: deque[Assembly]) -> None:
        assembly = assemblies.popleft()
        if not assembly.settled:  # else its lease was lost meanwhile
            self._admit(assembly, await self._prepare(assembly))
        self._prepared += 1
        if self._prepared % TOGETHER == 0:
            await asyncio.sleep(0)  # others have waited long enough

    async def _prepare(self, assembly: Assembly) -> list[PreparedRow | ForebayError]:
        computation = assembly.computation
        rows, truncate, options = computation.rows, computation.truncate, computation.options
        delivery = assembly.delivery
        small = delivery.size <= INLINE_BYTES and not delivery.strikes
        try:
            if small:
                return list(self._backend.prepare(rows, truncate=truncate, options=options))
            prepared = await self._executor.prepare(
                delivery, rows, truncate=truncate, options=options
            )
        except Exception:
            log.exception("preparing %s failed", assembly.delivery.prediction)
            return [ForebayError("The worker could not prepare this row. Its log says why.")]
        assembly.forget_rows()
        return list(prepared)

    def _admit(self, assembly: Assembly, prepared: list[PreparedRow | ForebayError]) -> None:
        if assembly.settled:
            return
        for index, row in enumerate(prepared):
            if isinstance(row, ForebayError):
                assembly.fail(row, row=index)
                self._ledger.settle(assembly)
                return
        deadline = assembly.computation.deadline_at_ms
        suspected = assembly.delivery.strikes >= self._suspects_from
        alone = assembly if suspected else None
        urgency = self._urgency_of(assembly, prepared)
        for index, row in enumerate(prepared):
            if isinstance(row, PreparedRow):
                ref = RowRef(assembly, index, row)
                assembly.pending.append(
                    self._batcher.add(
                        urgency,
                        ref,
                        length=row.length,
                        deadline_at_ms=deadline,
                        alone=alone,
                        caller=assembly.computation.caller,
                    )
                )
        self._came(assembly, not self._unprepared and not self._ahead)

    def _urgency_of(
        self, assembly: Assembly, prepared: Sequence[PreparedRow | ForebayError]
    ) -> Urgency:
        if Urgency.AHEAD not in self._urgencies:
            return self._urgency  # callers take turns among all of the lane's
        urgency = urgency_of(assembly.delivery)
        if urgency is Urgency.REALTIME:
            lengths = (row.length for row in prepared if isinstance(row, PreparedRow))
            if self._batcher.asks_for_little(assembly.computation.caller, lengths):
                return Urgency.AHEAD
        return urgency


def _rows_of(delivery: Delivery) -> int:
    return len(delivery.computation.rows) if delivery.computation else 1
