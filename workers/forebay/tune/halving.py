"""How many candidates are tried, for how long, and which of them go on.

Successive halving (Karnin, Koren and Somekh 2013; Jamieson and Talwalkar 2016, arXiv 1502.07943):
all are measured for a short time, the better half for twice as long, and so on. Who is better is
told by Pareto front, as in its form for several objectives (Schmucker et al. 2021, arXiv
2106.12639), and within a front by the score.
"""

from collections.abc import Sequence

import msgspec

from forebay.tune.pareto import Point, fronts

LEAST_S = 0.4
"""A shorter look at a candidate tells nothing."""

MOST_S = 4.0
"""A longer one, in the first rung, hardly tells more."""


class Rung(msgspec.Struct, frozen=True):
    """One round of halving.

    Attributes:
        arms: how many candidates are in it.
        seconds: for how long each is measured.
    """

    arms: int
    seconds: float


def plan(*, arms: int, finalists: int, seconds: float, overhead_s: float) -> list[Rung]:
    """Rungs that fit into the time: fewer candidates rather than looks that are too short.

    Args:
        arms: candidates that there are.
        finalists: as many are to be left after the last rung.
        seconds: for all.
        overhead_s: what each look takes beside what is measured: its process has to start.

    Returns:
        The rungs, the first with at most `arms`; none if there are no more than the finalists.
    """
    while arms > finalists:
        sizes = [arms]
        while (size := max(finalists, -(-sizes[-1] // 2))) > finalists:
            sizes.append(size)
        units = sum(size * 2**rung for rung, size in enumerate(sizes))
        first = (seconds - overhead_s * sum(sizes)) / units
        if first >= LEAST_S or arms == finalists + 1:
            first = min(MOST_S, max(LEAST_S, first))
            return [Rung(size, first * 2**rung) for rung, size in enumerate(sizes)]
        arms -= 1
    return []


def promote(points: Sequence[Point], scores: Sequence[float], *, keep: int) -> list[int]:
    """Indices of the candidates that go on.

    Args:
        points: what counts of each, the higher the better.
        scores: which of a front is best, likewise.
        keep: how many.
    """
    ranked = [
        index
        for front in fronts(points)
        for index in sorted(front, key=lambda index: scores[index], reverse=True)
    ]
    return sorted(ranked[:keep])
