"""What is to be reached, whether it was, and what else the reader needs to judge that by."""

from collections.abc import Sequence
from enum import StrEnum
from typing import ClassVar

import msgspec

from tests.bench import forebay_server
from tests.bench.bare import PAUSE_S
from tests.bench.generation.contenders import BARE, STATIC
from tests.bench.loads import (
    MINILM_1,
    MINILM_64,
    NULL_1,
    NULL_64,
    SMOLLM2_1,
    SMOLLM2_8,
    Load,
)
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

PERCENT = " %"


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
    unit: str = "×"

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
    """How far Forebay's p50 under a load is above another's.

    Attributes:
        other: the other contender's name.
        most_ms: the goal in milliseconds; None where none is set.
    """

    title: str
    load: Load
    other: str
    most_ms: float | None = None

    unit: ClassVar[str] = " ms"

    @property
    def goal(self) -> str:
        """For people; empty where none is set."""
        return "" if self.most_ms is None else f"≤ {self.most_ms:g}{self.unit}"

    def measured(self, ours: Sequence[Sample], theirs: Sequence[Sample]) -> Spread | None:
        """The difference in milliseconds, over the rounds."""
        return spread(differences(medians_ms(ours), medians_ms(theirs)))

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


Comparison = Ratio | Added | Latency


class Standing(StrEnum):
    """How a comparison stands with its goal, in the words of the page."""

    MET = "met"
    NOT_MET = "**not met**"
    NOT_MEASURED = "not measured"
    NO_GOAL = "no goal"


class Verdict(msgspec.Struct, frozen=True):
    """What came of a comparison.

    Attributes:
        value: over the rounds, in the comparison's unit; None if it was not measured.
        standing: met only if the median reaches the goal and nothing failed.
        note: what else the reader has to know.
    """

    comparison: Comparison
    value: Spread | None
    standing: Standing
    note: str = ""


GOALS: tuple[Comparison, ...] = (
    Ratio("null path, c=64, against FastAPI + Celery", NULL_64, "celery-fastapi", 20),
    Ratio("MiniLM, c=64, against mosec", MINILM_64, "mosec-server", 2),
    Ratio("MiniLM, c=64, against the bare sorted loop", MINILM_64, "bare-sorted", 90, PERCENT),
    Ratio(
        "MiniLM, c=64, against that loop on each core, one thread each",
        MINILM_64, "bare-cores", unit=PERCENT,
    ),
    Added("added to the bare model called back to back, c=1, p50", MINILM_1, "bare-row", 0.8),
    Added(
        f"added to the bare model called after a pause of {PAUSE_S * 1e3:g} ms each, c=1, p50",
        MINILM_1, "bare-paced",
    ),
    Ratio("8 streams of SmolLM2, against the bare decode loop", SMOLLM2_8, BARE, 95, PERCENT),
    Ratio("8 streams of SmolLM2, against transformers, a static batch", SMOLLM2_8, STATIC, 5),
    Latency("first token of a lone short chat, openai's client, p50", SMOLLM2_1, 60),
)  # fmt: skip
"""The goals, and below those that name a bare loop what the other bare loop of that load says."""

COMPARED: tuple[Ratio, ...] = (
    Ratio("null path, c=64, against mosec", NULL_64, "mosec-server"),
    Ratio("null path, c=1, against FastAPI + Celery", NULL_1, "celery-fastapi"),
    Ratio("null path, c=1, against mosec", NULL_1, "mosec-server"),
    Ratio("MiniLM, c=64, against FastAPI + Celery", MINILM_64, "celery-fastapi"),
    Ratio("MiniLM, c=64, against mosec at its best", MINILM_64, "mosec-sorted"),
    Ratio("MiniLM, c=1, against mosec", MINILM_1, "mosec-server"),
    Ratio("1 stream of SmolLM2, against the bare decode loop", SMOLLM2_1, BARE),
)
"""Ratios worth knowing that stand beside no goal."""


def judge(comparison: Comparison, samples: Sequence[Sample]) -> Verdict:
    """Compare what was measured, round by round, and with the goal if one is set."""
    ours = select(samples, forebay_server.NAME, comparison.load.name)
    theirs = select(samples, comparison.other, comparison.load.name)
    failed = sum(sample.measured.failed for sample in (*ours, *theirs))
    value = comparison.measured(ours, theirs)
    if value is None:
        standing = Standing.NOT_MEASURED
    elif not comparison.goal:
        standing = Standing.NO_GOAL
    else:
        met = comparison.reached_by(value.median) and not failed
        standing = Standing.MET if met else Standing.NOT_MET
    return Verdict(comparison, value, standing, f"{failed:,} requests failed" if failed else "")


def path_p50_ms(samples: Sequence[Sample]) -> Spread | None:
    """Forebay's p50 in milliseconds at c=1 with no model at all: what the path takes by itself."""
    return spread(medians_ms(select(samples, forebay_server.NAME, NULL_1.name)).values())


def redis_calls_per_request(samples: Sequence[Sample], load: Load) -> dict[str, float]:
    """Redis commands for one request, by command, those that scripts call included."""
    taken = [s for s in select(samples, forebay_server.NAME, load.name) if s.redis_calls]
    sent = sum(sample.measured.sent for sample in taken)
    if not sent:
        return {}
    names = sorted({name for sample in taken for name in sample.redis_calls})
    return {name: sum(sample.redis_calls.get(name, 0) for sample in taken) / sent for name in names}
