"""Figures of repeated measurements: percentiles, and medians with their spread."""

import math
from collections.abc import Sequence
from statistics import median

import msgspec


class Spread(msgspec.Struct, frozen=True):
    """The median of some values, the lowest and the highest."""

    median: float
    low: float
    high: float


def spread(values: Sequence[float]) -> Spread:
    """Median, lowest and highest of at least one value."""
    return Spread(median(values), min(values), max(values))


def percentile(values: Sequence[float], share: float, *, late: int = 0) -> float:
    """The smallest value that so many of a hundred values don't exceed (nearest rank).

    Args:
        values: in any order.
        share: 0 to 100.
        late: values beside them that are larger than all, but not known.

    Returns:
        The value; infinite if it is one of those that are not known.

    Raises:
        ValueError: there are no values at all.
    """
    count = len(values) + late
    if not count:
        raise ValueError("no values, no percentile")
    rank = max(1, math.ceil(share / 100 * count))
    return math.inf if rank > len(values) else sorted(values)[rank - 1]


def cost_per_million(cost_per_hour: float, rows_s: float) -> float:
    """What a million rows cost on a machine that costs so much an hour, in the same currency."""
    return cost_per_hour / (rows_s * 3_600) * 1_000_000
