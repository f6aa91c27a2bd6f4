"""The build of embedding models."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from onnx import ModelProto

from forebay.build import evaluate, layout
from forebay.build.encoder import Encoder, Row, Vectors, tokenize
from forebay.build.export import encoder, export
from forebay.build.texts import Text
from forebay.build.trial import ByCosine
from forebay.contract.errors import BuildFailed
from forebay.contract.manifest import Accuracy


class Embedder(ByCosine):
    """Builds an embedding model.

    Args:
        folder: as sentence-transformers saves one.

    Raises:
        BuildFailed: the folder holds no such model.
    """

    head = None

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._form = layout.read(folder)
        self.limits = self._form.limits
        self.tokenizer = layout.open_tokenizer(folder)

    def export(self, out: Path) -> ModelProto:
        """Write the encoder as one ONNX file at `out`, and return it; see `export.export`."""
        return export(self._folder, self._form, out)

    def module(self) -> Any:
        """The encoder with its pooling in PyTorch, in FP32."""
        return encoder(self._folder, self._form)

    def rows(self, texts: Sequence[Text]) -> list[Row]:
        """Token ids of each text, cut to the limit.

        Raises:
            BuildFailed: one of the texts is a pair.
        """
        single = [text for text in texts if isinstance(text, str)]
        if len(single) < len(texts):
            raise BuildFailed("An embedding model takes texts, and the build was given pairs.")
        return list(tokenize(self.tokenizer, single, self.limits))

    def measured(self, expected: Vectors, candidate: Encoder, rows: Sequence[Row]) -> Accuracy:
        """How close the candidate's embeddings are to FP32's, and to its own in company."""
        return evaluate.accuracy(expected, candidate, rows)
