"""Scores against scores."""

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]


def pearson(one: Values, other: Values) -> float:
    """Linear correlation, -1..1; 0 where either never changes, or there are fewer than two rows."""
    if len(one) < 2:
        return 0.0
    a, b = one - one.mean(), other - other.mean()
    size = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / size if size > 0 else 0.0


def spearman(one: Values, other: Values) -> float:
    """Pearson's of the ranks (Spearman 1904), those with equal values sharing their mean."""
    return pearson(ranks(one), ranks(other))


def ranks(values: Values) -> Values:
    """Rank of each value from 1; equal ones get the mean of theirs. float64 `[rows]`."""
    _, at, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray((last - (counts - 1) / 2)[at], np.float64)
