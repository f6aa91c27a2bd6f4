"""How far chance may have moved a figure, and whether two figures differ by more than that."""

import math
from collections.abc import Callable, Mapping, Sequence

import msgspec
import numpy as np
import numpy.typing as npt

Columns = Mapping[str, npt.NDArray[np.float64]]
"""What was counted of each row, by name: `[rows]` or `[rows, labels]`."""

RESAMPLES = 1_000
MOST_DRAWN = 50_000_000
"""Rows drawn in all: of very large files fewer resamples are taken, but never under 200."""

LEVEL = 0.95


class Measure(msgspec.Struct, frozen=True):
    """A figure that is computed from rows.

    Attributes:
        name: as people know it.
        of: computes it.
        lower_is_better: whether less is better.
        hits: column of 0 and 1 whose mean it is, if it is one.
        varied: columns that must not be the same in all rows; else it is not defined.
    """

    name: str
    of: Callable[[Columns], float]
    lower_is_better: bool = False
    hits: str = ""
    varied: tuple[str, ...] = ()

    def is_defined(self, rows: Columns) -> bool:
        """Whether there is such a figure of these rows."""
        return all(np.ptp(rows[name]) > 0 for name in self.varied)


class Difference(msgspec.Struct, frozen=True):
    """Two evaluations' figure, held against each other on the same rows.

    Attributes:
        measure: its name.
        here: the first's.
        there: the other's.
        low: lower end of the 95 % interval of `here - there`.
        high: and its upper end.
        p_value: how often chance alone would make as much of a difference.
        test: what told that: `McNemar` or `paired bootstrap`.
    """

    measure: str
    here: float
    there: float
    low: float
    high: float
    p_value: float
    test: str

    @property
    def is_chance(self) -> bool:
        """Whether chance could explain it, at the usual 5 %."""
        return self.p_value >= 1 - LEVEL


def intervals(
    measures: Sequence[Measure], columns: Columns, *, seed: int = 0
) -> list[tuple[float, float]]:
    """The 95 % interval of each figure, by the percentile bootstrap over rows.

    Efron and Tibshirani 1993, chapter 13. The same seed gives the same intervals.
    """
    drawn = _resampled(columns, seed, lambda rows: [one.of(rows) for one in measures])
    return [_ends(drawn[:, index]) for index in range(len(measures))]


def differences(
    measures: Sequence[Measure], here: Columns, there: Columns, *, seed: int = 0
) -> list[Difference]:
    """Hold two evaluations of the same rows, in the same order, against each other.

    Shares of rows that are right by McNemar's exact test, other figures by the paired bootstrap
    (Koehn 2004): each resample takes the same rows of both.

    What is not defined of either is left out.
    """
    measures = [one for one in measures if one.is_defined(here) and one.is_defined(there)]
    both = {f"a {name}": column for name, column in here.items()}
    both |= {f"b {name}": column for name, column in there.items()}

    def apart(rows: Columns) -> list[float]:
        one, other = _side(rows, "a "), _side(rows, "b ")
        return [measure.of(one) - measure.of(other) for measure in measures]

    drawn = _resampled(both, seed, apart)
    found: list[Difference] = []
    for index, measure in enumerate(measures):
        differs = drawn[:, index]
        if measure.hits:
            a, b = here[measure.hits] > 0, there[measure.hits] > 0
            p_value, test = mcnemar(int((a & ~b).sum()), int((~a & b).sum())), "McNemar"
        else:
            tails = min(float((differs <= 0).mean()), float((differs >= 0).mean()))
            p_value, test = min(1.0, max(2 * tails, 1 / len(differs))), "paired bootstrap"
        low, high = _ends(differs)
        found.append(
            Difference(measure.name, measure.of(here), measure.of(there), low, high, p_value, test)
        )
    return found


def mcnemar(only_here: int, only_there: int) -> float:
    """Two-sided p-value of McNemar's test (1947), in its exact form.

    Of the rows that only one side has right, as many should be either's if both are as good: a
    binomial with 1/2.

    Args:
        only_here: rows that only the first has right.
        only_there: rows that only the second has right.
    """
    number, less = only_here + only_there, min(only_here, only_there)
    if not number:
        return 1.0
    # Sum of C(number, k) / 2^number for k up to `less`, each term from the one before, as logs.
    steps = np.log(np.arange(number, number - less, -1)) - np.log(np.arange(1, less + 1))
    terms = np.concatenate([[0.0], np.cumsum(steps)]) - number * math.log(2)
    return min(1.0, 2 * float(np.exp(terms).sum()))


def _resampled(
    columns: Columns, seed: int, figures: Callable[[Columns], Sequence[float]]
) -> npt.NDArray[np.float64]:
    """Figures of resamples: `[resamples, figures]`."""
    size = len(next(iter(columns.values())))
    draws = np.random.default_rng(seed)
    times = max(200, min(RESAMPLES, MOST_DRAWN // max(size, 1)))
    return np.array(
        [
            figures({name: column[chosen] for name, column in columns.items()})
            for chosen in (draws.integers(size, size=size) for _ in range(times))
        ]
    )


def _side(rows: Columns, prefix: str) -> Columns:
    return {
        name.removeprefix(prefix): column
        for name, column in rows.items()
        if name.startswith(prefix)
    }


def _ends(drawn: npt.NDArray[np.float64]) -> tuple[float, float]:
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
