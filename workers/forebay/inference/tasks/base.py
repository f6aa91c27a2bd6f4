"""The protocol between a text backend and what its model is for."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from forebay.contract.errors import InvalidInput
from forebay.contract.rows import DEFAULT_OPTIONS, Options, Output, Row
from forebay.inference.backends.base import PreparedRow

Ids = npt.NDArray[np.int64]
Values = npt.NDArray[np.float32]

LOGITS = "logits"
"""Name of a classifier's output."""


class Tokens(PreparedRow, frozen=True):
    """A row whose output takes more than its tokens; `data` is their ids, int64 `[length]`.

    Attributes:
        segments: which of two texts each token is of, int64 `[length]`; None for a single text.
        options: what is asked of the output.
    """

    segments: Ids | None = None
    options: Options = DEFAULT_OPTIONS


class Task(Protocol):
    """What a model does with rows. Holds no state that a call changes: threads share it."""

    @property
    def output(self) -> str:
        """The graph's output that `outputs` takes."""
        ...

    def samples(self, texts: Sequence[str]) -> list[Row]:
        """Rows of the task's own kind, made of a manifest's samples."""
        ...

    def prepare(
        self, rows: Sequence[Row], *, truncate: bool, options: Options
    ) -> list[PreparedRow | InvalidInput]:
        """Tokenize rows; see `Backend.prepare`. `data` of each is its ids, int64 `[length]`."""
        ...

    def outputs(self, rows: Sequence[PreparedRow], values: Values) -> list[Output]:
        """An output a row.

        Args:
            rows: those of one forward pass.
            values: what the graph gave: `[rows, …, dimensions]`.
        """
        ...
