"""Trials on calibration texts: how near a candidate of a graph is to that graph."""

from collections.abc import Sequence
from typing import Protocol

from onnx import ModelProto

from forebay.build import evaluate
from forebay.build.encoder import Encoder, Row, Vectors, bucketed

_DIGITS = 5
"""Kept of a closeness: the last bits differ from machine to machine, and must not choose."""


class Judge(Protocol):
    """How near a graph's answers are to those of another; larger is nearer, 1 is the same."""

    @property
    def output(self) -> str:
        """Name of the output that is compared."""
        ...

    @property
    def aim(self) -> float:
        """Closeness below which products are put back into FP32."""
        ...

    def values(self, encoder: Encoder, rows: Sequence[Row]) -> Vectors:
        """What to compare, `[…, dimensions]`."""
        ...

    def closeness(self, expected: Vectors, got: Vectors) -> float:
        """How near the second is to the first."""
        ...


class ByCosine:
    """Judges embeddings by their mean cosine."""

    output = "embedding"
    aim = 0.998

    def values(self, encoder: Encoder, rows: Sequence[Row]) -> Vectors:
        """Embeddings, run in buckets."""
        return encoder.embed(rows, bucketed(rows))

    def closeness(self, expected: Vectors, got: Vectors) -> float:
        """Mean cosine."""
        return evaluate.mean_cosine(expected, got)


class Trials:
    """Tries candidates of one graph.

    Args:
        model: the graph.
        rows: of the calibration texts.
        judge: says how near a candidate is.
        aim: closeness below which a step goes on; the judge's, if not given.
        pad_id: token id for padding.
        threads: threads of one forward pass.
    """

    def __init__(
        self,
        model: ModelProto,
        rows: Sequence[Row],
        judge: Judge,
        *,
        pad_id: int,
        threads: int,
        aim: float | None = None,
    ) -> None:
        self.rows = rows
        self.aim = judge.aim if aim is None else aim
        self._judge = judge
        self._pad_id = pad_id
        self._threads = threads
        self._expected = judge.values(self.encoder(model), rows)

    def encoder(self, model: ModelProto) -> Encoder:
        """A graph, ready to run the rows."""
        return Encoder(model, pad_id=self._pad_id, threads=self._threads, output=self._judge.output)

    def closeness(self, candidate: ModelProto) -> float:
        """How near a candidate is, to five digits."""
        got = self._judge.values(self.encoder(candidate), self.rows)
        return round(self._judge.closeness(self._expected, got), _DIGITS)
