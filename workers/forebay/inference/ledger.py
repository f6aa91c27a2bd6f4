"""What this worker has leased, and how each lease ends: settled, lost to a peer, or given back."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Iterable

from redis.exceptions import RedisError

from forebay.contract.errors import ErrorKind
from forebay.contract.messages import Computation
from forebay.contract.prediction import Lane
from forebay.inference.assembly import Assembly, RowRef, unrun
from forebay.inference.batcher import Batcher
from forebay.inference.execution import Execution
from forebay.inference.log_sender import LogSender
from forebay.inference.rate import ServiceRate
from forebay.inference.traced import process_span, settled
from forebay.inference.trouble import Trouble
from forebay.lanes.consumer import Consumer, Delivery, LeaseId, Settlement
from forebay.lanes.scripts import SettleOutcome
from forebay.runtime.clock import Clock
from forebay.runtime.tracing import active

log = logging.getLogger(__name__)

RETRY_S = 0.1
"""Pause after Redis failed a command."""

SETTLE_MAX = 64
"""Deliveries in one settle call: longer calls would hold up everybody else's commands."""


GATHER_S = 0.02
"""Results of bulk are gathered for so long, while more of them are on their way: nobody waits."""

SETTLE_BYTES = 1_048_576
"""Nor are more bytes of outputs sent in one, unless a single delivery has them."""

ENDED_EARLY = 10_000
"""Leases remembered that have ended before they were entered: the word of an end and the lease
itself come on two connections, and either may be first. No entry ever gets the same id again."""


_RUNS_ON = frozenset({SettleOutcome.STALE, SettleOutcome.AGAIN})
"""What was settled is run elsewhere, or once more."""


