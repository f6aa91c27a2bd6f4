"""Runs a pipeline's rows, many at a time: each lane has as many places as a batch has rows.

A row that waits for a step keeps its place and its lease, and nothing of the step's. Rows of bulk
take none of realtime's places, or they would keep it waiting for as long as they wait themselves.
"""

import asyncio
import concurrent.futures
import contextlib
import logging
import time
from collections.abc import AsyncGenerator, Sequence
from typing import Final

from forebay.contract.errors import (
    BackendFailed,
    DeadlineExceeded,
    ForebayError,
    InvalidInput,
    Unavailable,
)
from forebay.contract.model import ModelSpec
from forebay.contract.rows import Options, Output, Row
from forebay.inference.assembly import Assembly, RowRef
from forebay.inference.backends.base import PreparedRow
from forebay.inference.execution import Room, Run
from forebay.inference.executor import Preparer
from forebay.inference.gate import Gate
from forebay.inference.logs import Take, said_of
from forebay.inference.steps.caller import Answer, Caller, Sending, Sent
from forebay.inference.steps.calls import Calls, Origin
from forebay.inference.steps.model import PipelineModel
from forebay.inference.steps.models import Models
from forebay.inference.steps.thread import SLOT, CodeThread
from forebay.inference.urgency import Urgency
from forebay.lanes.consumer import Delivery
from forebay.lanes.producer import Producer, kept_going
from forebay.lanes.running import Running
from forebay.lanes.shares import Shares
from forebay.lanes.traffic import Traffic
from forebay.runtime.catalog import Catalog

log = logging.getLogger(__name__)

WARY_ATTEMPT: Final = 3
"""From this attempt on a row is blamed for a crash while it waits, too: it may have brought its
worker down from a thread of its own, which nobody can tell."""

SHARES_S: Final = 0.1
"""Pause before it is looked again whether the shares of versions have come."""

CLEAN_UP_S: Final = 1.0
"""Time after the drain for what steps had kept; what is left lapses."""


class Flow:
    """A row on its way through its steps."""

    __slots__ = ("calls", "code", "ref", "sent")

    def __init__(self, ref: RowRef, calls: Calls, sent: Sent) -> None:
        self.ref = ref
        self.calls = calls
        self.sent = sent
        self.code: concurrent.futures.Future[Output] | None = None


