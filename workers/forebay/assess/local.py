"""Runs inputs in this process, through what a worker runs them through, without the queue.

    input ──rows_of──▶ rows ──prepare──▶ batcher ──▶ device threads ──▶ outputs ──output_of──▶ JSON

Inputs become rows and outputs become JSON by the gateway's own code for `/v1/predictions`; between
them are the backend and the batcher of a worker, with the same limits and as many threads. What it
gives is what is served, at the speed of the model alone.
"""

import logging
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any, Protocol

import msgspec

from forebay.assess.forms.base import Example
from forebay.contract.errors import ForebayError
from forebay.contract.model import ModelSpec
from forebay.contract.rows import Output
from forebay.gateway.dialects.replicate.inputs import rows_of
from forebay.gateway.dialects.replicate.outputs import output_of
from forebay.inference.backends.base import Backend, OfTensors, PreparedRow
from forebay.inference.batcher import Batcher, MicroBatch
from forebay.inference.bisect import bisect
from forebay.inference.urgency import Urgency

log = logging.getLogger(__name__)

MOST_ROWS = 100_000
"""Rows of one input; a gateway takes `max_inputs`."""


class Answer(msgspec.Struct, frozen=True):
    """What became of an example.

    Attributes:
        output: in JSON, as `/v1/predictions` tells it.
        error: why there is none.
    """

    output: Any = None
    error: ForebayError | None = None


class Runner(Protocol):
    """Answers examples, in their order."""

    @property
    def version(self) -> str:
        """Of the model, as clients see it; empty until it is known."""
        ...

    def answers(self, examples: Iterable[Example]) -> Iterator[tuple[Example, Answer]]:
        """Run examples, as many at once as is good for the speed."""
        ...


class _Open:
    """An example whose rows are with the batcher, or running."""

    def __init__(self, example: Example, raw: msgspec.Raw, rows: int, *, single: bool) -> None:
        self.example = example
        self._raw = raw
        self._single = single
        self._outputs: list[Output | None] = [None] * rows
        self._left = rows
        self.error: ForebayError | None = None

    @property
    def done(self) -> bool:
        return self._left == 0 or self.error is not None

    def take(self, index: int, result: Output | ForebayError) -> None:
        if isinstance(result, ForebayError):
            self.error = result
            return
        self._outputs[index] = result
        self._left -= 1

    def answer(self) -> Answer:
        if self.error is not None:
            return Answer(error=self.error)
        outputs = [output for output in self._outputs if output is not None]
        told = output_of(outputs, self._raw, single=self._single)
        # As a client has it: tuples are lists, and numbers what JSON makes of them.
        return Answer(msgspec.json.decode(msgspec.json.encode(told)))


class _Ref(msgspec.Struct, frozen=True, eq=False):
    opened: _Open
    index: int
    prepared: PreparedRow


class Local:
    """Runs examples with a backend in this process.

    Args:
        spec: the model.
        backend: warm.
    """

    def __init__(self, spec: ModelSpec, backend: Backend) -> None:
        self._spec = spec
        self._backend = backend
        self._tensors = backend.signature if isinstance(backend, OfTensors) else None

    @property
    def version(self) -> str:
        """The backend's."""
        return self._backend.version

    def answers(self, examples: Iterable[Example]) -> Iterator[tuple[Example, Answer]]:
        """Run examples; no more of them are read than the batcher holds."""
        limits, streams = self._spec.batch, self._backend.streams
        batcher: Batcher[_Ref] = Batcher(limits)
        waiting: deque[_Open] = deque()
        running: dict[Future[list[Output | ForebayError]], MicroBatch[_Ref]] = {}
        source = iter(examples)
        exhausted = False
        with ThreadPoolExecutor(streams, thread_name_prefix="device") as device:
            while True:
                while not exhausted and len(batcher) < limits.prefetch_rows:
                    example = next(source, None)
                    if example is None:
                        exhausted = True
                    else:
                        waiting.append(self._open(example, batcher))
                # One more than can run stands ready, as in a worker.
                while len(batcher) and len(running) <= streams:
                    batch = batcher.next(0)
                    rows = [row.item.prepared for row in batch.rows]
                    running[device.submit(bisect, rows, self._outputs)] = batch
                while waiting and waiting[0].done:
                    opened = waiting.popleft()
                    yield opened.example, opened.answer()
                if running:
                    for future in wait(running, return_when=FIRST_COMPLETED).done:
                        batch = running.pop(future)
                        for row, result in zip(batch.rows, future.result(), strict=True):
                            row.item.opened.take(row.item.index, result)
                elif exhausted and not waiting:
                    return

    def _open(self, example: Example, batcher: Batcher[_Ref]) -> _Open:
        raw = msgspec.Raw(msgspec.json.encode(example.input))
        try:
            asked = rows_of(self._spec, raw, most=MOST_ROWS, tensors=self._tensors)
        except ForebayError as error:
            opened = _Open(example, raw, 0, single=True)
            opened.error = error
            return opened
        opened = _Open(example, raw, len(asked.rows), single=asked.single)
        prepared = self._backend.prepare(asked.rows, truncate=asked.truncate, options=asked.options)
        refused = next((row for row in prepared if isinstance(row, ForebayError)), None)
        if refused is not None:
            opened.error = refused
            return opened
        for index, row in enumerate(prepared):
            if isinstance(row, PreparedRow):
                ref = _Ref(opened, index, row)
                batcher.add(Urgency.REALTIME, ref, length=row.length, deadline_at_ms=0)
        return opened

    def _outputs(self, rows: Sequence[PreparedRow]) -> Sequence[Output] | None:
        try:
            return self._backend.run(rows)
        except Exception:
            if len(rows) == 1:
                log.exception("the model failed on a row of length %d", rows[0].length)
            return None
