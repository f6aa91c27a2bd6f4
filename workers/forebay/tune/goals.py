"""What is asked of a model's settings: how late, how accurate, how large."""

import re

import msgspec

from forebay.contract.errors import InvalidInput

_GOAL = re.compile(
    r"p(?P<percentile>\d+(?:\.\d+)?)\s*=\s*(?P<limit>\d+(?:\.\d+)?)\s*(?P<unit>ms|s)"
)
_MS = {"ms": 1.0, "s": 1_000.0}
_FORM = "say `p99=50ms`, or several goals as in `p50=10ms,p99=50ms`"


class LatencyGoal(msgspec.Struct, frozen=True):
    """So many of a hundred rows are answered within so many milliseconds.

    Attributes:
        percentile: more than 0, less than 100.
        limit_ms: from a row's arrival until its pass has ended.
    """

    percentile: float
    limit_ms: float

    def __str__(self) -> str:
        """As people write it: `p99 ≤ 50 ms`."""
        return f"p{self.percentile:g} ≤ {self.limit_ms:g} ms"


class Goals(msgspec.Struct, frozen=True):
    """What has to be met.

    Attributes:
        latency: all of them, at the rate that is told.
        min_accuracy: mean cosine to full precision, or share of rows with the same best label.
        max_memory_mb: of one worker at its peak, MB.
    """

    latency: tuple[LatencyGoal, ...] = ()
    min_accuracy: float | None = None
    max_memory_mb: float | None = None

    def __str__(self) -> str:
        """As people write it."""
        told = [str(goal) for goal in self.latency]
        if self.min_accuracy is not None:
            told.append(f"accuracy ≥ {self.min_accuracy:g}")
        if self.max_memory_mb is not None:
            told.append(f"memory ≤ {self.max_memory_mb:g} MB")
        return ", ".join(told) or "no goals"


def parse_slo(text: str) -> tuple[LatencyGoal, ...]:
    """Latency goals as people write them: `p99=50ms`, `p50=10ms,p99.9=0.2s`.

    Raises:
        InvalidInput: it isn't that; the message names the part at fault.
    """
    goals: dict[float, LatencyGoal] = {}
    for part in text.split(","):
        found = _GOAL.fullmatch(part.strip())
        if found is None:
            raise InvalidInput(f"--slo: {part.strip()!r} is no latency goal: {_FORM}.")
        percentile = float(found["percentile"])
        limit_ms = float(found["limit"]) * _MS[found["unit"]]
        if not 0 < percentile < 100 or limit_ms <= 0:
            raise InvalidInput(
                f"--slo: {part.strip()!r} asks for a percentile of {percentile:g} within "
                f"{limit_ms:g} ms: the first is between 0 and 100, the second more than 0."
            )
        if percentile in goals:
            raise InvalidInput(f"--slo: p{percentile:g} is given twice.")
        goals[percentile] = LatencyGoal(percentile, limit_ms)
    return tuple(goals[percentile] for percentile in sorted(goals))
