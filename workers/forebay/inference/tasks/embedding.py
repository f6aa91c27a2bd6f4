"""A vector for a text. Pooling and normalisation are inside the graph."""

from collections.abc import Sequence

from forebay.contract.errors import InvalidInput
from forebay.contract.rows import Embedding, Options, Output, Row, TextRow
from forebay.inference.backends.base import PreparedRow
from forebay.inference.tasks.base import Values
from forebay.inference.tasks.text import Texts


class Embeddings:
    """Embeds texts.

    Args:
        texts: tokenizes them.
    """

    output = "embedding"

    def __init__(self, texts: Texts) -> None:
        self.texts = texts

    def samples(self, texts: Sequence[str]) -> list[Row]:
        """The texts."""
        return [TextRow(text) for text in texts]

    def prepare(
        self, rows: Sequence[Row], *, truncate: bool, options: Options
    ) -> list[PreparedRow | InvalidInput]:
        """Tokenize texts and check ids; no option means anything here."""
        return self.texts.prepare(rows, truncate=truncate)

    def outputs(self, rows: Sequence[PreparedRow], values: Values) -> list[Output]:
        """An `Embedding` a row: `dimensions` little-endian float32 values.

        Args:
            rows: of the batch.
            values: `[rows, dimensions]`.
        """
        return [
            Embedding(vector.tobytes(), row.length)
            for row, vector in zip(rows, values.astype("<f4", copy=False), strict=True)
        ]
