"""A candidate, and what is known of it so far."""

import math
from pathlib import Path

import msgspec

from forebay.contract.model import ModelSpec
from forebay.tune.builds import Build
from forebay.tune.figures import Spread, percentile, spread
from forebay.tune.goals import Goals
from forebay.tune.orders import Ready, Stretch
from forebay.tune.rates import USUAL_LOAD


class Point(msgspec.Struct, frozen=True):
    """How late rows were at one rate of arrivals.

    Attributes:
        fraction: of the candidate's saturated rate.
        offered_rows_s: rows that came a second.
        rows_s: rows that were done a second.
        rows: that this was measured on.
        unfinished: of them, rows that were given up.
        latency_ms: by percentile; None where so many rows were given up.
        spread_ms: likewise over the rounds, of the highest percentile that is asked for.
        meets: whether all latency goals were met.
    """

    fraction: float
    offered_rows_s: float
    rows_s: float
    rows: int
    unfinished: int
    latency_ms: dict[str, float | None]
    spread_ms: Spread | None
    meets: bool


class Arm:
    """One candidate.

    Args:
        number: tells it from the others.
        spec: its settings.
        build: what it is served from.
    """

    def __init__(self, number: int, spec: ModelSpec, build: Build) -> None:
        self.number = number
        self.spec = spec
        self.build = build
        self.ready: Ready | None = None
        self.failed = ""
        self.is_final = False
        self.peak_bytes = 0
        self._saturated: list[float] = []
        self._arrived: dict[float, list[Stretch]] = {}

    @property
    def home(self) -> Path:
        """Of the store that holds its artifact."""
        return self.build.home

    @property
    def accuracy(self) -> float:
        """That of its build; 1 where nothing is built."""
        return 1.0 if self.build.accuracy is None else self.build.accuracy

    @property
    def is_measured(self) -> bool:
        """Whether anything is known of its speed."""
        return bool(self._saturated) and not self.failed

    @property
    def capacity(self) -> Spread:
        """Rows a second that it can do, over the looks at it; the latest rung counts alone."""
        return spread(self._saturated)

    @property
    def fractions(self) -> list[float]:
        """At which its latency is known."""
        return sorted(self._arrived)

    def forget(self) -> None:
        """A longer look begins: what was measured before counts no more."""
        self._saturated.clear()
        self._arrived.clear()

    def saturated(self, stretch: Stretch) -> None:
        """Take in a stretch in which it was kept busy."""
        self._saturated.append(stretch.rows / stretch.seconds)
        self.peak_bytes = max(self.peak_bytes, stretch.memory_bytes)

    def arrived(self, fraction: float, stretch: Stretch) -> None:
        """Take in a stretch in which rows came at random."""
        self._arrived.setdefault(fraction, []).append(stretch)
        self.peak_bytes = max(self.peak_bytes, stretch.memory_bytes)

    def latency_ms(self, fraction: float, share: float) -> float:
        """A percentile over all stretches at one rate; infinite if those rows were given up."""
        stretches = self._arrived[fraction]
        waited = [ms for stretch in stretches for ms in stretch.latencies_ms]
        return percentile(waited, share, late=sum(one.unfinished for one in stretches))

    def meets(self, fraction: float, goals: Goals) -> bool:
        """Whether all latency goals are met at a rate."""
        return all(
            self.latency_ms(fraction, goal.percentile) <= goal.limit_ms for goal in goals.latency
        )

    def score(self, goals: Goals) -> float:
        """About the rows a second it may reach: less, where it is late at the usual load.

        Only a rank: what is told in the end is measured at the rate that it is told of.
        """
        share = 1.0
        if USUAL_LOAD in self._arrived:
            for goal in goals.latency:
                share = min(share, goal.limit_ms / self.latency_ms(USUAL_LOAD, goal.percentile))
        return self.capacity.median * share

    def point(self, fraction: float, goals: Goals) -> Point:
        """What is known at one rate."""
        stretches = self._arrived[fraction]
        seconds = sum(one.seconds for one in stretches)
        shares = sorted({50.0, 99.0, *(goal.percentile for goal in goals.latency)})
        known = {share: self.latency_ms(fraction, share) for share in shares}
        rounds = [
            percentile(one.latencies_ms, shares[-1], late=one.unfinished) for one in stretches
        ]
        return Point(
            fraction=fraction,
            offered_rows_s=sum(one.arrived for one in stretches) / seconds,
            rows_s=sum(one.rows for one in stretches) / seconds,
            rows=sum(one.arrived for one in stretches),
            unfinished=sum(one.unfinished for one in stretches),
            latency_ms={
                f"p{share:g}": round(ms, 2) if math.isfinite(ms) else None
                for share, ms in known.items()
            },
            spread_ms=spread(rounds) if all(map(math.isfinite, rounds)) else None,
            meets=self.meets(fraction, goals),
        )
