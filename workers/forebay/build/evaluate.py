"""What an artifact loses and wins against full precision, measured on real text."""

import time
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from forebay.build.encoder import Encoder, Row, Vectors, alone, bucketed, mixed
from forebay.contract.manifest import Accuracy, Speed

_ROUNDS = 3


def accuracy(reference: Encoder, candidate: Encoder, rows: Sequence[Row]) -> Accuracy:
    """Compare both graphs row by row, and the candidate with itself in other company.

    Args:
        reference: the FP32 graph.
        candidate: the artifact's graph.
        rows: token ids of texts that calibration has not seen.
    """
    batches = bucketed(rows)
    expected = unit(reference.embed(rows, batches))
    got = unit(candidate.embed(rows, batches))
    cosines = (expected * got).sum(1)
    by_itself = unit(candidate.embed(rows, alone(rows)))
    in_company = (got, unit(candidate.embed(rows, mixed(rows))))
    return Accuracy(
        texts=len(rows),
        mean_cosine=_cosine(cosines.mean()),
        min_cosine=_cosine(cosines.min()),
        neighbour_agreement=float((_neighbours(expected) == _neighbours(got)).mean()),
        invariance=_cosine(min((by_itself * other).sum(1).min() for other in in_company)),
    )


def mean_cosine(expected: Vectors, got: Vectors) -> float:
    """Mean over rows of the cosine of two embeddings of the same text."""
    return _cosine((unit(expected) * unit(got)).sum(1).mean())


def speed(reference: Encoder, candidate: Encoder, rows: Sequence[Row], *, threads: int) -> Speed:
    """Rows per second of both graphs, bucketed by length.

    Both run each batch in turns, and the best of a batch's rounds counts: other processes on the
    machine disturb that least.
    """
    encoders = (reference, candidate)
    seconds = [0.0, 0.0]
    for batch in bucketed(rows):
        group = [rows[index] for index in batch]
        rounds = [[_timed(encoder, group) for encoder in encoders] for _ in range(_ROUNDS)]
        for index in range(len(encoders)):
            seconds[index] += min(times[index] for times in rounds)
    slow, fast = (len(rows) / total for total in seconds)
    return Speed(
        fp32_rows_s=round(slow, 1),
        rows_s=round(fast, 1),
        ratio=round(fast / slow, 3),
        threads=threads,
    )


def _timed(encoder: Encoder, rows: Sequence[Row]) -> float:
    started = time.perf_counter()
    encoder.run(rows, [encoder.output])
    return time.perf_counter() - started


def unit(vectors: Vectors) -> npt.NDArray[np.float64]:
    """Rows scaled to unit length, in double precision so that a cosine of 1 comes out as 1."""
    wide = vectors.astype(np.float64)
    return np.asarray(wide / np.linalg.norm(wide, axis=1, keepdims=True))


def _neighbours(vectors: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    likeness = vectors @ vectors.T
    np.fill_diagonal(likeness, -np.inf)
    return np.asarray(likeness.argmax(1), np.int64)


def _cosine(value: float) -> float:
    return round(float(value), 7)
