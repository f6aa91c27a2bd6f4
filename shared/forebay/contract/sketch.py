"""A sketch: what a model was asked and has answered, in counts of coarse bins.

No text is in it, and no vector: only how many rows fell into which bin of which statistic. Sketches
of several workers or days add up. Fields are `STATISTIC BIN`, as Redis keeps them.
"""

from collections.abc import Mapping

import msgspec

FORMAT_VERSION = 1

INPUTS = "rows in"
OUTPUTS = "rows out"
"""Fields with how many rows were looked at, before and after the model ran."""

OF_OUTPUTS = frozenset(
    {"label", "score", "margin", "norm", "direction", "found", "entity", "answer"}
)
"""Statistics of what a model has answered; all others are of what it was asked."""


class Sketch(msgspec.Struct, frozen=True):
    """Counts by statistic and bin.

    Attributes:
        inputs: rows that were looked at before they ran.
        outputs: and after.
        counts: how many rows, or parts of rows, are in each bin of each statistic.
    """

    inputs: int
    outputs: int
    counts: dict[str, dict[str, int]]

    @classmethod
    def of_fields(cls, fields: Mapping[str, int]) -> "Sketch":
        """Take fields apart."""
        counts: dict[str, dict[str, int]] = {}
        for field, count in fields.items():
            if field not in (INPUTS, OUTPUTS):
                statistic, _, bin_ = field.partition(" ")
                counts.setdefault(statistic, {})[bin_] = count
        return cls(fields.get(INPUTS, 0), fields.get(OUTPUTS, 0), counts)

    def rows(self, statistic: str) -> int:
        """How many rows a statistic is of."""
        return self.outputs if statistic in OF_OUTPUTS else self.inputs


class Reference(msgspec.Struct, frozen=True):
    """The sketch that others are held against.

    Attributes:
        model: its name.
        version: of the model; outputs of another one are of another distribution.
        taken_from: `shipped texts` by a build, or `traffic` and the days it is of.
        sketch: what it was asked and answered.
    """

    model: str
    version: str
    taken_from: str
    sketch: Sketch
    format: int = FORMAT_VERSION
