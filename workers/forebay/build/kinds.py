"""What the build of one kind of text model does its own way."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from onnx import ModelProto
from tokenizers import Tokenizer

from forebay.build.encoder import Encoder, Row, Vectors
from forebay.build.texts import Text
from forebay.build.trial import Judge
from forebay.contract.manifest import Accuracy, Agreement, Head, TextLimits
from forebay.contract.rows import Task


class TextKind(Judge, Protocol):
    """A text model's folder, read: how it is exported, fed, and compared."""

    limits: TextLimits
    tokenizer: Tokenizer

    @property
    def head(self) -> Head | None:
        """Of a classifier."""
        ...

    def module(self) -> Any:
        """The model in PyTorch: token ids and mask in, what is compared out; `body` inside."""
        ...

    def export(self, out: Path) -> ModelProto:
        """Write the model as one ONNX file in FP32, and return it."""
        ...

    def rows(self, texts: Sequence[Text]) -> list[Row]:
        """Rows of tokens, cut to the limit."""
        ...

    def measured(
        self, expected: Vectors, candidate: Encoder, rows: Sequence[Row]
    ) -> Accuracy | Agreement:
        """How close a candidate is to full precision, and to itself in other company."""
        ...


def read(folder: Path, task: Task) -> TextKind:
    """The kind of model in a Hugging Face folder.

    Raises:
        BuildFailed: the folder holds no model for the task.
    """
    if task is Task.EMBEDDING:
        from forebay.build.embedder import Embedder

        return Embedder(folder)
    from forebay.build.classifier import Classifier

    return Classifier(folder, task)
