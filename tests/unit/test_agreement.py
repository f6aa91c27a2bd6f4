"""How far two sets of a classifier's scores agree, and the bar that they must reach."""

from typing import Any

import msgspec
import numpy as np
import pytest

from forebay.build import agreement, bars
from forebay.contract.errors import BuildFailed
from forebay.contract.manifest import Agreement
from forebay.contract.rows import Function
from forebay.inference.tasks.scores import scores as served

LOGITS = np.array([[1.0, 2.0, -3.0], [100.0, -100.0, 0.0], [0.0, 0.0, 0.0]], np.float32)


@pytest.mark.parametrize("function", Function)
def test_the_build_measures_the_scores_that_workers_give(function: Function) -> None:
    made = agreement.scores(function, LOGITS)
    np.testing.assert_allclose(made, served(function, LOGITS), atol=1e-6)
    assert np.isfinite(made).all()


def test_a_row_counts_by_its_score_that_is_off_most() -> None:
    expected = np.array([[0.5, 0.5], [1.0, 0.0]], np.float32)
    got = np.array([[0.5, 0.5], [0.75, 0.25]], np.float32)
    assert agreement.mean_difference(expected, got, Function.SOFTMAX) == 0.125
    spread = agreement.mean_difference(expected * 10, got * 10, Function.NONE)
    assert spread == pytest.approx(1.25 / (expected * 10).std())


PASSING = Agreement(rows=9, same=0.97, mean_difference=0.02, max_difference=0.9, variance=0.001)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"same": 0.9699}, "agreement with FP32 on 9 rows is 0.96990, and at least 0.97"),
        ({"mean_difference": 0.0201}, "mean difference to FP32 .* at most 0.02"),
        ({"variance": 0.0011}, "alone and in company .* at most 0.001"),
        ({"mean_difference": float("nan")}, "mean difference to FP32"),
    ],
)
def test_each_measure_has_a_bar(changes: dict[str, Any], said: str) -> None:
    bars.check("m", PASSING)
    with pytest.raises(BuildFailed, match=said):
        bars.check("m", msgspec.structs.replace(PASSING, **changes))
