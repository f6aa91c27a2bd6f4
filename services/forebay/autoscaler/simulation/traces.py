"""Loads to replay: rows that come in each second, from a file or made up."""

import csv
import math
import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import msgspec

from forebay.contract.errors import InvalidInput

LONGEST_S: Final = 31 * 86_400
"""A trace of more seconds is refused."""


class Trace(msgspec.Struct, frozen=True):
    """A load.

    Attributes:
        name: for people.
        rows: that come in each second.
    """

    name: str
    rows: tuple[int, ...]

    @property
    def total(self) -> int:
        """Rows in all."""
        return sum(self.rows)


def read(path: Path) -> Trace:
    """A trace from a CSV file with the columns `second` and `rows`, in any order of lines.

    Seconds count from 0; those that are missing have no rows, those that come twice have both.

    Raises:
        InvalidInput: the file can't be read, or a line is wrong; the message names it.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"The trace {path} can't be read: {error}.") from error
    table = csv.DictReader(lines)
    if not {"second", "rows"} <= set(table.fieldnames or ()):
        raise InvalidInput(
            f"The trace {path} has no columns `second` and `rows`: its first line must name them."
        )
    found: dict[int, int] = {}
    for number, line in enumerate(table, 2):
        try:
            second, rows = int(float(line["second"])), int(line["rows"])
        except (TypeError, ValueError, OverflowError):
            second = rows = -1
        if not 0 <= second < LONGEST_S or rows < 0:
            raise InvalidInput(
                f"Line {number} of {path} is wrong: it must have a second from 0 to "
                f"{LONGEST_S - 1:,}, and a whole number of rows."
            )
        found[second] = found.get(second, 0) + rows
    if not found:
        raise InvalidInput(f"The trace {path} has no line beneath its first.")
    return Trace(path.stem, tuple(found.get(second, 0) for second in range(max(found) + 1)))


def _chance(seed: int) -> random.Random:
    return random.Random(seed)  # noqa: S311 - no secret, and the same every time


def _poisson(chance: random.Random, mean: float) -> int:
    """Rows of one second, where they come at random."""
    if mean > 50:
        return max(round(chance.gauss(mean, math.sqrt(mean))), 0)
    left, count = math.exp(-mean), 0
    product = chance.random()
    while product > left:
        product *= chance.random()
        count += 1
    return count


def diurnal(peak: float, seed: int = 1) -> Trace:
    """A day within four hours: from nothing in the night to `peak` rows a second at noon."""
    chance, day = _chance(seed), 4 * 3600
    means = (peak * max(math.sin(math.tau * (t / day - 0.25)), 0.0) ** 1.5 for t in range(day))
    return Trace("diurnal", tuple(_poisson(chance, mean) for mean in means))


def bursts(peak: float, seed: int = 2) -> Trace:
    """An hour of quiet, and every two to eight minutes ten seconds of up to thrice the peak."""
    chance, rows = _chance(seed), [0] * 3600
    at = chance.randint(20, 120)
    while at < len(rows) - 10:
        height = peak * chance.uniform(0.5, 3.0)
        for second in range(at, at + 10):
            rows[second] = _poisson(chance, height)
        at += chance.randint(120, 480)
    return Trace("bursts", tuple(rows))


def on_off(peak: float, seed: int = 3) -> Trace:
    """Two hours: five minutes at the peak, ten of nothing."""
    chance = _chance(seed)
    return Trace(
        "on-off",
        tuple(_poisson(chance, peak) if second % 900 < 300 else 0 for second in range(7200)),
    )


MADE: Final[Mapping[str, Callable[[float], Trace]]] = {
    "diurnal": diurnal,
    "bursts": bursts,
    "on-off": on_off,
}
"""Traces that are made up, by name; given the rows a second at their peak."""
