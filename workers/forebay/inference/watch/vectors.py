"""Bins of token ids and of vectors."""

from typing import Any

import numpy as np
import numpy.typing as npt

from forebay.inference.watch import bins

PIECES = 64
PLANES = 4
MOST_PIECES = 512

_MULTIPLIER = np.uint32(2_654_435_761)  # Knuth's, of multiplicative hashing
_SHIFT = np.uint32(32 - 6)


def pieces(data: Any) -> npt.NDArray[np.int64] | None:
    """How many of a row's token ids fall into each of 64 buckets, by a hash: int64 `[64]`.

    None if the row has no ids.

    What words are used moves these, in any language; what a vocabulary doesn't know is one id, and
    so shows in one bucket.
    """
    if not isinstance(data, np.ndarray) or data.dtype != np.int64 or data.ndim != 1:
        return None
    ids: npt.NDArray[np.int64] = data[:MOST_PIECES]
    hashed = (ids.astype(np.uint32) * _MULTIPLIER) >> _SHIFT
    return np.bincount(hashed, minlength=PIECES)


def embedding(vector: bytes) -> tuple[str, str]:
    """Bins of a vector's length, and of its direction.

    The direction is on which side of each of four planes it lies (random hyperplanes, Charikar
    2002): 16 bins, the same planes everywhere.
    """
    values = np.frombuffer(vector, "<f4")
    sides = _planes(len(values)) @ values > 0
    code = int(np.packbits(sides, bitorder="little")[0])
    return bins.ratio(float(np.sqrt(values @ values))), str(code)


def best(scores: bytes) -> float:
    """The first of a list of scores."""
    return float(np.frombuffer(scores, "<f4", count=1)[0])


_made: dict[int, npt.NDArray[np.float32]] = {}


def _planes(dimensions: int) -> npt.NDArray[np.float32]:
    planes = _made.get(dimensions)
    if planes is None:
        drawn = np.random.default_rng(dimensions).standard_normal((PLANES, dimensions))
        planes = _made[dimensions] = drawn.astype(np.float32)
    return planes
