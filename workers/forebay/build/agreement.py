"""How far a classifier's scores agree with full precision, and with themselves in other company."""

from collections.abc import Sequence

import numpy as np

from forebay.build.encoder import Encoder, Row, Vectors, alone, bucketed, mixed
from forebay.contract.manifest import Agreement
from forebay.contract.rows import Function


def scores(function: Function, logits: Vectors) -> Vectors:
    """What is told of logits: `function` over the last axis."""
    if function is Function.SOFTMAX:
        powers = np.exp(logits - logits.max(-1, keepdims=True))
        return np.asarray(powers / powers.sum(-1, keepdims=True), np.float32)
    if function is Function.SIGMOID:
        return np.asarray(0.5 + 0.5 * np.tanh(logits / 2), np.float32)
    return logits


def mean_difference(expected: Vectors, got: Vectors, function: Function) -> float:
    """Mean over rows of what the score that is off most is off by; see `Agreement`."""
    differences = _differences(expected, got) / _scale(expected, function)
    return round(float(differences.mean()), 7)


def measured(
    expected: Vectors, candidate: Encoder, rows: Sequence[Row], function: Function
) -> Agreement:
    """Compare a graph with full precision row by row, and with itself in other company.

    Args:
        expected: scores in full precision, run in buckets.
        candidate: the artifact's graph.
        rows: of texts that calibration has not seen.
        function: makes scores of logits.
    """

    def told(batches: Sequence[Sequence[int]]) -> Vectors:
        return scores(function, candidate.logits(rows, batches))

    got = told(bucketed(rows))
    return _agreement(
        expected,
        got,
        alone=told(alone(rows)),
        in_company=(got, told(mixed(rows))),
        function=function,
    )


def compared(expected: Vectors, *, got: Vectors, alone: Vectors, function: Function) -> Agreement:
    """The same of logits that are there already, each `[rows, labels]`.

    Args:
        expected: of the reference.
        got: of the candidate, its rows run together.
        alone: of the candidate, its rows run one by one.
        function: makes scores of logits.
    """
    told = [scores(function, logits) for logits in (expected, got, alone)]
    return _agreement(told[0], told[1], alone=told[2], in_company=(told[1],), function=function)


def _agreement(
    expected: Vectors,
    got: Vectors,
    *,
    alone: Vectors,
    in_company: Sequence[Vectors],
    function: Function,
) -> Agreement:
    """What scores come to; see `Agreement`."""
    scale = _scale(expected, function)
    differences = _differences(expected, got) / scale
    return Agreement(
        rows=len(expected),
        same=_same_order(expected, got) if expected.shape[1] == 1 else _same_label(expected, got),
        mean_difference=mean_difference(expected, got, function),
        max_difference=round(float(differences.max()), 7),
        variance=round(
            max(float(_differences(alone, other).max()) for other in in_company) / scale, 7
        ),
    )


def _scale(expected: Vectors, function: Function) -> float:
    """What counts as 1: scores without a function have a scale of their own, their spread."""
    return (float(expected.std()) or 1.0) if function is Function.NONE else 1.0


def _differences(expected: Vectors, got: Vectors) -> Vectors:
    return np.asarray(np.abs(expected - got).max(-1))


def _same_label(expected: Vectors, got: Vectors) -> float:
    return float((expected.argmax(-1) == got.argmax(-1)).mean())


def _same_order(expected: Vectors, got: Vectors) -> float:
    """Share of pairs of rows that both scores rank the same way."""
    above, below = np.triu_indices(len(expected), 1)
    signs = [np.sign(scores[above, 0] - scores[below, 0]) for scores in (expected, got)]
    return float((signs[0] == signs[1]).mean()) if len(above) else 1.0
