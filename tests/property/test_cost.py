"""What batches take, learned from any batches whatever."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.inference.cost import Cost

SIZES = ((1, 4), (1, 90), (2, 17), (4, 30), (8, 12), (8, 60), (16, 25), (32, 8), (32, 120))

some_parts = st.tuples(
    st.sampled_from([0.0, 1e-4, 1e-2]),
    st.sampled_from([0.0, 2e-5, 1e-3]),
    st.sampled_from([1e-6, 5e-5, 1e-3]),
    st.sampled_from([0.0, 1e-7, 1e-5]),
)
seen = st.lists(
    st.tuples(st.integers(1, 512), st.integers(1, 20_000), st.floats(1e-6, 600.0)),
    min_size=1,
    max_size=200,
)


def taking(parts: tuple[float, float, float, float], rows: int, length: int) -> float:
    fixed, row, token, square = parts
    return fixed + rows * (row + length * (token + square * length))


@given(some_parts, st.lists(st.sampled_from(SIZES), max_size=150))
def test_what_batches_take_is_found(
    parts: tuple[float, float, float, float], more: list[tuple[int, int]]
) -> None:
    cost = Cost()
    for rows, length in [*SIZES * 10, *more]:
        cost.saw(rows, length, taking(parts, rows, length))
    for rows, length in SIZES:
        assert cost.seconds(rows, length) == pytest.approx(taking(parts, rows, length), rel=0.05)


@given(seen)
def test_no_part_is_below_nothing_whatever_was_seen(seen: list[tuple[int, int, float]]) -> None:
    cost = Cost()
    for rows, length, seconds in seen:
        cost.saw(rows, length, seconds)
        assert all(0.0 <= part < math.inf for part in cost.parts)
    assert sum(cost.parts) > 0.0
    assert cost.seconds(4, 40) <= cost.seconds(5, 40) <= cost.seconds(5, 41)


@given(seen)
def test_the_same_batches_teach_the_same(seen: list[tuple[int, int, float]]) -> None:
    one, other = Cost(), Cost()
    for cost in (one, other):
        for rows, length, seconds in seen:
            cost.saw(rows, length, seconds)
    assert one.parts == other.parts


def test_nothing_is_known_before_a_batch_was_seen() -> None:
    cost = Cost()
    assert not cost.known
    assert cost.seconds(32, 128) == 0.0


@pytest.mark.parametrize("seconds", [0.0, -1.0, math.inf, math.nan])
def test_a_time_that_cannot_be_tells_nothing(seconds: float) -> None:
    cost = Cost()
    cost.saw(4, 16, seconds)
    assert not cost.known


def test_batches_of_one_size_tell_no_fixed_part() -> None:
    cost = Cost()
    for _ in range(200):
        cost.saw(8, 32, 0.5)
    fixed, row, _, square = cost.parts
    assert cost.seconds(8, 32) == pytest.approx(0.5, rel=1e-3)
    assert cost.seconds(4, 32) == pytest.approx(0.25, rel=1e-2)
    assert max(fixed, row, square) * 8 < 0.01


def test_a_machine_that_has_slowed_down_is_noticed() -> None:
    cost = Cost()
    for times in (1.0, 3.0):
        for rows, length in SIZES * 60:
            cost.saw(rows, length, times * taking((1e-3, 1e-5, 5e-5, 1e-7), rows, length))
    expected = 3 * taking((1e-3, 1e-5, 5e-5, 1e-7), 8, 60)
    assert cost.seconds(8, 60) == pytest.approx(expected, rel=0.1)


def test_one_batch_that_was_held_up_changes_little() -> None:
    parts = (1e-3, 1e-5, 5e-5, 1e-7)
    cost = Cost()
    for rows, length in SIZES * 30:
        cost.saw(rows, length, taking(parts, rows, length))
    for _ in range(16):
        cost.saw(8, 60, 100 * taking(parts, 8, 60))
        cost.saw(8, 60, taking(parts, 8, 60))
    assert cost.seconds(8, 12) == pytest.approx(taking(parts, 8, 12), rel=0.25)
