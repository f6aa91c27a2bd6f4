"""Any input with the very output that is expected: for python models, pipelines, and echo.

    {"input": {"text": "…"}, "output": ["de", 0.93]}

Numbers may differ by a tolerance, everything else not at all.
"""

import math
from collections.abc import Sequence
from typing import Any, cast

import msgspec

from forebay.assess.chance import Columns, Measure
from forebay.assess.forms.base import Details, Example, Numbers, mean_of
from forebay.assess.lines import decode


class _Line(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    input: Any
    output: Any


class Values:
    """Whether the output is the one that is expected.

    Args:
        echo: an echo model's input is any value, a python model's an object.
        tolerance: by how much a number may differ, of itself or of 1, whichever is larger.
    """

    name = "values"
    measures: Sequence[Measure] = (mean_of("correct", "exact match", hits=True),)

    def __init__(self, *, echo: bool, tolerance: float) -> None:
        self._echo = echo
        self._tolerance = tolerance
        self._decoder = msgspec.json.Decoder(_Line)
        self._rows = Numbers("correct")

    def read(self, data: bytes, line: int) -> Example:
        """Read a line; see the module."""
        given = decode(self._decoder, data)
        return Example(line, {"value": given.input} if self._echo else given.input, given.output)

    def take(self, example: Example, output: Any) -> None:
        """Compare the output with the one that is expected."""
        self._rows.add(same(example.truth, output, tolerance=self._tolerance))

    def columns(self) -> Columns:
        """`correct` is 0 or 1."""
        return self._rows.columns()

    def details(self) -> Details:
        """Nothing more."""
        return Details()


def same(one: object, other: object, *, tolerance: float) -> bool:
    """Whether two JSON values are the same, numbers within a tolerance; true is no number."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, int | float) and isinstance(other, int | float):
        return math.isclose(one, other, rel_tol=tolerance, abs_tol=tolerance)
    if isinstance(one, dict) and isinstance(other, dict):
        left, right = cast("dict[str, object]", one), cast("dict[str, object]", other)
        return left.keys() == right.keys() and all(
            same(value, right[name], tolerance=tolerance) for name, value in left.items()
        )
    if isinstance(one, list) and isinstance(other, list):
        items, others = cast("list[object]", one), cast("list[object]", other)
        return len(items) == len(others) and all(
            same(*both, tolerance=tolerance) for both in zip(items, others, strict=True)
        )
    return one == other
