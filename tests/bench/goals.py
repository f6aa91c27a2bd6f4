"""What is to be reached, whether it was, and what else the reader needs to judge that by."""

from collections.abc import Sequence
from enum import StrEnum

import msgspec

from tests.bench import forebay_server
from tests.bench.bare import PAUSE_S
from tests.bench.comparisons import (
    PERCENT,
    TIMES,
    Added,
    Bound,
    Comparison,
    Latency,
    Rate,
    Ratio,
)
from tests.bench.forebay_server import UNCACHED
from tests.bench.generation.contenders import BARE, STATIC
from tests.bench.loads import (
    FIXED_64,
    HITS_1,
    HITS_64,
    MINILM_1,
    MINILM_64,
    NULL_1,
    NULL_64,
    SMOLLM2_1,
    SMOLLM2_8,
    SMOLLM2_32,
    ZIPF_64,
    Load,
)
from tests.bench.stats import (
    Figures,
    Sample,
    Spread,
    medians_ms,
    select,
    spread,
)


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
    Rate("null path, c=64, one gateway", NULL_64, 10_000),
    Ratio("null path, c=64, against LitServe", NULL_64, "litserve-server", 6),
    Ratio("null path, c=64, against FastAPI + Celery", NULL_64, "celery-fastapi", 20),
    Ratio("null path, c=64, against mosec", NULL_64, "mosec-server", 0.3),
    Added("added to the bare model called back to back, c=1, p50", MINILM_1, "bare-row", 0.6),
    Added(
        f"added to the bare model called after a pause of {PAUSE_S * 1e3:g} ms each, c=1, p50",
        MINILM_1, "bare-paced",
    ),
    Added("added to the bare model, c=1, p99", MINILM_1, "bare-row", 3, share=0.99),
    Ratio("MiniLM, c=64, against the bare sorted loop", MINILM_64, "bare-sorted", 95, PERCENT),
    Ratio(
        "MiniLM, c=64, against that loop on each core, one thread each",
        MINILM_64, "bare-cores", unit=PERCENT,
    ),
    Ratio("MiniLM, c=64, against mosec", MINILM_64, "mosec-server", 2.5),
    Ratio("MiniLM, c=64, against LitServe", MINILM_64, "litserve-server", 3),
    Rate("cache hits, c=64", HITS_64, 10_000),
    Latency("a cache hit, c=1, p50", HITS_1, 0.45),
    Ratio("8 streams of SmolLM2, against the bare decode loop", SMOLLM2_8, BARE, 95, PERCENT),
    Ratio("8 streams of SmolLM2, against transformers, a static batch", SMOLLM2_8, STATIC, 5),
    Latency("first token of a lone short chat, openai's client, p50", SMOLLM2_1, 60),
    Bound("from no worker to the first result, MiniLM", "cold-minilm", most=0.4, unit=" s"),
    Bound("from no worker to the first result, SmolLM2", "cold-smollm2", most=0.8, unit=" s"),
    Bound("tracing at 5 %, CPU of a request", "tracing-us", most=8, unit=" µs"),
    Bound("a batch and realtime together, of the bare rate", "mixed-rows", 90, unit=PERCENT),
    Bound("realtime beside a batch, p99, of its p99 alone", "mixed-p99", most=2, unit=TIMES),
    Bound(
        "a quiet key beside another's 16 lists of 64 texts, p99, of its p99 alone",
        "fair-lists-p99", most=2, unit=TIMES,
    ),
    Bound(
        "a quiet key beside another's 64 texts at a time, p99, of its p99 alone",
        "fair-texts-p99", most=2, unit=TIMES,
    ),
    Bound("both keys' rows, of those of the lists alone", "fair-lists-rows", 90, unit=PERCENT),
    Bound("both keys' rows, of those of the texts alone", "fair-texts-rows", 90, unit=PERCENT),
    Bound("enqueueing at 1,000,000 queued rows, of that at none", "queued-in", 90, 110, PERCENT),
    Bound("dequeueing at 1,000,000 queued rows, of that at few", "queued-out", 90, 110, PERCENT),
    Bound("Redis memory of a queued row", "queued-bytes", unit=" bytes"),
    Bound("memory of the worker of MiniLM, most at once", "worker-rss", most=200, unit=" MB"),
)  # fmt: skip
"""The goals, and below those that name a bare loop what the other bare loop of that load says."""

_LONE_MOSEC = Ratio("null path, c=1, against mosec", NULL_1, "mosec-server")

COMPARED: tuple[Ratio, ...] = (
    Ratio("null path, c=1, against FastAPI + Celery", NULL_1, "celery-fastapi"),
    _LONE_MOSEC,
    Ratio("MiniLM, c=64, against FastAPI + Celery", MINILM_64, "celery-fastapi"),
    Ratio("null path, c=64, against FastAPI + Celery at its best", NULL_64, "celery-best"),
    Ratio("MiniLM, c=64, against FastAPI + Celery at its best", MINILM_64, "celery-best"),
    Ratio("MiniLM, c=64, against BentoML at its best", MINILM_64, "bentoml-best"),
    Ratio("MiniLM, c=64, against mosec at its best", MINILM_64, "mosec-sorted"),
    Ratio("MiniLM, c=1, against mosec", MINILM_1, "mosec-server"),
    Ratio("MiniLM of 17 words each, c=64, against mosec", FIXED_64, "mosec-server"),
    Ratio("MiniLM, repeated, with the cache against without", ZIPF_64, UNCACHED),
    Ratio("1 stream of SmolLM2, against the bare decode loop", SMOLLM2_1, BARE),
    Ratio("32 streams of SmolLM2, against the bare decode loop", SMOLLM2_32, BARE),
)
"""Ratios worth knowing that stand beside no goal."""

TIMED: tuple[Ratio, ...] = (_LONE_MOSEC,)
"""Of those, what depends on how quick a machine is: mosec waits for a timer there, and Forebay for
the machine's cores. `make bench-check` leaves them alone."""


def judge(
    comparison: Comparison, samples: Sequence[Sample], figures: Figures | None = None
) -> Verdict:
    """Compare what was measured, round by round, and with the goal if one is set."""
    failed = 0
    if isinstance(comparison, Bound):
        value = (figures or {}).get(comparison.figure)
    else:
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
