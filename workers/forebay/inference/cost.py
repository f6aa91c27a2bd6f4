"""What a micro-batch takes, by its rows and the longest of them, as learned from those that ran.

    seconds = fixed + a x rows + b x rows x length + c x rows x length²

The last two are a transformer's: what is done for each token, and attention. The four are fitted by
recursive least squares, some batches at a time, with a memory that fades. None of them is ever
below nothing (Lawson and Hanson, Solving Least Squares Problems, 1974, chapter 23: of so few
unknowns every set that may be above nothing is tried). Errors count as shares of what a batch took,
so that short batches tell as much as long ones, and one that was held up tells little. Batches of
one size say nothing of the parts: then all is taken for what tokens cost.
"""

from itertools import product
from typing import Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Parts = tuple[float, float, float, float]

KEPT: Final = 0.99
"""Weight that a batch keeps with each one after it; about 100 count."""

REFIT: Final = 16
"""Batches after which the parts are fitted anew, once somebody asks for them."""

_AT_MOST: Final = 256
"""Batches that wait to be taken into the sums."""

_UNITS: Final = np.array([1.0, 8.0, 8.0 * 32, 8.0 * 32**2])
"""The features of a usual batch, so that none of them drowns the others."""

_PULL: Final = 1e-4
"""How much weighs, beside what was seen, that all is what tokens cost."""

_SETS: Final = np.array(list(product((True, False), repeat=4))[:-1])
_BOTH: Final = _SETS[:, :, None] & _SETS[:, None, :]
_ALONE: Final = np.eye(4) * ~_SETS[:, :, None]


class Cost:
    """Seconds of a batch, learned while batches run. Not safe to use from several threads."""

    def __init__(self) -> None:
        self._squares: Floats = np.zeros((4, 4))
        self._products: Floats = np.zeros(4)
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
        rows, length, seconds = np.array(self._new, np.float64).T
        self._new.clear()
        weights = KEPT ** np.arange(len(rows) - 1, -1, -1)
        tokens = rows * length
        features = np.stack([np.ones_like(rows), rows, tokens, tokens * length], axis=1)
        features /= _UNITS * seconds[:, None]
        weighted = features * weights[:, None]
        kept = KEPT ** len(rows)
        self._squares = self._squares * kept + features.T @ weighted
        self._products = self._products * kept + weighted.sum(axis=0)
        self._parts = _fitted(self._squares, self._products)
        self._fitted = True


def _fitted(squares: Floats, products: Floats) -> Parts:
    # Features in units in which each has a square of 1: then one size of number suits all.
    units = np.sqrt(squares.diagonal())
    units[units == 0.0] = 1.0  # nothing had a length
    gram = squares / np.outer(units, units)
    wanted = products / units
    start = np.array([0.0, 0.0, wanted[2], 0.0])
    gram = gram + _PULL * np.eye(4)
    wanted = wanted + _PULL * start
    found = np.linalg.solve(gram * _BOTH + _ALONE, (wanted * _SETS)[:, :, None])[:, :, 0]
    # Of those with nothing below nothing, the one that fits best; the token's part alone is one.
    misfit = np.einsum("ki,ij,kj->k", found, gram, found) - 2 * (found @ wanted)
    misfit[(found < 0).any(axis=1)] = np.inf
    fixed, row, token, square = (found[misfit.argmin()] / units / _UNITS).tolist()
    return fixed, row, token, square