class Ledger:
    """Keeps the worker's leases, and settles them in the background.

    Args:
        consumer: this worker's end of the lanes.
        batcher: rows of what has ended leave it.
        executor: is told of it, too.
        version: short digest of the artifact, named in every result.
        clock: the server's.
        freed: called when rows may have left the batcher.
        logs: has what was said of predictions, which is to be kept before their end.
    """

    def __init__(
        self,
        consumer: Consumer,
        batcher: Batcher[RowRef],
        *,
        executor: Execution,
        version: str,
        clock: Clock,
        freed: Callable[[], None],
        logs: LogSender | None = None,
    ) -> None:
        self._consumer = consumer
        self._batcher = batcher
        self._executor = executor
        self._version = version
        self._clock = clock
        self._freed = freed
        self._logs = logs
        self._tracing = active()
        self.rate = ServiceRate()
        self._held: dict[LeaseId, Assembly] = {}
        self._ended_early: dict[LeaseId, None] = {}
        self._unsettled: list[Settlement] = []
        self._trouble = Trouble(log, "settling results")
        self._outcome = asyncio.Event()
        self._urgent = asyncio.Event()
        self._empty = asyncio.Event()

    @property
    def held(self) -> list[Delivery]:
        """What is leased and not settled."""
        return [assembly.delivery for assembly in self._held.values()]

    def open(self, delivery: Delivery, computation: Computation) -> Assembly | None:
        """Enter a lease.

        None if it is one already, which goes on under its new attempt; or if it has ended before
        it came.
        """
        if delivery.lease in self._ended_early:
            del self._ended_early[delivery.lease]
            log.info("don't begin %s: it has ended", delivery.prediction)
            return None
        held = self._held.get(delivery.lease)
        if held is not None:
            held.delivery = delivery
            return None
        assembly = self._held[delivery.lease] = Assembly(delivery, computation)
        if computation.traceparent is not None and self._tracing is not None:
            assembly.trace = process_span(computation.traceparent)
        self.rate.begin(time.monotonic())
        return assembly

    def settle(self, assembly: Assembly) -> None:
        """It has come to an end: settle it soon."""
        self._unsettled.append(
            assembly.settlement(
                self._consumer.keys,
                version=self._version,
                now_ms=self._clock.now_ms(),
                cache=self._consumer.limits.cache,
            )
        )
        self._outcome.set()
        self._end(assembly)
        if self._presses(assembly.delivery):
            self._urgent.set()

    def bury(self, delivery: Delivery, kind: ErrorKind, message: str) -> None:
        """Make a dead letter of it."""
        log.error("%s becomes a dead letter: %s", delivery.prediction, message)
        reply = unrun(delivery, self._clock.now_ms(), kind=kind, message=message)
        self._unsettled.append(Settlement(delivery, reply, dead=message))
        self._outcome.set()
        self._urgent.set()

    def lose(self, leases: Iterable[LeaseId], *, why: str, ended: bool = False) -> None:
        """Forget leases that are this worker's no longer: they don't run, or in vain.

        Args:
            leases: known or not.
            why: for the log.
            ended: whether their predictions have surely ended; else a peer may run them.
        """
        for lease in leases:
            assembly = self._held.get(lease)
            if assembly is not None and not assembly.settled:
                log.info("let %s go: %s", assembly.delivery.prediction, why)
                self._end(assembly)
                self._close(assembly)
                self._executor.ended(assembly, surely=ended)

    def end(self, leases: Iterable[LeaseId]) -> None:
        """Forget leases whose prediction has ended by authority, held already or not yet."""
        several = set(leases)
        self._ended_early.update(dict.fromkeys(several - self._held.keys()))
        while len(self._ended_early) > ENDED_EARLY:
            del self._ended_early[next(iter(self._ended_early))]
        self.lose(several, why="it has ended", ended=True)

    async def give_back(self, assemblies: Iterable[Assembly]) -> None:
        """Let leases go without a strike; if Redis is away they lapse by themselves."""
        several = [assembly for assembly in assemblies if not assembly.settled]
        for assembly in several:
            self._end(assembly)
        try:
            await self._consumer.release(assembly.delivery for assembly in several)
        except (RedisError, OSError) as error:
            log.warning("giving back %d leases failed, they lapse: %s", len(several), error)
        for assembly in several:
            self._close(assembly)
            self._executor.ended(assembly, surely=False)

    async def let_go(self) -> None:
        """Give back whatever has not ended, even if something was done for it."""
        await self.give_back(list(self._held.values()))

    async def emptied(self) -> None:
        """Wait until nothing is held."""
        while self._held or self._unsettled:
            self._empty.clear()
            await self._empty.wait()

    async def run(self) -> None:
        """Settle what has ended, until cancelled."""
        while True:
            await self._outcome.wait()
            if not self._urgent.is_set():
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._urgent.wait(), GATHER_S)
            self._outcome.clear()
            self._urgent.clear()
            while self._unsettled:
                chunk = self._next_chunk()
                try:
                    if self._logs is not None and any(one.reply.logged for one in chunk):
                        await self._logs.send()
                    outcomes = await self._consumer.settle(chunk)
                except (RedisError, OSError) as error:
                    # Safe to repeat: what is recorded already stays as it is.
                    self._trouble.report(error)
                    await asyncio.sleep(RETRY_S)
                    continue
                self._trouble.over()
                del self._unsettled[: len(chunk)]
                rows = 0
                for settlement, outcome in zip(chunk, outcomes, strict=True):
                    assembly = self._held.pop(settlement.delivery.lease, None)
                    if assembly is not None:
                        rows += assembly.rows
                        if assembly.trace is not None and self._tracing is not None:
                            own, reply = assembly.trace, settlement.reply
                            settled(self._tracing, own, settlement.delivery, reply)
                        self._executor.ended(assembly, surely=outcome not in _RUNS_ON)
                self.rate.done(rows, time.monotonic(), idle=not self._held)
            if not self._held:
                self._empty.set()

    def _presses(self, delivery: Delivery) -> bool:
        """Whether something that is to be settled is to be so at once."""
        return (
            delivery.lane is Lane.REALTIME
            or len(self._unsettled) >= SETTLE_MAX
            or len(self._unsettled) >= len(self._held)
        )

    def _next_chunk(self) -> list[Settlement]:
        size = 0
        for number, settlement in enumerate(self._unsettled[:SETTLE_MAX]):
            size += len(settlement.spilled or b"")
            if settlement.kept:
                size += sum(len(entry) for _, entry in settlement.kept)
            if number and size > SETTLE_BYTES:
                return self._unsettled[:number]
        return self._unsettled[:SETTLE_MAX]

    def _end(self, assembly: Assembly) -> None:
        """Nothing more of it runs."""
        assembly.settled = True
        for row in assembly.pending:
            self._batcher.discard(row)
        self._executor.stop(assembly)
        self._freed()

    def _close(self, assembly: Assembly) -> None:
        self._held.pop(assembly.delivery.lease, None)
        if not self._held:
            self.rate.done(0, time.monotonic(), idle=True)
            self._empty.set()
