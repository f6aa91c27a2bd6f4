"""The build of embedding models."""

from collections.abc import Sequence
from pathlib import Path

from onnx import ModelProto

from forebay.build import evaluate, layout
from forebay.build.calibrate import ByCosine
from forebay.build.encoder import Encoder, Row, tokenize
from forebay.build.export import export
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

    def rows(self, texts: Sequence[str]) -> list[Row]:
        """Token ids of each text, cut to the limit."""
        return list(tokenize(self.tokenizer, texts, self.limits))

    def measured(self, reference: Encoder, candidate: Encoder, rows: Sequence[Row]) -> Accuracy:
        """How close the candidate's embeddings are to FP32's, and to its own in company."""
        return evaluate.accuracy(reference, candidate, rows)
