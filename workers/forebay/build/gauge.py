"""Measures what each step of a build does, on texts that nothing is chosen by."""

import time
from collections.abc import Sequence
from pathlib import Path

from onnx import ModelProto

from forebay.build import evaluate
from forebay.build.encoder import Encoder, Row
from forebay.build.kinds import TextKind
from forebay.contract.build_steps import Effect, StepReport
from forebay.contract.manifest import Accuracy, Agreement, Speed

_TIMED_EVERY = 4
_SERVED_EVERY = 2


class Gauge:
    """Holds graphs against the model in full precision, and keeps what each step did.

    Args:
        kind: the model.
        reference: its graph in full precision.
        rows: of the evaluation texts.
        threads: of one forward pass, as it is served.
        cores: of this machine; what is not timed uses them all.
    """

    def __init__(
        self, kind: TextKind, reference: Path, rows: Sequence[Row], *, threads: int, cores: int
    ) -> None:
        self.steps: list[StepReport] = []
        self._kind = kind
        self._rows = rows
        self._threads = threads
        self._cores = cores
        self._expected = kind.values(self._encoder(reference, cores), rows)
        self._reference = self._encoder(reference, threads)
        self._since = time.perf_counter()

    def record(
        self, step: str, model: ModelProto, chosen: str, *, kept: bool = True, why: str = ""
    ) -> Effect:
        """Measure what came out of a step, and keep it."""
        accuracy = self.measured(model)
        first = not self.steps
        timed = self._rows[::_TIMED_EVERY]
        effect = Effect(
            bytes=model.ByteSize(),
            closeness=_closeness(accuracy),
            same=_same(accuracy),
            invariance=_invariance(accuracy),
            speed=1.0
            if first
            else evaluate.ratio(self._reference, self._encoder(model, self._threads), timed),
        )
        self._keep(step, chosen, effect, kept=kept, why=why)
        return effect

    def skip(self, step: str, chosen: str, why: str) -> None:
        """Keep that a step changed nothing."""
        self._keep(step, chosen, self.steps[-1].after, kept=False, why=why)

    def ratio(self, model: ModelProto, other: ModelProto) -> float:
        """How many times as fast as the first the second is, one forward pass at a time."""
        first, second = (self._encoder(one, self._threads) for one in (model, other))
        return evaluate.ratio(first, second, self._rows[::_TIMED_EVERY])

    def measured(self, model: ModelProto | Path) -> Accuracy | Agreement:
        """How close a graph is to full precision."""
        return self._kind.measured(self._expected, self._encoder(model, self._cores), self._rows)

    def served(self, model: Path) -> Speed:
        """How fast an artifact is, with as many forward passes at once as a worker runs."""
        return evaluate.speed(
            self._reference,
            self._encoder(model, self._threads),
            self._rows[::_SERVED_EVERY],
            threads=self._threads,
            streams=max(1, self._cores // self._threads),
        )

    def _encoder(self, model: ModelProto | Path, threads: int) -> Encoder:
        return Encoder(
            model, pad_id=self._kind.limits.pad_id, threads=threads, output=self._kind.output
        )

    def _keep(self, step: str, chosen: str, after: Effect, *, kept: bool, why: str) -> None:
        now = time.perf_counter()
        took, self._since = now - self._since, now
        self.steps.append(StepReport(step, chosen, after, round(took, 1), kept, why))


def _closeness(measured: Accuracy | Agreement) -> float:
    if isinstance(measured, Accuracy):
        return measured.mean_cosine
    return round(1 - measured.mean_difference, 7)


def _same(measured: Accuracy | Agreement) -> float:
    value = measured.neighbour_agreement if isinstance(measured, Accuracy) else measured.same
    return round(value, 4)


def _invariance(measured: Accuracy | Agreement) -> float:
    if isinstance(measured, Accuracy):
        return measured.invariance
    return round(1 - measured.variance, 7)
