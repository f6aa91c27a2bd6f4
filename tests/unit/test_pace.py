"""How large batches may be, by what they were seen to take."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.contract.model import BatchLimits
from forebay.inference.pace import BULK_RUN_S, FIXED, PRESENT_S, Cost, Pace

LIMITS = BatchLimits(max_tokens=4_096, bulk_max_tokens=9_000)


class Clock:
    """Goes as it is told."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def pace_of(fixed_s: float, token_s: float, *, limits: BatchLimits = LIMITS) -> tuple[Pace, Clock]:
    clock = Clock()
    pace = Pace(limits, now=clock)
    for tokens in (64, 128, 512, 1_024) * 50:
        pace.ran(tokens, fixed_s + token_s * tokens)
    return pace, clock


@given(st.floats(1e-5, 1.0), st.floats(1e-7, 1e-2))
def test_the_line_through_what_was_seen_is_found(fixed_s: float, token_s: float) -> None:
    cost = Cost()
    for tokens in (64, 128, 512, 1_024) * 50:
        cost.saw(tokens, fixed_s + token_s * tokens)
    found_fixed_s, found_token_s = cost.line
    assert found_fixed_s + 512 * found_token_s == pytest.approx(fixed_s + 512 * token_s, rel=0.1)


@given(st.lists(st.tuples(st.integers(1, 20_000), st.floats(1e-6, 60.0)), min_size=1, max_size=200))
def test_neither_part_is_below_nothing_whatever_was_seen(seen: list[tuple[int, float]]) -> None:
    cost = Cost()
    for tokens, seconds in seen:
        cost.saw(tokens, seconds)
    assert cost.known
    fixed_s, token_s = cost.line
    assert token_s > 0.0
    assert fixed_s >= -1e-9 * max(seconds for _, seconds in seen)


def test_batches_of_one_size_tell_no_fixed_part() -> None:
    cost = Cost()
    for _ in range(100):
        cost.saw(256, 0.5)
    fixed_s, token_s = cost.line
    assert fixed_s == pytest.approx(0.0, abs=1e-9)
    assert token_s == pytest.approx(0.5 / 256)


def test_bulk_has_its_own_bound_while_nobody_waits() -> None:
    pace, _ = pace_of(0.001, 1e-4)
    assert pace.bulk_tokens() == LIMITS.bulk_max_tokens
    unsaid, _ = pace_of(0.001, 1e-4, limits=BatchLimits(max_tokens=100))
    assert unsaid.bulk_tokens() == 100


def test_while_somebody_waits_a_batch_of_bulk_is_short() -> None:
    pace, clock = pace_of(0.001, 1e-4)
    pace.came()
    assert 0.001 + 1e-4 * pace.bulk_tokens() == pytest.approx(BULK_RUN_S, rel=0.1)
    clock.now += PRESENT_S
    assert pace.bulk_tokens() == LIMITS.bulk_max_tokens


def test_what_is_interrupted_need_not_be_short() -> None:
    pace, _ = pace_of(0.001, 1e-4)
    pace.came()
    assert pace.bulk_tokens(interrupted=True) == LIMITS.bulk_max_tokens


def test_but_not_so_short_that_it_is_all_overhead() -> None:
    pace, _ = pace_of(0.1, 1e-4)
    pace.came()
    took_s = 0.1 + 1e-4 * pace.bulk_tokens()
    assert took_s == pytest.approx(0.1 / FIXED, rel=0.1)


def test_nor_larger_than_any_batch_may_be_nor_empty() -> None:
    quick, _ = pace_of(1e-6, 1e-9)
    quick.came()
    assert quick.bulk_tokens() == LIMITS.max_tokens
    slow, _ = pace_of(1e-9, 10.0)
    slow.came()
    assert slow.bulk_tokens() == 1
    fresh = Pace(LIMITS)
    fresh.came()
    assert fresh.bulk_tokens() == LIMITS.max_tokens
