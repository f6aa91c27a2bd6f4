"""The bars that a result must reach to be published."""

from collections.abc import Sequence

from forebay.contract.build_steps import StepReport, before
from forebay.contract.errors import BuildFailed
from forebay.contract.manifest import Accuracy, Agreement, Fluency

MIN_MEAN_COSINE = 0.995
MIN_INVARIANCE = 0.9999

MIN_SAME = 0.97
MAX_MEAN_DIFFERENCE = 0.02
MAX_VARIANCE = 0.001

MIN_FLUENCY = 0.85

_FULL = 'try `precision = "fp32"`'
_TRIES = {
    "cut": "keep more layers (`build.distill.layers`), or train on more texts or for more epochs",
    "distill": "train on more texts or for more epochs (`build.distill`), or keep more layers",
    "prune": "set fewer weights to zero (`build.prune`)",
    "quantize": f"raise `build.max_fp32`, or {_FULL}",
    "smooth": f"raise `build.max_fp32`, or {_FULL}",
    "mix": f"raise `build.max_fp32`, or {_FULL}",
}


def check(
    model: str,
    measured: Accuracy | Agreement | Fluency,
    *,
    min_accuracy: float | None = None,
    steps: Sequence[StepReport] = (),
) -> None:
    """Hold a result against the bars.

    Args:
        model: its name.
        measured: the result.
        min_accuracy: the model's own bar, instead of those of accuracy; invariance keeps its own.
        steps: what led there.

    Raises:
        BuildFailed: it is under one; the message says by which measure, and by which step.
    """
    if isinstance(measured, Accuracy):
        on = f"on {measured.texts} texts"
        _at_least(model, f"mean cosine to FP32 {on}", measured.mean_cosine,
                  MIN_MEAN_COSINE if min_accuracy is None else min_accuracy, steps)  # fmt: skip
        _at_least(model, f"batch invariance {on}", measured.invariance, MIN_INVARIANCE, ())
        return
    if isinstance(measured, Fluency):
        bar = MIN_FLUENCY if min_accuracy is None else min_accuracy
        on = f"on {measured.tokens} tokens"
        _at_least(model, f"ratio of perplexities to FP32 {on}", measured.ratio, bar, ())
        return
    on = f"on {measured.rows} rows"
    _at_least(model, f"agreement with FP32 {on}", measured.same,
              MIN_SAME if min_accuracy is None else min_accuracy, steps)  # fmt: skip
    if min_accuracy is None:
        _at_most(model, f"mean difference to FP32 {on}", measured.mean_difference,
                 MAX_MEAN_DIFFERENCE, steps)  # fmt: skip
    _at_most(model, f"largest difference between a row alone and in company {on}",
             measured.variance, MAX_VARIANCE, ())  # fmt: skip


def _at_least(
    model: str, measure: str, value: float, bar: float, steps: Sequence[StepReport]
) -> None:
    if not value >= bar:
        raise _under(model, f"{measure} is {value:.5f}, and at least {bar} is asked", steps)


def _at_most(
    model: str, measure: str, value: float, bar: float, steps: Sequence[StepReport]
) -> None:
    if not value <= bar:
        raise _under(model, f"{measure} is {value:.5f}, and at most {bar} is asked", steps)


def _under(model: str, told: str, steps: Sequence[StepReport]) -> BuildFailed:
    lost = _worst(tuple(steps))
    if lost is None:
        advice = f"{_FULL[0].upper()}{_FULL[1:]} for this model."
    else:
        step, was = lost
        tries = _TRIES.get(step.step, _FULL)
        advice = (
            f"The step {step.step!r} ({step.chosen}) lost most: closeness went from {was:.5f} to "
            f"{step.after.closeness:.5f}. {tries[0].upper()}{tries[1:]}; or lower "
            "`build.min_accuracy` if that will do."
        )
    return BuildFailed(f"The build of {model!r} is not published: its {told}. {advice}")


def _worst(steps: tuple[StepReport, ...]) -> tuple[StepReport, float] | None:
    """The step after which closeness fell most, and what it was before; later steps may mend it."""
    losses = [
        (earlier.closeness - step.after.closeness, step, earlier.closeness)
        for index, step in enumerate(steps)
        if step.kept and (earlier := before(steps, index)) is not None
    ]
    loss, step, was = max(losses, key=lambda one: one[0], default=(0.0, None, 0.0))
    return (step, was) if step is not None and loss > 0 else None
