"""What forms have in common."""

from array import array
from collections.abc import Sequence
from typing import Any, Protocol

import msgspec
import numpy as np
import numpy.typing as npt

from forebay.assess.chance import Columns, Measure


class Example(msgspec.Struct, frozen=True):
    """A line, read.

    Attributes:
        line: its number in the file.
        input: what `/v1/predictions` takes for it.
        truth: what is expected of the output; its form knows how to read it.
        rows: of the model that it comes to.
    """

    line: int
    input: dict[str, Any]
    truth: Any
    rows: int = 1


class LabelFigures(msgspec.Struct, frozen=True):
    """How well one label, or one type of entity, is told."""

    label: str
    precision: float
    recall: float
    f1: float
    support: int


class Confusion(msgspec.Struct, frozen=True):
    """How many rows of one label were taken for another."""

    truth: str
    predicted: str
    rows: int


class Details(msgspec.Struct, frozen=True):
    """What a form tells beside its measures."""

    labels: tuple[LabelFigures, ...] = ()
    confusions: tuple[Confusion, ...] = ()


class Form(Protocol):
    """Reads lines of one shape and counts what a model makes of them.

    A form keeps a few numbers a row, and no text.
    """

    @property
    def name(self) -> str:
        """What an evaluation of this form is called."""
        ...

    @property
    def measures(self) -> Sequence[Measure]:
        """Figures that are computed of the columns; the first is the one that matters most."""
        ...

    def read(self, data: bytes, line: int) -> Example:
        """Read a line.

        Raises:
            InvalidInput: it is not of this form; says what is wrong with it.
        """
        ...

    def take(self, example: Example, output: Any) -> None:
        """Count what the model has answered, in JSON as `/v1/predictions` tells it.

        Raises:
            InvalidInput: the example's truth is nothing that this model can say.
        """
        ...

    def columns(self) -> Columns:
        """What was counted, a row an example, in order."""
        ...

    def details(self) -> Details:
        """More than one figure."""
        ...


class Numbers:
    """Numbers of each row, in columns.

    Args:
        names: of the columns.
    """

    def __init__(self, *names: str) -> None:
        self._names = names
        self._flat = array("d")

    def add(self, *values: float) -> None:
        """A row, one number a column."""
        self._flat.extend(values)

    def columns(self) -> dict[str, npt.NDArray[np.float64]]:
        """float64 `[rows]` each."""
        table = np.array(self._flat, np.float64).reshape(-1, len(self._names))
        return dict(zip(self._names, table.T.copy(), strict=True))


def mean_of(column: str, name: str, *, hits: bool = False) -> Measure:
    """A measure that is a column's mean."""
    return Measure(name, lambda rows: float(rows[column].mean()), hits=column if hits else "")
