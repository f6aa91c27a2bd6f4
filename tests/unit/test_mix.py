"""Smoothing and mixed precision, chosen by measuring on a small graph."""

import pytest
from onnx import ModelProto

from forebay.build import calibrate, linears, quantize
from forebay.build.mix import mix
from forebay.build.trial import ByCosine, Trials
from tests.fixtures.graphs import some_rows, tiny_encoder


@pytest.fixture(scope="module")
def encoder() -> ModelProto:
    return tiny_encoder()


def trials_of(encoder: ModelProto, *, aim: float) -> Trials:
    return Trials(encoder, some_rows(), ByCosine(), pad_id=0, threads=1, aim=aim)


def score(encoder: ModelProto, *, keep: set[str]) -> float:
    return trials_of(encoder, aim=0).closeness(
        quantize.quantize(encoder, peaks={}, smoothing=0.0, keep=keep)
    )


def test_smoothing_takes_the_strength_that_scores_best(encoder: ModelProto) -> None:
    trials = trials_of(encoder, aim=0.0)
    peaks = calibrate.measure_peaks(encoder, trials)
    found = calibrate.smooth(encoder, trials, peaks)
    scores = {
        alpha: trials.closeness(quantize.quantize(encoder, peaks=peaks, smoothing=alpha))
        for alpha in calibrate.ALPHAS
    }
    assert found.closeness == scores[found.alpha] == max(scores.values())
    assert set(found.parts) == {found.alpha}


def test_where_the_aim_asks_for_more_parts_of_the_graph_are_tried_and_nothing_gets_worse(
    encoder: ModelProto,
) -> None:
    easy, hard = trials_of(encoder, aim=0.0), trials_of(encoder, aim=2.0)
    peaks = calibrate.measure_peaks(encoder, easy)
    told: list[float] = []
    plain = calibrate.smooth(encoder, easy, peaks)
    finer = calibrate.smooth(encoder, hard, peaks, progress=told.append)
    assert finer.closeness >= plain.closeness
    assert len(told) > len(calibrate.ALPHAS)
    assert told == sorted(told)
    assert told[-1] < 1
    quantized = quantize.quantize(encoder, peaks=peaks, smoothing=finer.inputs)
    assert hard.closeness(quantized) == finer.closeness


def test_what_costs_most_is_kept_and_no_more_than_the_aim_needs(encoder: ModelProto) -> None:
    def quantizer(keep: object) -> ModelProto:
        assert isinstance(keep, set | frozenset)
        return quantize.quantize(encoder, peaks={}, smoothing=0.0, keep=keep)

    first, second = (score(encoder, keep={name}) for name in ("first", "second"))
    none, sensitive = score(encoder, keep=set()), "second" if second > first else "first"
    aim = (none + max(first, second)) / 2
    found = mix(encoder, quantizer, trials_of(encoder, aim=aim), budget=1.0)
    assert found.keep == (sensitive,)
    assert found.closeness == max(first, second) >= aim
    assert found.share == pytest.approx(0.5)

    both = mix(encoder, quantizer, trials_of(encoder, aim=2.0), budget=1.0)
    assert both.keep[0] == sensitive
    assert set(both.keep) == {"first", "second"}
    assert both.closeness == 1

    within = mix(encoder, quantizer, trials_of(encoder, aim=2.0), budget=0.6)
    assert within.keep == (sensitive,)
    assert mix(encoder, quantizer, trials_of(encoder, aim=2.0), budget=0.4).keep == ()


def test_a_products_share_is_that_of_its_weights(encoder: ModelProto) -> None:
    assert linears.shares(encoder) == {"first": 0.5, "second": 0.5}
