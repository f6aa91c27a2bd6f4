"""What `[models.NAME.build]` says about how an artifact is made."""

import math
from enum import StrEnum

import msgspec

from forebay.contract.errors import ConfigurationError


class Fuse(StrEnum):
    """Whether attention becomes one operator.

    `measure` keeps it where it is faster on the building machine, so that two builds of one source
    may differ; `off` and `on` give the same digest each time.
    """

    OFF = "off"
    ON = "on"
    MEASURE = "measure"


class PruneScope(StrEnum):
    """Where the smallest weights are searched: in each output channel, or in all products."""

    CHANNEL = "channel"
    GLOBAL = "global"


class DistillSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A smaller student of the same family, trained on what the model answers.

    Attributes:
        layers: of the student; they start as layers of the model, spread over its depth.
        texts: file of texts to train on, one text or JSON row a line, relative to the catalog's
            folder. What is measured on must not be in it.
        epochs: times each text is seen.
        batch_rows: rows of one step.
        learning_rate: the highest; it rises over the first tenth of the steps and then falls to 0.
        seed: of the order of the rows.
    """

    layers: int
    texts: str
    epochs: int = 3
    batch_rows: int = 32
    learning_rate: float = 2e-4
    seed: int = 0


class BuildSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the artifact of a text model is made.

    Attributes:
        fuse: whether attention becomes one operator.
        prune: share of the products' weights, the smallest, that are set to zero, 0..1. Makes the
            artifact smaller once it is compressed, and no faster.
        prune_scope: where the smallest are searched.
        max_fp32: largest share of the products' weights that may be kept in full precision, or with
            `int4-weight-only` in 8 bits, to reach the accuracy aimed at, 0..1. Time and size go
            with it.
        calibration: file of texts that set scales and choose, one text or JSON row a line,
            relative to the catalog's folder. The build's own, if not given.
        evaluation: file of texts that the report is measured on, likewise; none may be in both. Of
            a model that generates, a file with one long text.
        min_accuracy: mean cosine to full precision, share of rows with the same best label, or, of
            a model that generates, its perplexity's share of what the artifact's is, under which
            nothing is published. If not given, 0.995, 0.97 and 0.85, and beside the second scores
            that are off by 0.02 at most on average.
        distill: makes a smaller student first.
    """

    fuse: Fuse = Fuse.OFF
    prune: float = 0.0
    prune_scope: PruneScope = PruneScope.CHANNEL
    max_fp32: float = 0.25
    calibration: str = ""
    evaluation: str = ""
    min_accuracy: float | None = None
    distill: DistillSpec | None = None

    @property
    def measuring(self) -> "BuildSpec":
        """What it says about measuring, and nothing about making."""
        return BuildSpec(evaluation=self.evaluation, min_accuracy=self.min_accuracy)

    def check(self, where: str) -> None:
        """Hold each value against its range.

        Args:
            where: the table, for the error.

        Raises:
            ConfigurationError: a value is out of range; the message names the field.
        """
        rules = [
            ("prune", 0 <= self.prune < 1, "from 0 up to, not including, 1"),
            ("max_fp32", 0 <= self.max_fp32 <= 1, "from 0 to 1"),
            ("min_accuracy", self.min_accuracy is None or 0 <= self.min_accuracy <= 1,
             "from 0 to 1"),
        ]  # fmt: skip
        if (distill := self.distill) is not None:
            rate = distill.learning_rate
            rules += [
                ("distill.layers", distill.layers >= 1, "at least 1"),
                ("distill.texts", bool(distill.texts), "given"),
                ("distill.epochs", distill.epochs >= 1, "at least 1"),
                ("distill.batch_rows", distill.batch_rows >= 1, "at least 1"),
                ("distill.learning_rate", 0 < rate < math.inf, "more than 0, and finite"),
                ("distill.seed", 0 <= distill.seed < 2**63, "from 0 to 2^63 - 1"),
                (
                    "min_accuracy",
                    self.min_accuracy is not None,
                    "given beside `distill`: a student is never as close to its model as the "
                    "bar asks that holds otherwise",
                ),
            ]
        for field, ok, rule in rules:
            if not ok:
                raise ConfigurationError(f"{where}.{field}: must be {rule}.")
