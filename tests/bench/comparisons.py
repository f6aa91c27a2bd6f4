"""What Forebay's figures can be held against: another's, its own bound, a machine's."""

from collections.abc import Sequence
from typing import ClassVar

import msgspec

from tests.bench.loads import Load
from tests.bench.stats import (
    Sample,
    Spread,
    differences,
    latencies_ms,
    medians_ms,
    rates,
    ratios,
    spread,
)

PERCENT = " %"
TIMES = "×"


class Ratio(msgspec.Struct, frozen=True):
    """Forebay's throughput under a load, in proportion to another's.

    Attributes:
        other: the other contender's name.
        least: the goal, in the unit; None where none is set.
        unit: `×` or ` %`, as it is put behind a figure.
    """

    title: str
    load: Load
    other: str
    least: float | None = None
    unit: str = TIMES

    @property
    def goal(self) -> str:
        """For people; empty where none is set."""
        return "" if self.least is None else f"≥ {self.least:g}{self.unit}"

    def measured(self, ours: Sequence[Sample], theirs: Sequence[Sample]) -> Spread | None:
        """The ratio in its unit, over the rounds."""
        scale = 100 if self.unit == PERCENT else 1
        return spread(scale * ratio for ratio in ratios(rates(ours), rates(theirs)))

    def reached_by(self, value: float) -> bool:
        """Whether this is enough."""
        return self.least is not None and value >= self.least


class Added(msgspec.Struct, frozen=True):
    """How far a percentile of Forebay's latency under a load is above another's.

    Attributes:
        other: the other contender's name.
        most_ms: the goal in milliseconds; None where none is set.
        share: which percentile, 0.5 or 0.99.
    """

    title: str
    load: Load
    other: str
    most_ms: float | None = None
    share: float = 0.5

    unit: ClassVar[str] = " ms"

    @property
    def goal(self) -> str:
        """For people; empty where none is set."""
        return "" if self.most_ms is None else f"≤ {self.most_ms:g}{self.unit}"

    def measured(self, ours: Sequence[Sample], theirs: Sequence[Sample]) -> Spread | None:
        """The difference in milliseconds, over the rounds."""
        pair = (latencies_ms(samples, self.share) for samples in (ours, theirs))
        return spread(differences(*pair))

    def reached_by(self, value: float) -> bool:
        """Whether this is little enough."""
        return self.most_ms is not None and value <= self.most_ms


class Latency(msgspec.Struct, frozen=True):
    """Forebay's own p50 under a load, beside nobody's.

    Attributes:
        most_ms: the goal in milliseconds.
    """

    title: str
    load: Load
    most_ms: float

    unit: ClassVar[str] = " ms"
    other: ClassVar[str] = ""

    @property
    def goal(self) -> str:
        """For people."""
        return f"≤ {self.most_ms:g}{self.unit}"

    def measured(self, ours: Sequence[Sample], theirs: Sequence[Sample]) -> Spread | None:
        """In milliseconds, over the rounds."""
        return spread(medians_ms(ours).values())

    def reached_by(self, value: float) -> bool:
        """Whether this is little enough."""
        return value <= self.most_ms


class Rate(msgspec.Struct, frozen=True):
    """Forebay's own throughput under a load, beside nobody's.

    Attributes:
        least_s: the goal, in answers a second.
    """

    title: str
    load: Load
    least_s: float

    unit: ClassVar[str] = "/s"
    other: ClassVar[str] = ""

    @property
    def goal(self) -> str:
        """For people."""
        return f"≥ {self.least_s:,g}{self.unit}"

    def measured(self, ours: Sequence[Sample], theirs: Sequence[Sample]) -> Spread | None:
        """Answers a second, over the rounds."""
        return spread(rates(ours).values())

    def reached_by(self, value: float) -> bool:
        """Whether this is enough."""
        return value >= self.least_s


class Bound(msgspec.Struct, frozen=True):
    """A figure that is no load's: of a cold start, a long queue, a batch beside realtime.

    Attributes:
        figure: its name, see `stats.Figures`.
        least: the goal, in the unit; None where there is no such bound.
        most: likewise.
    """

    title: str
    figure: str
    least: float | None = None
    most: float | None = None
    unit: str = ""

    other: ClassVar[str] = ""

    @property
    def goal(self) -> str:
        """For people; empty where none is set."""
        told = []
        if self.least is not None:
            told.append(f"≥ {self.least:g}{self.unit}")
        if self.most is not None:
            told.append(f"≤ {self.most:g}{self.unit}")
        return ", ".join(told)

    def reached_by(self, value: float) -> bool:
        """Whether this is within the bounds."""
        low = float("-inf") if self.least is None else self.least
        high = float("inf") if self.most is None else self.most
        return low <= value <= high


Comparison = Ratio | Added | Latency | Rate | Bound
