"""The named threads on which model code runs: one for each stream of the backend.

A micro-batch stands ready behind those that run, so a device thread never waits for the event
loop. Of a batch that fails the row at fault is looked for, and its neighbours succeed (`bisect`).
"""

import asyncio
import logging
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import msgspec

from forebay.contract.errors import ForebayError, InvalidInput
from forebay.contract.rows import Options, Output, Row
from forebay.inference.backends.base import Backend, PreparedRow
from forebay.inference.bisect import bisect
from forebay.lanes.consumer import Delivery
from forebay.lanes.running import Running

log = logging.getLogger(__name__)


class Run(msgspec.Struct, frozen=True):
    """What one micro-batch came to.

    Attributes:
        results: one a row: its output, or why there is none.
        began: `time.monotonic()` when the device began.
        ended: and when it was done.
    """

    results: list[Output | ForebayError]
    began: float
    ended: float


class Executor:
    """Runs micro-batches off the event loop, as many at a time as the backend has streams.

    Args:
        backend: the loaded model.
        running: is told what runs, before it does.
    """

    def __init__(self, backend: Backend, running: Running) -> None:
        self._backend = backend
        self._running = running
        self._device = ThreadPoolExecutor(backend.streams, thread_name_prefix="device")
        self._prepare = ThreadPoolExecutor(1, thread_name_prefix="prepare")
        self._began: dict[str, float] = {}
        self.streams = backend.streams
        self.room = asyncio.Semaphore(backend.streams + 1)

    def prepare(
        self, delivery: Delivery, rows: Sequence[Row], *, truncate: bool, options: Options
    ) -> "asyncio.Future[list[PreparedRow | InvalidInput]]":
        """Tokenize rows of a delivery while the device is busy."""
        loop = asyncio.get_running_loop()
        return loop.run_in_executor(
            self._prepare, self._prepare_rows, delivery, rows, truncate, options
        )

    def submit(
        self, rows: Sequence[PreparedRow], deliveries: Sequence[Delivery]
    ) -> "asyncio.Future[Run]":
        """Queue a batch for the device.

        Args:
            rows: of the batch.
            deliveries: which they are of, each once.
        """
        loop = asyncio.get_running_loop()
        return loop.run_in_executor(self._device, self._run, rows, deliveries)

    def longer_than(self, seconds: float) -> list[str]:
        """Device threads whose batch has been running for longer than this, by name."""
        now = time.monotonic()
        # A copy: device threads come and go meanwhile.
        return [slot for slot, began in list(self._began.items()) if now - began > seconds]

    def close(self) -> None:
        """Wait for what runs, then end the threads."""
        self._device.shutdown(wait=True)
        self._prepare.shutdown(wait=True)

    def _prepare_rows(
        self, delivery: Delivery, rows: Sequence[Row], truncate: bool, options: Options
    ) -> list[PreparedRow | InvalidInput]:
        slot = threading.current_thread().name
        self._running.begin(slot, (delivery,))
        try:
            return list(self._backend.prepare(rows, truncate=truncate, options=options))
        finally:
            self._running.end(slot, tell=True)

    def _run(self, rows: Sequence[PreparedRow], deliveries: Sequence[Delivery]) -> Run:
        slot = threading.current_thread().name
        self._running.begin(slot, deliveries)
        began = self._began[slot] = time.monotonic()
        try:
            results = self._results(rows)
        finally:
            del self._began[slot]
            self._running.end(slot)
        return Run(results, began, time.monotonic())

    def _results(self, rows: Sequence[PreparedRow]) -> list[Output | ForebayError]:
        return bisect(rows, self._outputs)

    def _outputs(self, rows: Sequence[PreparedRow]) -> Sequence[Output] | None:
        try:
            outputs = self._backend.run(rows)
        except Exception:
            if len(rows) == 1:
                log.exception("the backend failed on a row of length %d", rows[0].length)
            else:
                log.warning("a batch of %d rows failed: looking for the row at fault", len(rows))
            return None
        if len(outputs) != len(rows):
            raise RuntimeError(
                f"backend gave {len(outputs)} outputs for {len(rows)} rows"
            )  # a broken backend: nothing it says can be trusted
        return outputs
