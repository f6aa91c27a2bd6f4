"""The protocol between the worker and whatever executes a model."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import msgspec

from forebay.contract.errors import InvalidInput
from forebay.contract.rows import DEFAULT_OPTIONS, Options, Output, Row
from forebay.contract.tensors import TensorSignature


class PreparedRow(msgspec.Struct, frozen=True):
    """A row that passed its checks and is ready to run.

    Attributes:
        length: its cost along the padded axis (tokens for text, 1 where nothing is padded).
        data: what the backend's `run` needs; no one else looks inside.
    """

    length: int
    data: Any


class Model(Protocol):
    """A model in a worker's memory, however its rows are run.

    Made by `load`, warm before it reports ready, closed on drain.
    """

    @property
    def version(self) -> str:
        """Short digest of the artifact, or the backend's own name where there is none."""
        ...

    def warm(self) -> None:
        """Run the manifest's samples, so that the first request pays for nothing."""
        ...

    def prepare(
        self, rows: Sequence[Row], *, truncate: bool, options: Options = DEFAULT_OPTIONS
    ) -> list[PreparedRow | InvalidInput]:
        """Check and tokenize rows, before anything runs.

        Args:
            rows: rows of one computation.
            truncate: cut a row that is over the model's limit instead of refusing it.
            options: what is asked of the rows' outputs; a backend takes no notice of those that
                mean nothing to its task.

        Returns:
            For each row, in order, either the row ready to run or why it is refused.
        """
        ...

    def close(self) -> None:
        """Free what the model holds."""
        ...


class Backend(Model, Protocol):
    """Executes one model.

    `prepare` runs on the prepare thread while `run` runs on up to `streams` device threads; a
    backend shares no mutable state between them.
    """

    @property
    def streams(self) -> int:
        """How many forward passes may run at once, each on a thread of its own."""
        ...

    def run(self, rows: Sequence[PreparedRow]) -> list[Output]:
        """One forward pass. Result i belongs to row i and does not depend on the other rows."""
        ...


@runtime_checkable
class Traced(Protocol):
    """What a backend may offer beside: to write down what its forward passes are made of."""

    def traced(self, path: Path) -> AbstractContextManager[None]:
        """Write down every operator of the passes inside, as ONNX Runtime's profiler does.

        Args:
            path: the file for it, complete once the context is left: a JSON array of events in
                Chrome's trace format, complete ones (`"ph": "X"`) of category `Node` with the
                operator's kind as `args.op_name`.
        """
        ...


@runtime_checkable
class OfTensors(Protocol):
    """What a backend of plain tensors has beside: it says which ones it takes and gives."""

    signature: TensorSignature
