"""How large batches may be, by what batches were seen to take."""

import math

import pytest

from forebay.contract.model import BatchLimits
from forebay.inference.pace import BULK_RUN_S, FIXED, PRESENT_S, Pace

LIMITS = BatchLimits(max_tokens=4_096, bulk_max_tokens=9_000, target_ms=5.0)


class Clock:
    """Goes as it is told."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def pace_of(fixed_s: float, token_s: float, *, limits: BatchLimits = LIMITS) -> tuple[Pace, Clock]:
    clock = Clock()
    pace = Pace(limits, now=clock)
    for rows, length in ((1, 8), (4, 16), (8, 32), (16, 64), (2, 128)) * 50:
        pace.cost.saw(rows, length, fixed_s + token_s * rows * length)
    return pace, clock


def test_bulk_has_its_own_bound_while_nobody_waits() -> None:
    pace, _ = pace_of(0.001, 1e-4)
    assert pace.bulk().max_tokens == LIMITS.bulk_max_tokens
    assert pace.bulk().seconds == math.inf
    unsaid, _ = pace_of(0.001, 1e-4, limits=BatchLimits(max_tokens=100))
    assert unsaid.bulk().max_tokens == 100


def test_while_somebody_waits_a_batch_of_bulk_is_short() -> None:
    pace, clock = pace_of(0.001, 1e-4)
    pace.came()
    assert pace.bulk().seconds == BULK_RUN_S
    assert pace.bulk().max_tokens == LIMITS.max_tokens
    clock.now += PRESENT_S
    assert pace.bulk().seconds == math.inf


def test_what_is_interrupted_need_not_be_short() -> None:
    pace, _ = pace_of(0.001, 1e-4)
    pace.came()
    assert pace.bulk(interrupted=True).seconds == math.inf


def test_but_not_so_short_that_it_is_all_overhead() -> None:
    pace, _ = pace_of(0.1, 1e-4)
    pace.came()
    assert pace.bulk().seconds == pytest.approx(0.1 / FIXED, rel=0.05)


def test_before_any_batch_was_seen_bulk_is_bounded_all_the_same() -> None:
    fresh = Pace(LIMITS)
    fresh.came()
    assert fresh.bulk().seconds == BULK_RUN_S
