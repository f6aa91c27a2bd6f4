"""What is to be reached, and whether it was."""

from collections.abc import Sequence

import msgspec

from tests.bench.loads import MINILM_1, MINILM_64, NULL_1, NULL_64, Load
from tests.bench.stats import (
    Sample,
    Spread,
    differences,
    medians_ms,
    rates,
    ratios,
    select,
    spread,
)

FOREBAY = "forebay"


class RatioGoal(msgspec.Struct, frozen=True):
    """Forebay's throughput under a load is at least so many times another's."""

    title: str
    load: Load
    other: str
    least: float
    percent: bool = False


class AddedGoal(msgspec.Struct, frozen=True):
    """Forebay's p50 is at most so many milliseconds above another's under the same load."""

    title: str
    load: Load
    other: str
    most_ms: float


class Verdict(msgspec.Struct, frozen=True):
    """What came of a goal.

    Attributes:
        value: over the rounds; None if it was not measured.
        met: whether the median reaches the goal and nothing failed; None if not measured.
        note: what else the reader has to know.
    """

    title: str
    goal: str
    value: Spread | None
    unit: str
    met: bool | None
    note: str = ""


GOALS: tuple[RatioGoal | AddedGoal, ...] = (
    RatioGoal("null path, c=64, against FastAPI + Celery", NULL_64, "celery-fastapi", 20),
    RatioGoal("MiniLM, c=64, against mosec", MINILM_64, "mosec-server", 2),
    RatioGoal(
        "MiniLM, c=64, against the bare sorted loop", MINILM_64, "bare-sorted", 0.9, percent=True
    ),
    AddedGoal("added to the bare model at c=1, p50", MINILM_1, "bare-row", 0.8),
)

COMPARED: tuple[RatioGoal, ...] = (
    RatioGoal("null path, c=64, against mosec", NULL_64, "mosec-server", 0),
    RatioGoal("null path, c=1, against FastAPI + Celery", NULL_1, "celery-fastapi", 0),
    RatioGoal("null path, c=1, against mosec", NULL_1, "mosec-server", 0),
    RatioGoal("MiniLM, c=64, against FastAPI + Celery", MINILM_64, "celery-fastapi", 0),
    RatioGoal("MiniLM, c=64, against mosec at its best", MINILM_64, "mosec-sorted", 0),
    RatioGoal("MiniLM, c=64, against the bare loop a core", MINILM_64, "bare-cores", 0),
    RatioGoal("MiniLM, c=1, against mosec", MINILM_1, "mosec-server", 0),
)
"""Ratios worth knowing that no goal is set for."""


def judge(goal: RatioGoal | AddedGoal, samples: Sequence[Sample]) -> Verdict:
    """Compare what was measured with a goal, round by round."""
    ours = select(samples, FOREBAY, goal.load.name)
    theirs = select(samples, goal.other, goal.load.name)
    failed = sum(sample.measured.failed for sample in (*ours, *theirs))
    note = f"{failed:,} requests failed" if failed else ""
    if isinstance(goal, AddedGoal):
        value = spread(differences(medians_ms(ours), medians_ms(theirs)))
        reached = value is not None and value.median <= goal.most_ms
        told, unit = f"≤ {goal.most_ms:g} ms", "ms"
    else:
        value = spread(ratios(rates(ours), rates(theirs)))
        reached = value is not None and value.median >= goal.least
        unit = "%" if goal.percent else "×"
        told = f"≥ {goal.least * 100:g} %" if goal.percent else f"≥ {goal.least:g}×"
        if goal.percent and value is not None:
            value = Spread(value.median * 100, value.low * 100, value.high * 100)
    met = None if value is None else reached and not failed
    return Verdict(goal.title, told, value, unit, met, note)


def added_on_null_path(samples: Sequence[Sample]) -> Spread | None:
    """Forebay's p50 in milliseconds at c=1 with no model at all: what the path takes by itself."""
    return spread(medians_ms(select(samples, FOREBAY, NULL_1.name)).values())


def redis_calls_per_request(samples: Sequence[Sample], load: Load) -> dict[str, float]:
    """Redis commands for one request, by command, those that scripts call included."""
    taken = [s for s in select(samples, FOREBAY, load.name) if s.redis_calls]
    sent = sum(sample.measured.sent for sample in taken)
    if not sent:
        return {}
    names = sorted({name for sample in taken for name in sample.redis_calls})
    return {name: sum(sample.redis_calls.get(name, 0) for sample in taken) / sent for name in names}
