"""Finds, on calibration texts, how strongly a graph's activations are best smoothed."""

from collections.abc import Callable

import msgspec
import numpy as np
import numpy.typing as npt
from onnx import ModelProto, TensorProto, helper

from forebay.build import graph, quantize
from forebay.build.encoder import alone
from forebay.build.linears import smoothable
from forebay.build.trial import Trials

ALPHAS = (0.0, 0.5, 0.6, 0.7)
"""Smoothing strengths tried for the whole graph."""

NUDGE = 0.15
"""How much stronger and weaker is tried for each part of the graph."""

PARTS = 3
"""Parts of the graph, by depth."""

Peaks = dict[str, npt.NDArray[np.float32]]
"""See `quantize.Peaks`."""


class Smoothed(msgspec.Struct, frozen=True):
    """How to smooth.

    Attributes:
        alpha: the best of `ALPHAS` for the whole graph.
        inputs: the strength for each input that is smoothed.
        parts: the strength for each part, the first layers first.
        closeness: to FP32, on the calibration texts.
    """

    alpha: float
    inputs: dict[str, float]
    parts: tuple[float, ...]
    closeness: float


def smooth(
    model: ModelProto,
    trials: Trials,
    peaks: Peaks,
    *,
    progress: Callable[[float], None] = lambda _: None,
) -> Smoothed:
    """Try each strength for the whole graph, and if the aim asks for more, for parts of it.

    Args:
        model: the FP32 graph.
        trials: of that graph.
        peaks: see `measure_peaks`.
        progress: told the share of the work done, 0..1.
    """
    names = smoothable(model)
    parts = [part.tolist() for part in np.array_split(np.array(names), PARTS) if len(part)]
    tries = len(ALPHAS) + 2 * len(parts)
    tried = 0

    def score(alphas: list[float]) -> float:
        nonlocal tried
        progress(tried / tries)
        tried += 1
        given = _by_input(parts, alphas)
        return trials.closeness(quantize.quantize(model, peaks=peaks, smoothing=given))

    if not parts:
        return Smoothed(0.0, {}, (), score([]))
    scores = {alpha: score([alpha] * len(parts)) for alpha in ALPHAS}
    alpha = max(ALPHAS, key=lambda one: scores[one])
    best, chosen = scores[alpha], [alpha] * len(parts)
    for index in range(len(parts)):
        if best >= trials.aim:
            break
        for nudged in (round(alpha - NUDGE, 2), round(alpha + NUDGE, 2)):
            if not 0 <= nudged < 1:
                continue
            other = [*chosen[:index], nudged, *chosen[index + 1 :]]
            closeness = score(other)
            if closeness > best:
                best, chosen = closeness, other
    return Smoothed(alpha, _by_input(parts, chosen), tuple(chosen), best)


def measure_peaks(model: ModelProto, trials: Trials) -> Peaks:
    """Largest absolute value of each channel of every input that can be smoothed."""
    names = smoothable(model)
    if not names:
        return {}
    watched = graph.copied(model)
    for name in names:
        watched.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    encoder = trials.encoder(watched)
    peaks: Peaks = {}
    for (index,) in alone(trials.rows):
        for name, value in zip(names, encoder.run([trials.rows[index]], names), strict=True):
            peak = np.abs(value).reshape(-1, value.shape[-1]).max(0)
            peaks[name] = np.maximum(peaks[name], peak) if name in peaks else peak
    return peaks


def _by_input(parts: list[list[str]], alphas: list[float]) -> dict[str, float]:
    return {
        name: alpha for part, alpha in zip(parts, alphas, strict=True) for name in part if alpha > 0
    }
