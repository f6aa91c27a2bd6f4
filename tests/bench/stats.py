"""Figures from repeated measurements: medians with their spread, and ratios paired by round."""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from statistics import median

import msgspec


class Measurement(msgspec.Struct, frozen=True):
    """One measured stretch of one load on one contender.

    Attributes:
        answered: requests (or rows, for a bare loop) that were answered right.
        failed: refused, wrong, timed out or lost; never part of the throughput.
        seconds: how long it was counted for.
        sent: requests sent in all, those before and after the count included.
        p50_ms: latency in milliseconds, None where a loop has no single request; likewise the
            other percentiles.
    """

    answered: int
    failed: int
    seconds: float
    sent: int
    p50_ms: float | None = None
    p90_ms: float | None = None
    p99_ms: float | None = None

    @property
    def rate(self) -> float:
        """Answered right, per second."""
        return self.answered / self.seconds if self.seconds > 0 else 0.0


class Sample(msgspec.Struct, frozen=True):
    """A measurement, and where in the run it was taken.

    Attributes:
        redis_calls: commands that the contender's Redis got for all that was sent, by name.
        cpu_s: CPU seconds that it used for all that was sent, by process.
    """

    contender: str
    load: str
    round: int
    measured: Measurement
    redis_calls: dict[str, int] = {}
    cpu_s: dict[str, float] = {}


class Spread(msgspec.Struct, frozen=True):
    """The median of some values, the lowest and the highest."""

    median: float
    low: float
    high: float


Figures = dict[str, Spread]
"""What is no load's, by name: `cold-minilm` in seconds, `queued-bytes`, and so on."""


def spread(values: Iterable[float]) -> Spread | None:
    """Median, lowest and highest; None of nothing."""
    known = list(values)
    return Spread(median(known), min(known), max(known)) if known else None


def over(rounds: Sequence[Figures]) -> Figures:
    """What several rounds have found, each a figure's median, with the spread of those."""
    found: Figures = {}
    for name in dict.fromkeys(itertools.chain.from_iterable(rounds)):
        value = spread(told[name].median for told in rounds if name in told)
        if value is not None:
            found[name] = value
    return found


def select(samples: Iterable[Sample], contender: str, load: str) -> list[Sample]:
    """One contender's samples under one load, by round."""
    found = [s for s in samples if s.contender == contender and s.load == load]
    return sorted(found, key=lambda sample: sample.round)


def paired(one: Mapping[int, float], other: Mapping[int, float]) -> list[tuple[float, float]]:
    """Values of the rounds in which both were measured, in the order of the rounds.

    A machine drifts from minute to minute, so only what was measured side by side is compared.
    """
    return [(one[round_], other[round_]) for round_ in sorted(one.keys() & other.keys())]


def ratios(one: Mapping[int, float], other: Mapping[int, float]) -> list[float]:
    """`one / other`, round by round; rounds in which the other answered nothing are left out."""
    return [a / b for a, b in paired(one, other) if b > 0]


def differences(one: Mapping[int, float], other: Mapping[int, float]) -> list[float]:
    """`one - other`, round by round."""
    return [a - b for a, b in paired(one, other)]


def rates(samples: Iterable[Sample]) -> dict[int, float]:
    """Answered per second, by round."""
    return {sample.round: sample.measured.rate for sample in samples}


def medians_ms(samples: Iterable[Sample]) -> dict[int, float]:
    """The p50 latency in milliseconds, by round, where there is one."""
    return {s.round: s.measured.p50_ms for s in samples if s.measured.p50_ms is not None}


def latencies_ms(samples: Iterable[Sample], share: float) -> dict[int, float]:
    """A percentile of the latency in milliseconds, by round; shares are 0.5, 0.9 and 0.99."""
    field = {0.5: "p50_ms", 0.9: "p90_ms", 0.99: "p99_ms"}[share]
    found = {s.round: getattr(s.measured, field) for s in samples}
    return {round_: value for round_, value in found.items() if value is not None}


def percentile(ordered: list[float], share: float) -> float:
    """The value below which `share` (0..1) of the sorted values lie; 0 of nothing."""
    if not ordered:
        return 0.0
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