class Flows:
    """Runs rows.

    Args:
        model: the pipeline.
        places: rows of each lane at once.
        producer: the way onto the steps' lanes.
        catalog: all models.
        running: is told whose code runs, before it does.
        gate: of this process.
        retain_ms: how long a step's result is kept beyond the pipeline's deadline.
        take: is given what the code says of predictions.
    """

    def __init__(
        self,
        model: PipelineModel,
        *,
        places: int,
        producer: Producer,
        catalog: Catalog,
        running: Running,
        gate: Gate,
        retain_ms: int,
        take: Take,
    ) -> None:
        self.rooms = tuple(
            Room(places, urgencies=(urgency,), isolates=False)
            for urgency in (Urgency.REALTIME, Urgency.BULK)
        )
        self._model = model
        self._producer = producer
        self._clock = producer.clock
        self._caller = Caller(producer)
        self._shares = Shares(catalog, Traffic(producer.redis), producer.keys, producer.link)
        self._running = running
        self._retain_ms = retain_ms
        self._take = take
        self._preparer = Preparer(model, running)
        self._thread = CodeThread(running, gate)
        self._flows: dict[Assembly, list[Flow]] = {}

    def longer_than(self, seconds: float) -> list[str]:
        """The code's thread, if it has been kept for longer than this without waiting."""
        return [SLOT] if self._thread.stuck_s > seconds else []

    def prepare(
        self, delivery: Delivery, rows: Sequence[Row], *, truncate: bool, options: Options
    ) -> "asyncio.Future[list[PreparedRow | InvalidInput]]":
        """Check rows of a delivery while others run."""
        return self._preparer.prepare(delivery, rows, truncate=truncate, options=options)

    def submit(self, rows: Sequence[RowRef], urgency: Urgency) -> "asyncio.Future[Run]":
        """Start a row."""
        (ref,) = rows
        flow = self._flow(ref)
        self._flows.setdefault(ref.assembly, []).append(flow)
        return asyncio.create_task(self._follow(flow), name="flow")

    def stop(self, assembly: Assembly) -> None:
        """Cancel what still runs of it; its steps go on until it is known what became of it."""
        for flow in self._flows.get(assembly, ()):
            flow.sent.over = True
            if flow.code is not None:
                flow.code.cancel()

    def ended(self, assembly: Assembly, *, surely: bool) -> None:
        """Clean up after its steps, unless a peer has it."""
        sents = [flow.sent for flow in self._flows.pop(assembly, ())]
        if surely:
            self._caller.forget(sents)
        elif sents:
            self._caller.forget_if_ended(assembly.delivery.prediction, sents)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Be on the steps' lanes until the block ends, then clean up what is left there."""
        async with contextlib.AsyncExitStack() as stack:
            await stack.enter_async_context(self._producer.running())
            if self._shares:
                await self._shares.look()
                await stack.enter_async_context(kept_going("shares", self._shares.run))
            yield
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CLEAN_UP_S):
                    await self._caller.cleaned()

    def close(self) -> None:
        """End the threads."""
        self._thread.close()
        self._preparer.close()

    def _flow(self, ref: RowRef) -> Flow:
        assembly = ref.assembly
        delivery, computation = assembly.delivery, assembly.computation
        sent = Sent(again=delivery.attempt > 1)
        loop = asyncio.get_running_loop()

        async def ask(sendings: Sequence[Sending]) -> list[Answer]:
            asked = asyncio.run_coroutine_threadsafe(self._caller.ask(sendings, sent), loop)
            return await asyncio.wrap_future(asked)

        origin = Origin(
            delivery.prediction,
            computation.first_row + ref.index,
            delivery.lane,
            computation.deadline_at_ms,
            computation.traceparent,
        )
        calls = Calls(
            origin,
            ask,
            which=self._version,
            now_ms=self._clock.now_ms,
            retain_ms=self._retain_ms,
        )
        return Flow(ref, calls, sent)

    async def _version(self, spec: ModelSpec, key: str) -> ModelSpec:
        """On the code's thread: the version that a key goes to, once the shares are known."""
        while True:
            try:
                return self._shares.chosen(spec, key)
            except Unavailable:
                await asyncio.sleep(SHARES_S)

    async def _follow(self, flow: Flow) -> Run:
        delivery = flow.ref.assembly.delivery
        began = time.monotonic()
        wary = f"{delivery.prediction}.{delivery.part}.{flow.ref.index}"
        if delivery.attempt >= WARY_ATTEMPT:
            self._running.begin(wary, (delivery,))
        try:
            result = await self._result(flow)
        finally:
            self._running.end(wary)
        return Run([result], began, time.monotonic(), flow.calls.times)

    async def _result(self, flow: Flow) -> Output | ForebayError:
        assembly = flow.ref.assembly
        if assembly.settled:
            return ForebayError("The row was not wanted any more.")
        flow.code = self._thread.start(lambda: self._run(flow), assembly.delivery)
        try:
            return await asyncio.wrap_future(flow.code)
        except asyncio.CancelledError:
            if flow.code.cancelled():
                return ForebayError("The row was not wanted any more.")
            raise
        except ForebayError as error:
            return error
        except Exception:
            log.exception("the pipeline failed on row %d", flow.ref.index)
            return BackendFailed("The model failed on this row. The worker's log says why.")

    async def _run(self, flow: Flow) -> Output:
        """The user's code, on its thread."""
        left_s = flow.ref.assembly.computation.deadline_at_ms / 1000 - self._clock.now()
        models = Models(self._model.steps, flow.calls)
        limit = asyncio.timeout(left_s)
        try:
            async with limit:
                with said_of([flow.ref.assembly], self._take):
                    return await self._model.run(flow.ref.prepared.data, models)
        except TimeoutError:
            if not limit.expired():
                raise  # the code's own
            raise DeadlineExceeded("The prediction's deadline passed while it ran.") from None
