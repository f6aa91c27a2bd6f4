"""Finds, on calibration texts, how a graph is best quantized."""

from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec
import numpy as np
import numpy.typing as npt
from onnx import ModelProto, TensorProto, helper

from forebay.build import evaluate, quantize
from forebay.build.encoder import Encoder, Row, Vectors, alone, bucketed

ALPHAS = (0.0, 0.5, 0.6, 0.7)
"""Smoothing strengths tried."""

AIM = 0.998
"""Mean cosine to FP32 below which products are put back into FP32."""

MAX_KEPT = 4
"""Most products put back; a model that needs more is not one to quantize this way."""


class Judge(Protocol):
    """How near a quantized graph is to FP32; larger is nearer, 1 is the same."""

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

    @property
    def aim(self) -> float:
        """The same for all models."""
        return AIM

    def values(self, encoder: Encoder, rows: Sequence[Row]) -> Vectors:
        """Embeddings, run in buckets."""
        return encoder.embed(rows, bucketed(rows))

    def closeness(self, expected: Vectors, got: Vectors) -> float:
        """Mean cosine."""
        return evaluate.mean_cosine(expected, got)


class Plan(msgspec.Struct, frozen=True):
    """How to quantize.

    Attributes:
        peaks: see `quantize.Peaks`.
        smoothing: the best of `ALPHAS`.
        keep: products to leave in FP32, the most sensitive first.
        closeness: to FP32, on the calibration texts.
    """

    peaks: dict[str, npt.NDArray[np.float32]]
    smoothing: float
    keep: tuple[str, ...]
    closeness: float


_BY_COSINE = ByCosine()


def plan(
    model: ModelProto,
    rows: Sequence[Row],
    *,
    pad_id: int,
    threads: int,
    judge: Judge = _BY_COSINE,
    progress: Callable[[float], None] = lambda _: None,
) -> Plan:
    """Try each smoothing strength and keep the best; then, if need be, keep products in FP32.

    Args:
        model: the FP32 graph.
        rows: token ids of the calibration texts.
        pad_id: token id for padding.
        threads: threads of one forward pass.
        judge: says how near a graph is to FP32.
        progress: told the share of the work done, 0..1.
    """

    def values(graph: ModelProto) -> Vectors:
        encoder = Encoder(graph, pad_id=pad_id, threads=threads, output=judge.output)
        return judge.values(encoder, rows)

    expected = values(model)
    peaks = measure_peaks(model, rows, pad_id=pad_id, threads=threads)

    def score(alpha: float, keep: frozenset[str]) -> float:
        candidate = quantize.quantize(model, peaks=peaks, smoothing=alpha, keep=keep)
        return judge.closeness(expected, values(candidate))

    scores: dict[float, float] = {}
    for alpha in ALPHAS:
        progress((1 + len(scores)) / (1 + len(ALPHAS)))
        scores[alpha] = score(alpha, frozenset())
    # Five digits: the last ones differ from machine to machine and must not choose.
    smoothing = max(ALPHAS, key=lambda alpha: round(scores[alpha], 5))
    best, keep = scores[smoothing], list[str]()
    if best < judge.aim:
        names = [linear.name for linear in quantize.linears(model)]
        alone_in_int8 = {
            name: score(smoothing, frozenset(names) - {name}) for name in dict.fromkeys(names)
        }
        for name in sorted(alone_in_int8, key=lambda name: alone_in_int8[name])[:MAX_KEPT]:
            keep.append(name)
            best = score(smoothing, frozenset(keep))
            if best >= judge.aim:
                break
    return Plan(peaks, smoothing, tuple(keep), best)


def measure_peaks(
    model: ModelProto, rows: Sequence[Row], *, pad_id: int, threads: int
) -> dict[str, npt.NDArray[np.float32]]:
    """Largest absolute value of each channel of every input that can be smoothed."""
    names = quantize.smoothable(model)
    if not names:
        return {}
    watched = ModelProto()
    watched.CopyFrom(model)
    for name in names:
        watched.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    encoder = Encoder(watched, pad_id=pad_id, threads=threads)
    peaks: dict[str, npt.NDArray[np.float32]] = {}
    for (index,) in alone(rows):
        for name, value in zip(names, encoder.run([rows[index]], names), strict=True):
            peak = np.abs(value).reshape(-1, value.shape[-1]).max(0)
            peaks[name] = np.maximum(peaks[name], peak) if name in peaks else peak
    return peaks
