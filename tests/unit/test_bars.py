"""What an error says of a result that is under its bar."""

import pytest

from forebay.build import bars
from forebay.contract.build_steps import Effect, StepReport
from forebay.contract.errors import BuildFailed
from forebay.contract.manifest import Accuracy, Agreement, Fluency

ACCURACY = Accuracy(
    texts=10, mean_cosine=0.99, min_cosine=0.9, neighbour_agreement=0.9, invariance=1.0
)
AGREEMENT = Agreement(rows=9, same=0.9, mean_difference=0.1, max_difference=0.5, variance=0.0)


def step(name: str, closeness: float, *, kept: bool = True) -> StepReport:
    return StepReport(name, "so", Effect(1, closeness, 1.0, 1.0, 1.0), 1.0, kept)


def test_the_step_that_lost_most_is_named_with_what_to_try() -> None:
    steps = (
        step("export", 1.0),
        step("prune", 0.996),
        step("quantize", 0.985),
        step("fuse", 0.5, kept=False),
        step("smooth", 0.99),
    )
    with pytest.raises(BuildFailed) as failed:
        bars.check("m", ACCURACY, steps=steps)
    assert failed.value.message == (
        "The build of 'm' is not published: its mean cosine to FP32 on 10 texts is 0.99000, and at "
        "least 0.995 is asked. The step 'quantize' (so) lost most: closeness went from 0.99600 to "
        '0.98500. Raise `build.max_fp32`, or try `precision = "fp32"`; or lower '
        "`build.min_accuracy` if that will do."
    )


def test_a_models_own_bar_is_held_instead_and_invariance_keeps_its_own() -> None:
    bars.check("m", ACCURACY, min_accuracy=0.98)
    with pytest.raises(BuildFailed, match=r"at least 0\.9901 is asked"):
        bars.check("m", ACCURACY, min_accuracy=0.9901)
    bars.check("m", AGREEMENT, min_accuracy=0.9)
    with pytest.raises(BuildFailed, match="agreement with FP32"):
        bars.check("m", AGREEMENT)
    dependent = Accuracy(10, 0.999, 0.9, 0.9, 0.99)
    with pytest.raises(BuildFailed, match="batch invariance on 10 texts"):
        bars.check("m", dependent, min_accuracy=0.0, steps=(step("export", 1.0),))


def test_a_model_that_generates_is_held_against_its_perplexity() -> None:
    fluency = Fluency(
        tokens=900, perplexity=12.5, full_perplexity=10.0, ratio=0.8, same=0.7, company=1.0
    )
    bars.check("m", fluency, min_accuracy=0.8)
    with pytest.raises(BuildFailed, match=r"perplexities to FP32 on 900 tokens is 0\.80000"):
        bars.check("m", fluency)
