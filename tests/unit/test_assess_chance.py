"""How far chance goes: intervals, and whether one evaluation is better than another."""

import numpy as np
import pytest
from scipy import stats

from forebay.assess import chance
from forebay.assess.chance import Measure
from forebay.assess.forms.base import mean_of

ACCURACY = mean_of("correct", "accuracy", hits=True)
DRAWS = np.random.default_rng(3)


@pytest.mark.parametrize(("b", "c"), [(0, 0), (3, 3), (1, 9), (20, 4), (400, 520), (9_000, 8_000)])
def test_mcnemar_is_the_two_sided_binomial_test(b: int, c: int) -> None:
    expected = stats.binomtest(b, b + c).pvalue if b + c else 1.0
    assert chance.mcnemar(b, c) == pytest.approx(expected, rel=1e-6)


def test_an_interval_is_about_that_of_the_binomial_and_the_same_each_time() -> None:
    rows = {"correct": (DRAWS.random(500) < 0.8).astype(float)}
    ((low, high),) = chance.intervals([ACCURACY], rows)
    value = rows["correct"].mean()
    width = 1.96 * (value * (1 - value) / 500) ** 0.5
    assert (value - low, high - value) == pytest.approx((width, width), abs=width / 4)
    assert chance.intervals([ACCURACY], rows) == [(low, high)]


def test_a_better_model_is_told_from_one_that_is_lucky() -> None:
    truth = DRAWS.random(600)
    good, lucky = (truth < 0.9).astype(float), (truth < 0.8).astype(float)
    (found,) = chance.differences([ACCURACY], {"correct": good}, {"correct": lucky})
    assert found.test == "McNemar"
    assert found.p_value < 1e-6
    assert not found.is_chance
    assert found.low > 0

    swapped = good.copy()
    swapped[:3] = 1 - swapped[:3]
    (found,) = chance.differences([ACCURACY], {"correct": good}, {"correct": swapped})
    assert found.is_chance


def test_other_figures_are_compared_by_resampling_the_same_rows_of_both() -> None:
    spread = Measure("mean", lambda rows: float(rows["x"].mean()))
    rows = DRAWS.normal(0, 100, 300)
    here, there = {"x": rows + 0.5 + DRAWS.normal(0, 0.1, 300)}, {"x": rows}
    # Alone each interval is some 20 wide; on the same rows half a point is certain.
    (found,) = chance.differences([spread], here, there)
    assert found.test == "paired bootstrap"
    assert (found.low, found.high) == pytest.approx((0.5, 0.5), abs=0.05)
    assert not found.is_chance
    (found,) = chance.differences([spread], there, there)
    assert (found.p_value, found.low, found.high) == (1, 0, 0)
