"""The named threads on which model code runs: one for each stream of the backend.

Where the system can have a batch interrupt a less urgent one (`devices`), each urgency has as many.

Of a batch that fails the row at fault is looked for, and its neighbours succeed (`bisect`).
"""

import asyncio
import logging
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from forebay.contract.errors import ForebayError, InvalidInput
from forebay.contract.rows import Options, Output, Row
from forebay.inference.assembly import Assembly, RowRef
from forebay.inference.backends.base import Backend, Model, PreparedRow
from forebay.inference.bisect import bisect
from forebay.inference.devices import AHEAD_NICE, BULK_NICE, INTERRUPTS, Devices
from forebay.inference.execution import Room, Run
from forebay.inference.logs import Take, said_of
from forebay.inference.urgency import Urgency
from forebay.lanes.consumer import Delivery
from forebay.lanes.running import Running

log = logging.getLogger(__name__)


class Preparer:
    """The thread on which rows are tokenized or checked.

    Args:
        model: knows how.
        running: is told what runs, before it does.
    """

    def __init__(self, model: Model, running: Running) -> None:
        self._model = model
        self._running = running
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="prepare")

    def prepare(
        self, delivery: Delivery, rows: Sequence[Row], *, truncate: bool, options: Options
    ) -> "asyncio.Future[list[PreparedRow | InvalidInput]]":
        """Prepare rows of a delivery while others run."""
        loop = asyncio.get_running_loop()
        return loop.run_in_executor(self._thread, self._prepare, delivery, rows, truncate, options)

    def close(self) -> None:
        """Wait for what runs, then end the thread."""
        self._thread.shutdown(wait=True)

    def _prepare(
        self, delivery: Delivery, rows: Sequence[Row], truncate: bool, options: Options
    ) -> list[PreparedRow | InvalidInput]:
        slot = threading.current_thread().name
        self._running.begin(slot, (delivery,))
        try:
            return list(self._model.prepare(rows, truncate=truncate, options=options))
        finally:
            self._running.end(slot, tell=True)


class Executor:
    """Runs micro-batches off the event loop, as many at a time as the backend has streams.

    Args:
        backend: the loaded model.
        running: is told what runs, before it does.
        take: is given what the model's code says of predictions, where it may.
        interruptible: whether the system can have one of its forward passes wait for another.
    """

    def __init__(
        self,
        backend: Backend,
        running: Running,
        *,
        take: Take | None = None,
        interruptible: bool = False,
    ) -> None:
        self._backend = backend
        self._running = running
        self._take = take
        streams = backend.streams
        own: Devices[Run] = Devices(streams, name="device")
        self._devices = dict.fromkeys(Urgency, own)
        interrupts = interruptible and INTERRUPTS
        if interrupts:
            self._devices[Urgency.AHEAD] = Devices(streams, name="ahead", nice=AHEAD_NICE)
            self._devices[Urgency.BULK] = Devices(streams, name="bulk", nice=BULK_NICE)
        self._preparer = Preparer(backend, running)
        self._began: dict[str, float] = {}
        # One of realtime stands ready behind those that run; of bulk one behind each of them.
        self.rooms: tuple[Room, ...] = (
            Room(streams + 1, urgencies=(Urgency.REALTIME,)),
            Room(2 * streams, urgencies=(Urgency.BULK,), interrupted=interrupts),
        )
        if interrupts:
            self.rooms = (Room(streams + 1, urgencies=(Urgency.AHEAD,)), *self.rooms)

    def prepare(
        self, delivery: Delivery, rows: Sequence[Row], *, truncate: bool, options: Options
    ) -> "asyncio.Future[list[PreparedRow | InvalidInput]]":
        """Tokenize rows of a delivery while the device is busy."""
        return self._preparer.prepare(delivery, rows, truncate=truncate, options=options)

    def submit(self, rows: Sequence[RowRef], urgency: Urgency) -> "asyncio.Future[Run]":
        """Queue a batch for the device."""
        run = partial(self._run, rows, _deliveries(rows))
        return self._devices[urgency].submit(run, urgent=urgency is not Urgency.BULK)

    def run_here(self, rows: Sequence[RowRef]) -> Run:
        """Run a batch on the thread that calls, which waits for it."""
        return self._run(rows, _deliveries(rows))

    def stop(self, assembly: Assembly) -> None:
        """Let it run: no thread can be stopped from outside."""

    def ended(self, assembly: Assembly, *, surely: bool) -> None:
        """Nothing is left of what has run."""

    def longer_than(self, seconds: float) -> list[str]:
        """Device threads whose batch has been running for longer than this, by name."""
        now = time.monotonic()
        # A copy: device threads come and go meanwhile.
        return [slot for slot, began in list(self._began.items()) if now - began > seconds]

    def close(self) -> None:
        """Wait for what runs, then end the threads."""
        for devices in set(self._devices.values()):
            devices.close()
        self._preparer.close()

    def _run(self, rows: Sequence[RowRef], deliveries: Sequence[Delivery]) -> Run:
        slot = threading.current_thread().name
        self._running.begin(slot, deliveries)
        began = self._began[slot] = time.monotonic()
        try:
            results = self._results(rows)
        finally:
            del self._began[slot]
            self._running.end(slot)
        return Run(results, began, time.monotonic())

    def _results(self, rows: Sequence[RowRef]) -> list[Output | ForebayError]:
        return bisect(rows, self._outputs)

    def _outputs(self, rows: Sequence[RowRef]) -> Sequence[Output] | None:
        try:
            with said_of([row.assembly for row in rows], self._take):
                outputs = self._backend.run([row.prepared for row in rows])
        except Exception:
            if len(rows) == 1:
                log.exception("the backend failed on a row of length %d", rows[0].prepared.length)
            else:
                log.warning("a batch of %d rows failed: looking for the row at fault", len(rows))
            return None
        if len(outputs) != len(rows):
            raise RuntimeError(
                f"backend gave {len(outputs)} outputs for {len(rows)} rows"
            )  # a broken backend: nothing it says can be trusted
        return outputs


def _deliveries(rows: Sequence[RowRef]) -> list[Delivery]:
    return [assembly.delivery for assembly in dict.fromkeys(row.assembly for row in rows)]
