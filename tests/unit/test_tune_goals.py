"""What is asked of a tuning, the figures it is held against, and what a million rows cost."""

import math

import pytest

from forebay.contract.errors import InvalidInput
from forebay.tune.figures import cost_per_million, percentile, spread
from forebay.tune.goals import Goals, LatencyGoal, parse_slo


def test_goals_are_read_as_people_write_them_in_order_of_percentile() -> None:
    assert parse_slo("p99=50ms, p50 = 0.01s") == (LatencyGoal(50, 10), LatencyGoal(99, 50))
    assert parse_slo("p99.9=1.5ms") == (LatencyGoal(99.9, 1.5),)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "'' is no latency goal"),
        ("p99", "'p99' is no latency goal"),
        ("p99=50", "say `p99=50ms`"),
        ("p99=50ms,fast", "'fast' is no latency goal"),
        ("p100=50ms", "between 0 and 100"),
        ("p0=50ms", "between 0 and 100"),
        ("p99=0ms", "more than 0"),
        ("p99=-5ms", "is no latency goal"),
        ("p99=5ms,p99=6ms", "p99 is given twice"),
    ],
)
def test_a_goal_that_is_none_is_refused_by_name(text: str, told: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        parse_slo(text)
    assert told in refused.value.message


def test_goals_are_told_as_people_write_them() -> None:
    goals = Goals(parse_slo("p99=50ms"), min_accuracy=0.995, max_memory_mb=200)
    assert str(goals) == "p99 ≤ 50 ms, accuracy ≥ 0.995, memory ≤ 200 MB"
    assert str(Goals()) == "no goals"


def test_a_percentile_is_a_value_that_was_measured() -> None:
    values = [float(value) for value in range(100, 0, -1)]
    assert percentile(values, 50) == 50
    assert percentile(values, 99) == 99
    assert percentile(values, 99.9) == 100
    assert percentile([7.0], 1) == 7
    with pytest.raises(ValueError, match="no values"):
        percentile([], 50)


def test_rows_that_were_given_up_are_later_than_all_others() -> None:
    values = [1.0] * 95
    assert percentile(values, 95, late=5) == 1
    assert percentile(values, 96, late=5) == math.inf
    assert percentile([], 50, late=1) == math.inf


def test_a_spread_is_the_median_and_both_ends() -> None:
    told = spread([3.0, 1.0, 2.0])
    assert (told.median, told.low, told.high) == (2, 1, 3)


def test_a_million_rows_cost_what_the_machine_costs_meanwhile() -> None:
    assert cost_per_million(3.6, 1_000) == pytest.approx(1.0)
    assert cost_per_million(0.1, 500) == pytest.approx(0.1 * 1_000_000 / 500 / 3_600)
