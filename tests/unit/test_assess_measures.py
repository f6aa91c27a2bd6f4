"""Measures of predictions, held against scikit-learn and scipy, and against sums done by hand."""

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics

from forebay.assess.measures import correlation, labels, ranking, spans

DRAWS = np.random.default_rng(5)
TRUTH = DRAWS.integers(0, 5, 400)
PREDICTED = np.where(DRAWS.random(400) < 0.6, TRUTH, DRAWS.integers(0, 6, 400))


def test_figures_of_labels_are_those_of_scikit_learn() -> None:
    found = labels.tally(TRUTH, PREDICTED)
    precision, recall, f1, support = metrics.precision_recall_fscore_support(
        TRUTH, PREDICTED, zero_division=0
    )
    assert found.precision == pytest.approx(precision)
    assert found.recall == pytest.approx(recall)
    assert found.f1 == pytest.approx(f1)
    assert found.support.tolist() == support.tolist()
    assert found.macro_f1 == pytest.approx(metrics.f1_score(TRUTH, PREDICTED, average="macro"))
    assert found.micro_f1 == pytest.approx(metrics.accuracy_score(TRUTH, PREDICTED))


def test_figures_of_several_labels_are_those_of_scikit_learn() -> None:
    truth, predicted = DRAWS.random((200, 4)) < 0.3, DRAWS.random((200, 4)) < 0.4
    found = labels.tally_several(truth, predicted)
    assert found.f1 == pytest.approx(metrics.f1_score(truth, predicted, average=None))
    assert found.macro_f1 == pytest.approx(metrics.f1_score(truth, predicted, average="macro"))
    assert found.micro_f1 == pytest.approx(metrics.f1_score(truth, predicted, average="micro"))


def test_confusions_are_those_of_the_matrix_the_commonest_first() -> None:
    matrix = metrics.confusion_matrix(TRUTH, PREDICTED)
    found = labels.confusions(TRUTH, PREDICTED, most=3)
    assert [count for *_, count in found] == sorted((c for *_, c in found), reverse=True)
    assert all(matrix[truth, told] == count for truth, told, count in found)
    np.fill_diagonal(matrix, 0)
    assert found[0][2] == matrix.max()
    assert labels.confusions(TRUTH, TRUTH, most=3) == []


def test_calibration_error_is_the_mean_gap_between_confidence_and_being_right() -> None:
    confidence = np.array([0.9, 0.9, 0.9, 0.9, 0.3, 0.3])
    correct = np.array([1, 1, 1, 0, 0, 1], bool)
    # Of four at 0.9 three are right, of two at 0.3 one: |3.6 - 3| and |0.6 - 1| over six rows.
    assert labels.calibration_error(confidence, correct) == pytest.approx((0.6 + 0.4) / 6)
    assert labels.calibration_error(np.array([1.0, 0.0]), np.array([True, False])) == 0


def test_an_entity_is_right_only_if_type_and_bounds_are() -> None:
    truth = [("PER", 0, 3), ("LOC", 10, 16), ("PER", 20, 25)]
    told = [("PER", 0, 3), ("PER", 10, 16), ("PER", 20, 24), ("LOC", 30, 31)]
    assert spans.found(truth, told) == {"PER": (1, 2, 1), "LOC": (0, 1, 1)}
    assert spans.found([("PER", 0, 3)] * 2, [("PER", 0, 3)]) == {"PER": (1, 0, 1)}


def test_tags_become_entities_at_their_characters() -> None:
    tokens = ["Ada", "King", "met", "Babbage", "Ada", "in", "New", "York"]
    tags = ["B-PER", "I-PER", "O", "I-PER", "B-PER", "O", "B-LOC", "I-PER"]
    text, found = spans.of_tags(tokens, tags)
    assert text == "Ada King met Babbage Ada in New York"
    assert [(kind, text[start:end]) for kind, start, end in found] == [
        ("PER", "Ada King"),
        ("PER", "Babbage"),
        ("PER", "Ada"),
        ("LOC", "New"),
        ("PER", "York"),
    ]


@pytest.mark.parametrize("seed", range(5))
def test_ndcg_is_that_of_scikit_learn(seed: int) -> None:
    draws = np.random.default_rng(seed)
    gains = draws.integers(0, 4, 25).astype(float)
    scores = -np.arange(25.0)
    expected = metrics.ndcg_score([gains], [scores], k=10)
    assert ranking.ndcg(gains.tolist(), most=10) == pytest.approx(expected)
    relevant = gains > 0
    assert ranking.average_precision(gains.tolist()) == pytest.approx(
        metrics.average_precision_score(relevant, scores)
    )


def test_the_first_relevant_document_makes_the_reciprocal_rank() -> None:
    assert ranking.reciprocal_rank([0, 0, 2, 1]) == pytest.approx(1 / 3)
    assert ranking.reciprocal_rank([0, 0]) == 0
    assert ranking.ndcg([0, 0], most=10) == 0
    assert ranking.average_precision([0]) == 0


def test_correlations_are_those_of_scipy_with_ties() -> None:
    one = DRAWS.integers(0, 20, 300).astype(float)
    other = one + DRAWS.integers(0, 15, 300).astype(float)
    assert correlation.pearson(one, other) == pytest.approx(stats.pearsonr(one, other).statistic)
    assert correlation.spearman(one, other) == pytest.approx(stats.spearmanr(one, other).statistic)
    assert correlation.spearman(one, np.ones(300)) == 0
    assert correlation.pearson(one[:1], other[:1]) == 0
