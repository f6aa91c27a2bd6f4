"""Has Forebay become slower beside the others? Ratios of a run against those that are kept."""

from collections.abc import Sequence
from enum import StrEnum

import msgspec

from tests.bench import forebay_server
from tests.bench.comparisons import Comparison, Ratio
from tests.bench.goals import COMPARED, GOALS, judge
from tests.bench.stats import Sample, Spread
from tests.bench.table import MISSING, Table, figure

TOLERANCE = 0.1
"""A median may be lower by this share; short runs on a shared machine differ by as much."""


class Change(StrEnum):
    """What came of a ratio."""

    SAME = "as before"
    BETTER = "better"
    WORSE = "**worse**"
    NOT_MEASURED = "not measured"


class Compared(msgspec.Struct, frozen=True):
    """A ratio as it is kept, and as it was measured now; both in its unit.

    Attributes:
        failed: requests that failed in this run, of both contenders.
    """

    ratio: Ratio
    kept: Spread
    now: Spread | None
    failed: int = 0

    @property
    def change(self) -> Change:
        """Worse or better only if the medians are far apart and the spreads do not touch."""
        if self.now is None:
            return Change.NOT_MEASURED
        low, high = 1 - TOLERANCE, 1 + TOLERANCE
        if self.failed:
            return Change.WORSE
        if self.now.median < low * self.kept.median and self.now.high < self.kept.low:
            return Change.WORSE
        if self.now.median > high * self.kept.median and self.now.low > self.kept.high:
            return Change.BETTER
        return Change.SAME


def compare(
    kept: Sequence[Sample],
    now: Sequence[Sample],
    comparisons: Sequence[Comparison] = (*GOALS, *COMPARED),
) -> list[Compared]:
    """Every ratio that is kept, beside what it is now. Times are passed over: machines differ."""
    found = []
    for comparison in comparisons:
        if not isinstance(comparison, Ratio):
            continue
        before, after = judge(comparison, kept), judge(comparison, now)
        if before.value is not None:
            names = {forebay_server.NAME, comparison.other}
            failed = sum(
                s.measured.failed
                for s in now
                if s.contender in names and s.load == comparison.load.name
            )
            found.append(Compared(comparison, before.value, after.value, failed))
    return found


def has_worse(compared: Sequence[Compared]) -> bool:
    """Whether anything got worse."""
    return any(one.change is Change.WORSE for one in compared)


def changes_table(compared: Sequence[Compared]) -> Table:
    """What is kept, what is now, and what came of it; what got worse comes first."""
    rows = []
    for one in sorted(compared, key=lambda one: one.change is not Change.WORSE):
        note = f"{one.change} ({one.failed:,} requests failed)" if one.failed else str(one.change)
        rows.append((one.ratio.title, _told(one.kept, one), _told(one.now, one), note))
    return Table("Against the ratios that are kept", ("", "kept", "now", ""), tuple(rows))


def _told(value: Spread | None, one: Compared) -> str:
    if value is None:
        return MISSING
    return f"{figure(value.median)}{one.ratio.unit} ({figure(value.low)}–{figure(value.high)})"
