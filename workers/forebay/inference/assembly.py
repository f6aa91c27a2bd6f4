"""A delivery on its way through the worker: its rows go out in batches and come back one by one."""

import msgspec

from forebay.contract.caching import CacheOptions, entries_of
from forebay.contract.errors import ErrorInfo, ErrorKind, ForebayError
from forebay.contract.messages import Computation, Reply, encode_outputs
from forebay.contract.prediction import Status, StepTime, Timing, added_up
from forebay.contract.rows import Output, output_bytes
from forebay.inference.backends.base import PreparedRow
from forebay.inference.batcher import Pending
from forebay.inference.traced import ProcessSpan
from forebay.lanes.consumer import Delivery, Settlement
from forebay.lanes.keys import LaneKeys

SPILL_BYTES = 65_536
"""Outputs larger than this are stored beside the record instead of being published."""


class Assembly:
    """Collects the outputs of one delivery.

    Args:
        delivery: what was leased.
        computation: its content.
    """

    __slots__ = (
        "_error",
        "_left",
        "_outputs",
        "began_ms",
        "computation",
        "delivery",
        "done_ms",
        "logged",
        "pending",
        "settled",
        "steps",
        "trace",
    )

    def __init__(self, delivery: Delivery, computation: Computation) -> None:
        self.delivery = delivery
        self.computation = computation
        self.pending: list[Pending[RowRef]] = []
        self.settled = False
        self.logged = delivery.attempt > 1  # as one before may have said something
        self.began_ms: float | None = None
        self.done_ms = 0.0
        self.steps: tuple[StepTime, ...] = ()
        self.trace: ProcessSpan | None = None
        self._outputs: list[Output | None] = [None] * len(computation.rows)
        self._left = len(computation.rows)
        self._error: tuple[Status, ErrorInfo] | None = None

    def fail(self, error: ForebayError, *, row: int | None, status: Status = Status.FAILED) -> None:
        """End it with an error.

        Args:
            error: what went wrong.
            row: index of the offending row within this delivery, if one is to blame.
            status: the terminal status.
        """
        info = error.info()
        if row is not None:
            row += self.computation.first_row
            info = ErrorInfo(info.kind, f"Row {row}: {info.message}", row, info.param)
        self._error = (status, info)

    def take(self, row: int, output: Output) -> None:
        """Add the output of a row, by its index within this delivery."""
        self._outputs[row] = output
        self._left -= 1

    def forget_rows(self) -> None:
        """Let go of the payload, once the rows are prepared."""
        self.computation = msgspec.structs.replace(self.computation, rows=())
        self.delivery = msgspec.structs.replace(self.delivery, computation=None)

    @property
    def rows(self) -> int:
        """How many rows it has."""
        return len(self._outputs)

    @property
    def complete(self) -> bool:
        """Whether it can be settled."""
        return self._left == 0 or self._error is not None

    def settlement(
        self, keys: LaneKeys, *, version: str, now_ms: int, cache: CacheOptions
    ) -> Settlement:
        """The outcome, ready to settle.

        Args:
            keys: of the model's shard.
            version: short digest of the artifact.
            now_ms: the server's time.
            cache: what of the outputs is kept to answer others, where the computation says so.
        """
        delivery = self.delivery
        status, error = self._error or (Status.SUCCEEDED, None)
        outputs = tuple(o for o in self._outputs if o is not None) if error is None else ()
        timing = None
        if self.began_ms is not None:
            timing = Timing(
                queue_ms=max(0.0, delivery.received_at_ms - self.computation.enqueued_at_ms),
                batch_ms=self.began_ms - delivery.received_at_ms,
                compute_ms=self.done_ms - self.began_ms,
            )
        kept: tuple[tuple[bytes, bytes], ...] = ()
        if self.computation.cache is not None and outputs:
            kept = entries_of(
                self.computation.cache, outputs, version=version, at_ms=now_ms, cache=cache
            )
        spilled = None
        if sum(map(output_bytes, outputs)) > SPILL_BYTES:
            spilled = encode_outputs(outputs)
            outputs = ()
        reply = Reply(
            prediction=delivery.prediction,
            status=status,
            completed_at_ms=now_ms,
            part=delivery.part,
            outputs=outputs,
            error=error,
            version=version,
            started_at_ms=int(self.began_ms) if self.began_ms is not None else None,
            timing=timing,
            spilled=keys.outputs(delivery.prediction, delivery.part, delivery.attempt)
            if spilled is not None
            else None,
            steps=added_up(self.steps),
            logged=self.logged,
        )
        return Settlement(delivery, reply, spilled, kept=kept)


class RowRef:
    """A row of an assembly, prepared."""

    __slots__ = ("assembly", "index", "prepared")

    def __init__(self, assembly: Assembly, index: int, prepared: PreparedRow) -> None:
        self.assembly = assembly
        self.index = index
        self.prepared = prepared


def unrun(delivery: Delivery, now_ms: int, *, kind: ErrorKind, message: str) -> Reply:
    """The reply for a delivery that is not run at all, or not again."""
    return Reply(
        prediction=delivery.prediction,
        status=Status.FAILED,
        completed_at_ms=now_ms,
        part=delivery.part,
        error=ErrorInfo(kind, message),
        logged=delivery.attempt > 1,
    )
