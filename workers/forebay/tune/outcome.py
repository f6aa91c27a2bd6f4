"""What a tuning found, as it is kept and printed."""

from typing import Any

import msgspec

from forebay.tune import pareto
from forebay.tune.arms import Arm, Point
from forebay.tune.figures import Spread
from forebay.tune.goals import Goals
from forebay.tune.rates import USUAL_LOAD
from forebay.tune.space import fields, told, value

MB = 1_000_000


class Found(msgspec.Struct, frozen=True):
    """One candidate.

    Attributes:
        settings: by the field's name in `models.toml`, tables with a dot: `batch.max_rows`.
        streams: passes at once, which follows from the threads.
        version: short digest of its artifact.
        accuracy: mean cosine to full precision, or share of rows with the same best label.
        bytes: size of its artifact.
        saturated: rows a second when it is kept busy.
        rows_s: the rate at which all latency goals are met, as it was measured; without any, the
            saturated one. None if no rate meets them, or it did not come so far.
        latency: at that rate, or at the usual load.
        points: all rates that were looked at.
        memory_bytes: the most that its process held.
        start_ms: from the start of its process until it was warm.
        is_current: the catalog says so now.
        is_final: measured in full, and not only to see whether it is worth that.
        on_front: no other that was measured in full is better in everything.
        failed: why it could not be measured.
    """

    settings: dict[str, Any]
    streams: int
    version: str
    accuracy: float | None
    bytes: int
    saturated: Spread | None
    rows_s: float | None
    latency: Point | None
    points: tuple[Point, ...]
    memory_bytes: int
    start_ms: float
    is_current: bool
    is_final: bool
    on_front: bool = False
    failed: str = ""

    @property
    def label(self) -> str:
        """Its settings in a few words."""
        return label(self.settings)

    @property
    def unsteadiness(self) -> float:
        """By how much of itself the saturated rate differed from round to round."""
        if self.saturated is None:
            return 0.0
        return (self.saturated.high - self.saturated.low) / self.saturated.median

    @property
    def memory_mb(self) -> float:
        """The most that its process held, MB."""
        return self.memory_bytes / MB


class LeftOut(msgspec.Struct, frozen=True):
    """A build that there is no candidate of, and why.

    Attributes:
        build: in a few words.
        why: one sentence.
        accuracy: where that is known.
    """

    build: str
    why: str
    accuracy: float | None = None


class Traffic(msgspec.Struct, frozen=True):
    """What was run.

    Attributes:
        rows: of which it was made.
        origin: where they are from.
        shortest: length of the shortest, as the backend counts.
        longest: of the longest.
    """

    rows: int
    origin: str
    shortest: int
    longest: int


class Outcome(msgspec.Struct, frozen=True):
    """A tuning.

    Attributes:
        model: its name.
        machine: what it was done on.
        at: when, UTC, ISO 8601.
        seconds: it took.
        found: candidates, the current settings first.
        left_out: builds without any.
        chosen: index in `found`; None if nothing meets the goals.
        why: the reason, or what came nearest and what stands in its way.
        interrupted: before it was done.
        is_late: time ran out before it was done.
        cost_per_hour: of the machine.
        cost_per_million: rows, as chosen, in the same currency.
    """

    model: str
    machine: str
    at: str
    goals: Goals
    traffic: Traffic | None
    seconds: float
    found: tuple[Found, ...]
    left_out: tuple[LeftOut, ...]
    chosen: int | None
    why: str
    interrupted: bool = False
    is_late: bool = False
    cost_per_hour: float | None = None
    cost_per_million: float | None = None


def label(settings: dict[str, Any]) -> str:
    """Settings in a few words: `int8, 1 thread, 32 rows, 256 tokens, 15 % padding`."""
    return ", ".join(filter(None, (_words(name, one) for name, one in settings.items())))


def _words(name: str, one: Any) -> str:
    match name:
        case "threads":
            return f"{one} thread{'' if one == 1 else 's'}" if one else "all cores a pass"
        case "batch.max_rows":
            return f"{one} row{'' if one == 1 else 's'}"
        case "batch.max_tokens":
            return f"{one:,} tokens"
        case "batch.max_padding":
            return f"{100 * one:g} % padding"
        case _:
            return told(tuple(name.split(".")), one)


def found(arm: Arm, goals: Goals, *, best: float | None, is_current: bool) -> Found:
    """A candidate as it is told.

    Args:
        arm: what is known of it.
        goals: what is asked.
        best: the highest share of its saturated rate at which the latency goals are met.
        is_current: the catalog says so now.
    """
    usual = USUAL_LOAD if USUAL_LOAD in arm.fractions else None
    shown = best if best is not None else usual if not goals.latency else None
    if shown is None and arm.fractions:
        shown = arm.fractions[0] if goals.latency else usual
    latency = None if shown is None else arm.point(shown, goals)
    saturated = arm.capacity if arm.is_measured else None
    rows_s = None
    if arm.is_final and saturated is not None:
        if not goals.latency:
            rows_s = saturated.median
        elif best is not None:
            rows_s = arm.point(best, goals).rows_s
    return Found(
        settings={".".join(field): value(arm.spec, field) for field in fields(arm.spec)},
        streams=arm.ready.streams if arm.ready else 0,
        version=arm.build.version,
        accuracy=arm.build.accuracy,
        bytes=arm.build.bytes,
        saturated=saturated,
        rows_s=rows_s,
        latency=latency,
        points=tuple(arm.point(fraction, goals) for fraction in arm.fractions),
        memory_bytes=arm.peak_bytes,
        start_ms=arm.ready.start_ms if arm.ready else 0.0,
        is_current=is_current,
        is_final=arm.is_final,
        failed=arm.failed,
    )


def with_front(all_found: list[Found], goals: Goals) -> list[Found]:
    """The same, and who is on the front: of accuracy, rate, memory and size.

    What meets the goals at no rate is not on it. Latency counts only where no goal fixes it: at the
    rates that just meet a goal it is the goal.
    """
    finals = [
        index
        for index, one in enumerate(all_found)
        if one.is_final and not one.failed and one.rows_s is not None
    ]
    points = [_point(all_found[index], goals) for index in finals]
    front = {finals[index] for index in pareto.fronts(points)[0]} if points else set[int]()
    return [
        msgspec.structs.replace(one, on_front=index in front) for index, one in enumerate(all_found)
    ]


def _point(one: Found, goals: Goals) -> list[float]:
    point = [
        one.accuracy if one.accuracy is not None else 1.0,
        one.rows_s or 0.0,
        -float(one.memory_bytes // MB),
        -float(one.bytes),
    ]
    if not goals.latency:
        late = one.latency.latency_ms["p99"] if one.latency else None
        point.append(-late if late is not None else float("-inf"))
    return point
