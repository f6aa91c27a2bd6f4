"""What a micro-batch takes, by its rows and the longest of them, as learned from those that ran.

    seconds = fixed + a x rows + b x rows x length + c x rows x length²

The last two are a transformer's: what is done for each token, and attention. The four are fitted by
recursive least squares, some batches at a time, with a memory that fades. None of them is ever
below nothing (Lawson and Hanson, Solving Least Squares Problems, 1974, chapter 23: of so few
unknowns every set that may be above nothing is tried). Errors count as shares of what a batch took,
so that short batches tell as much as long ones, and one that was held up tells little. Batches of
one size say nothing of the parts: then all is taken for what tokens cost.
"""

import math
from itertools import product
from typing import Final

Parts = tuple[float, float, float, float]
Matrix = list[list[float]]

KEPT: Final = 0.99
"""Weight that a batch keeps with each one after it; about 100 count."""

REFIT: Final = 16
"""Batches after which the parts are fitted anew, once somebody asks for them."""

_AT_MOST: Final = 256
"""Batches that wait to be taken into the sums."""

_UNITS: Final = (1.0, 8.0, 8.0 * 32, 8.0 * 32**2)
"""The features of a usual batch, so that none of them drowns the others."""

_PULL: Final = 1e-4
"""How much weighs, beside what was seen, that all is what tokens cost."""

_PARTS: Final = range(4)
_SETS: Final = [
    [part for part, free in zip(_PARTS, some, strict=True) if free]
    for some in product((True, False), repeat=4)
][:-1]


class Cost:
    """Seconds of a batch, learned while batches run. Not safe to use from several threads."""

    def __init__(self) -> None:
        self._squares: Matrix = [[0.0] * 4 for _ in _PARTS]
        self._products = [0.0] * 4
        self._new: list[tuple[int, int, float]] = []
        self._fitted = False
        self._parts: Parts = (0.0, 0.0, 0.0, 0.0)

    @property
    def known(self) -> bool:
        """Whether anything was seen."""
        return self._fitted or bool(self._new)

    def saw(self, rows: int, length: int, seconds: float) -> None:
        """A batch has run. One that took no time tells nothing.

        Args:
            rows: at least 1.
            length: of the longest, in tokens or whatever the backend pads; at least 1.
            seconds: what it took.
        """
        if 1e-9 < seconds < 1e9:
            self._new.append((rows, length, seconds))
            if len(self._new) >= _AT_MOST:
                self._take_in()

    @property
    def parts(self) -> Parts:
        """Seconds of any batch; a row; a padded token; a padded token times the longest row.

        All of them nothing until a batch was seen.
        """
        if self._new and (len(self._new) >= REFIT or not self._fitted):
            self._take_in()
        return self._parts

    def seconds(self, rows: int, length: int) -> float:
        """What a batch would take; nothing until one was seen."""
        fixed, row, token, square = self.parts
        return fixed + rows * (row + length * (token + square * length))

    def _take_in(self) -> None:
        squares, products = self._squares, self._products
        for rows, length, seconds in self._new:
            tokens = rows * length
            one, row, token, square = _UNITS
            told = (
                1.0 / (one * seconds),
                rows / (row * seconds),
                tokens / (token * seconds),
                tokens * length / (square * seconds),
            )
            for part in _PARTS:
                value, line = told[part], squares[part]
                products[part] = products[part] * KEPT + value
                for other in _PARTS:
                    line[other] = line[other] * KEPT + value * told[other]
        self._new.clear()
        self._parts = _fitted(squares, products)
        self._fitted = True


def _fitted(squares: Matrix, products: list[float]) -> Parts:
    # Features in units in which each has a square of 1: then one size of number suits all.
    units = [math.sqrt(squares[part][part]) or 1.0 for part in _PARTS]  # nothing had a length
    gram = [[squares[a][b] / (units[a] * units[b]) for b in _PARTS] for a in _PARTS]
    wanted = [products[part] / units[part] for part in _PARTS]
    start = wanted[2]
    for part in _PARTS:
        gram[part][part] += _PULL
    wanted[2] += _PULL * start
    best, found = math.inf, (0.0, 0.0, 0.0, 0.0)
    for free in _SETS:
        solved = _solved([[gram[a][b] for b in free] + [wanted[a]] for a in free])
        # Of those with nothing below nothing, the one that fits best; the token's part alone is
        # one. Where a solution is exact, its misfit is what it takes off.
        misfit = -sum(wanted[part] * value for part, value in zip(free, solved, strict=True))
        if misfit < best and min(solved) >= 0.0:
            best = misfit
            whole = dict(zip(free, solved, strict=True))
            found = (whole.get(0, 0.0), whole.get(1, 0.0), whole.get(2, 0.0), whole.get(3, 0.0))
    fixed, row, token, square = (
        value / units[part] / _UNITS[part] for part, value in zip(_PARTS, found, strict=True)
    )
    return fixed, row, token, square


def _solved(lines: Matrix) -> list[float]:
    """A system with a positive definite matrix, its right side behind it (Gauss; no pivots)."""
    count = len(lines)
    for at in range(count):
        line = lines[at]
        for below in range(at + 1, count):
            other = lines[below]
            share = other[at] / line[at]
            for column in range(at, count + 1):
                other[column] -= share * line[column]
    solved = [0.0] * count
    for at in reversed(range(count)):
        line = lines[at]
        left = line[count] - sum(line[after] * solved[after] for after in range(at + 1, count))
        solved[at] = left / line[at]
    return solved
