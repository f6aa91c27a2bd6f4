"""What a build's report says about each of its steps."""

import msgspec


class Effect(msgspec.Struct, frozen=True):
    """An artifact as it is after a step, against the model in full precision.

    Attributes:
        bytes: of the graph and its weights.
        closeness: an embedder's mean cosine to full precision, or 1 less what a classifier's scores
            are off by on average.
        same: share of texts whose nearest other text is the same, or of rows whose best label is.
        invariance: lowest cosine between a text run alone and in company, or 1 less the largest
            difference of a score.
        speed: rows per second as a multiple of full precision's in the same run.
    """

    bytes: int
    closeness: float
    same: float
    invariance: float
    speed: float


class StepReport(msgspec.Struct, frozen=True):
    """One step of a build.

    Attributes:
        step: its name.
        chosen: what it settled on, in a few words.
        after: what came out, also of a step that is not kept.
        kept: whether the artifact has it.
        seconds: what it took, measuring included.
        why: the reason why it is kept or not, where there was a choice.
    """

    step: str
    chosen: str
    after: Effect
    seconds: float
    kept: bool = True
    why: str = ""


def before(steps: tuple[StepReport, ...], index: int) -> Effect | None:
    """What a step began with: the last one kept before it; None for the first."""
    return next((step.after for step in reversed(steps[:index]) if step.kept), None)
