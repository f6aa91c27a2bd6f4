"""The named threads on which model code runs: one for each stream of the backend.

A micro-batch stands ready behind those that run, so a device thread never waits for the event
loop. A batch that fails is halved until the row at fault stands alone: log2 n extra runs,
and its neighbours succeed.
"""

import asyncio
import logging
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import msgspec

from forebay.contract.errors import BackendFailed, ForebayError
from forebay.contract.rows import Output
from forebay.inference.backends.base import Backend, PreparedRow

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
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._device = ThreadPoolExecutor(backend.streams, thread_name_prefix="device")
        self._prepare = ThreadPoolExecutor(1, thread_name_prefix="prepare")
        self.room = asyncio.Semaphore(backend.streams + 1)

    @property
    def prepare_thread(self) -> ThreadPoolExecutor:
        """Where rows are tokenized while the device is busy."""
        return self._prepare

    def submit(self, rows: Sequence[PreparedRow]) -> "asyncio.Future[Run]":
        """Queue a batch for the device."""
        loop = asyncio.get_running_loop()
        return loop.run_in_executor(self._device, self._run, rows)

    def close(self) -> None:
        """Wait for what runs, then end the threads."""
        self._device.shutdown(wait=True)
        self._prepare.shutdown(wait=True)

    def _run(self, rows: Sequence[PreparedRow]) -> Run:
        began = time.monotonic()
        results = self._results(rows)
        return Run(results, began, time.monotonic())

    def _results(self, rows: Sequence[PreparedRow]) -> list[Output | ForebayError]:
        try:
            outputs = self._backend.run(rows)
        except Exception:
            if len(rows) == 1:
                log.exception("the backend failed on a row of length %d", rows[0].length)
                return [BackendFailed("The model failed on this row. The worker's log says why.")]
            log.warning("a batch of %d rows failed: looking for the row at fault", len(rows))
            middle = len(rows) // 2
            return self._results(rows[:middle]) + self._results(rows[middle:])
        if len(outputs) != len(rows):
            raise RuntimeError(
                f"backend gave {len(outputs)} outputs for {len(rows)} rows"
            )  # a broken backend: nothing it says can be trusted
        return list(outputs)
