"""Has Forebay become slower beside the others? Ratios of a run against those that are kept.

What is compared are ratios and shares, never times: machines differ.
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import TypeGuard

import msgspec

from tests.bench import forebay_server
from tests.bench.comparisons import PERCENT, TIMES, Bound, Comparison, Ratio
from tests.bench.goals import COMPARED, GOALS, TIMED, judge
from tests.bench.loads import Section
from tests.bench.stats import Figures, Sample, Spread
from tests.bench.table import MISSING, Table, figure

TOLERANCE = 0.1
"""A median may be lower by this share; short runs on a shared machine differ by as much."""


class Change(StrEnum):
    """What came of a ratio."""

    SAME = "as before"
    BETTER = "better"
    WORSE = "**worse**"
    NOT_CHECKED = "not checked: `make bench` measures it"


class Compared(msgspec.Struct, frozen=True):
    """A ratio or share as it is kept, and as it was measured now; both in its unit.

    Attributes:
        of: what is compared.
        failed: requests that failed in this run, of both contenders.
    """

    of: Ratio | Bound
    kept: Spread
    now: Spread | None
    failed: int = 0

    @property
    def change(self) -> Change:
        """Worse or better only if the medians are far apart and the spreads do not touch.

        What has no other beside it varies more: it is worse only if it misses its goal, too.
        """
        if self.now is None:
            return Change.NOT_CHECKED
        if self.failed:
            return Change.WORSE
        lower, higher = _is_below(self.now, self.kept), _is_below(self.kept, self.now)
        if isinstance(self.of, Ratio):
            worse, better = lower, higher
        else:
            least, most = self.of.least, self.of.most
            too_low = least is not None and self.now.median < least
            too_high = most is not None and self.now.median > most
            worse = (too_low and lower) or (too_high and higher)
            # Between two bounds neither direction is the better one.
            better = (most is None and higher) or (least is None and lower)
        return Change.WORSE if worse else Change.BETTER if better else Change.SAME


def _is_below(one: Spread, other: Spread) -> bool:
    return one.median < (1 - TOLERANCE) * other.median and one.high < other.low


def compare(
    kept: Sequence[Sample],
    now: Sequence[Sample],
    comparisons: Sequence[Comparison] = (*GOALS, *COMPARED),
    *,
    kept_figures: Figures | None = None,
    now_figures: Figures | None = None,
) -> list[Compared]:
    """Every ratio and share that is kept, beside what it is now."""
    found = []
    for comparison in comparisons:
        if not _is_compared(comparison):
            continue
        before = judge(comparison, kept, kept_figures)
        after = judge(comparison, now, now_figures)
        if before.value is not None:
            failed = _failed(now, comparison) if isinstance(comparison, Ratio) else 0
            found.append(Compared(comparison, before.value, after.value, failed))
    return found


def _is_compared(comparison: Comparison) -> TypeGuard[Ratio | Bound]:
    if isinstance(comparison, Bound):
        return bool(comparison.goal) and comparison.unit in (PERCENT, TIMES)
    return isinstance(comparison, Ratio) and comparison not in TIMED


def _failed(samples: Sequence[Sample], ratio: Ratio) -> int:
    names = {forebay_server.NAME, ratio.other}
    return sum(
        s.measured.failed for s in samples if s.contender in names and s.load == ratio.load.name
    )


def worse(compared: Sequence[Compared]) -> list[Compared]:
    """What got worse."""
    return [one for one in compared if one.change is Change.WORSE]


def where(compared: Sequence[Compared]) -> tuple[str, ...]:
    """Loads and sections that measure these once more, as `--only` takes them."""
    named = [
        one.of.load.name if isinstance(one.of, Ratio) else Section(one.of.figure.split("-")[0])
        for one in compared
    ]
    return tuple(dict.fromkeys(map(str, named)))


def confirmed(first: Sequence[Compared], second: Sequence[Compared]) -> list[Compared]:
    """What two looks say: worse is only what was so in both.

    Args:
        first: everything.
        second: of a run that measured what was worse once more.
    """
    again = {one.of.title: one for one in second if one.now is not None}
    return [again.get(one.of.title, one) if one.change is Change.WORSE else one for one in first]


def changes_table(compared: Sequence[Compared]) -> Table:
    """What is kept, what is now, and what came of it; what got worse comes first."""
    rows = []
    for one in sorted(compared, key=lambda one: one.change is not Change.WORSE):
        note = f"{one.change} ({one.failed:,} requests failed)" if one.failed else str(one.change)
        rows.append((one.of.title, _told(one.kept, one), _told(one.now, one), note))
    return Table("Against the ratios that are kept", ("", "kept", "now", ""), tuple(rows))


def _told(value: Spread | None, one: Compared) -> str:
    if value is None:
        return MISSING
    return f"{figure(value.median)}{one.of.unit} ({figure(value.low)}–{figure(value.high)})"
