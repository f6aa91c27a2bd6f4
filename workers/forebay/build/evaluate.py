"""What an artifact loses and wins against full precision, measured on real text."""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from statistics import median, quantiles

import numpy as np
import numpy.typing as npt

from forebay.build.encoder import Encoder, Row, Vectors, alone, bucketed, mixed
from forebay.contract.manifest import Accuracy, Speed

_TURNS = 3
_ROUNDS = 7


def accuracy(expected: Vectors, candidate: Encoder, rows: Sequence[Row]) -> Accuracy:
    """Compare a graph with full precision row by row, and with itself in other company.

    Args:
        expected: embeddings in full precision, `[rows, dimensions]`.
        candidate: the artifact's graph.
        rows: token ids of texts that calibration has not seen.
    """
    full = unit(expected)
    got = unit(candidate.embed(rows, bucketed(rows)))
    cosines = (full * got).sum(1)
    by_itself = unit(candidate.embed(rows, alone(rows)))
    in_company = (got, unit(candidate.embed(rows, mixed(rows))))
    return Accuracy(
        texts=len(rows),
        mean_cosine=_cosine(cosines.mean()),
        min_cosine=_cosine(cosines.min()),
        neighbour_agreement=float((_neighbours(full) == _neighbours(got)).mean()),
        invariance=_cosine(min((by_itself * other).sum(1).min() for other in in_company)),
    )


def mean_cosine(expected: Vectors, got: Vectors) -> float:
    """Mean over rows of the cosine of two embeddings of the same text."""
    return _cosine((unit(expected) * unit(got)).sum(1).mean())


def ratio(reference: Encoder, candidate: Encoder, rows: Sequence[Row]) -> float:
    """How many times the reference's rows per second the candidate runs, one pass at a time.

    Both run each batch in turns, and the best of a batch's rounds counts: other processes on the
    machine disturb that least.
    """
    seconds = [0.0, 0.0]
    for batch in bucketed(rows):
        group = [rows[index] for index in batch]
        rounds = [[_timed(one, group) for one in (reference, candidate)] for _ in range(_TURNS)]
        for index in range(len(seconds)):
            seconds[index] += min(times[index] for times in rounds)
    return round(seconds[0] / seconds[1], 3)


def speed(
    reference: Encoder, candidate: Encoder, rows: Sequence[Row], *, threads: int, streams: int
) -> Speed:
    """Rows per second of both graphs as they are served, one after the other in each round.

    Args:
        reference: the FP32 graph.
        candidate: the artifact's graph.
        rows: what to run, in batches of like length.
        threads: of one forward pass; told only, the graphs have them.
        streams: forward passes at once.
    """
    batches = [[rows[index] for index in batch] for batch in bucketed(rows)]
    with ThreadPoolExecutor(streams) as pool:

        def seconds(encoder: Encoder) -> float:
            return _elapsed(lambda: list(pool.map(partial(_timed, encoder), batches)))

        rounds = [(seconds(reference), seconds(candidate)) for _ in range(_ROUNDS)]
    slow, fast = (median(times) for times in zip(*rounds, strict=True))
    low, middle, high = quantiles([a / b for a, b in rounds], n=4, method="inclusive")
    return Speed(
        fp32_rows_s=round(len(rows) / slow, 1),
        rows_s=round(len(rows) / fast, 1),
        ratio=round(middle, 3),
        threads=threads,
        streams=streams,
        low=round(low, 3),
        high=round(high, 3),
    )


def _timed(encoder: Encoder, rows: Sequence[Row]) -> float:
    return _elapsed(lambda: encoder.run(rows, [encoder.output]))


def _elapsed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
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
