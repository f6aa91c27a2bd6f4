"""Finds, on calibration texts, how a graph is best quantized."""

from collections.abc import Callable, Sequence

import msgspec
import numpy as np
import numpy.typing as npt
from onnx import ModelProto, TensorProto, helper

from forebay.build import evaluate, quantize
from forebay.build.encoder import Encoder, Ids, alone, bucketed

ALPHAS = (0.0, 0.5, 0.6, 0.7)
"""Smoothing strengths tried."""

AIM = 0.998
"""Mean cosine to FP32 below which products are put back into FP32."""

MAX_KEPT = 4
"""Most products put back; a model that needs more is not one to quantize this way."""


class Plan(msgspec.Struct, frozen=True):
    """How to quantize.

    Attributes:
        peaks: see `quantize.Peaks`.
        smoothing: the best of `ALPHAS`.
        keep: products to leave in FP32, the most sensitive first.
        mean_cosine: to FP32, on the calibration texts.
    """

    peaks: dict[str, npt.NDArray[np.float32]]
    smoothing: float
    keep: tuple[str, ...]
    mean_cosine: float


def plan(
    model: ModelProto,
    rows: Sequence[Ids],
    *,
    pad_id: int,
    threads: int,
    progress: Callable[[float], None] = lambda _: None,
) -> Plan:
    """Try each smoothing strength and keep the best; then, if need be, keep products in FP32.

    Args:
        model: the FP32 graph.
        rows: token ids of the calibration texts.
        pad_id: token id for padding.
        threads: threads of one forward pass.
        progress: told the share of the work done, 0..1.
    """
    batches = bucketed(rows)
    expected = Encoder(model, pad_id=pad_id, threads=threads).embed(rows, batches)
    peaks = measure_peaks(model, rows, pad_id=pad_id, threads=threads)

    def score(alpha: float, keep: frozenset[str]) -> float:
        candidate = quantize.quantize(model, peaks=peaks, smoothing=alpha, keep=keep)
        encoder = Encoder(candidate, pad_id=pad_id, threads=threads)
        return evaluate.mean_cosine(expected, encoder.embed(rows, batches))

    scores: dict[float, float] = {}
    for alpha in ALPHAS:
        progress((1 + len(scores)) / (1 + len(ALPHAS)))
        scores[alpha] = score(alpha, frozenset())
    # Five digits: the last ones differ from machine to machine and must not choose.
    smoothing = max(ALPHAS, key=lambda alpha: round(scores[alpha], 5))
    best, keep = scores[smoothing], list[str]()
    if best < AIM:
        names = [linear.name for linear in quantize.linears(model)]
        alone_in_int8 = {
            name: score(smoothing, frozenset(names) - {name}) for name in dict.fromkeys(names)
        }
        for name in sorted(alone_in_int8, key=lambda name: alone_in_int8[name])[:MAX_KEPT]:
            keep.append(name)
            best = score(smoothing, frozenset(keep))
            if best >= AIM:
                break
    return Plan(peaks, smoothing, tuple(keep), best)


def measure_peaks(
    model: ModelProto, rows: Sequence[Ids], *, pad_id: int, threads: int
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
