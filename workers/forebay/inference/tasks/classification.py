"""Labels for a text or for a pair of texts. A reranker is one that takes pairs alone."""

from collections.abc import Sequence

from forebay.contract.errors import InvalidInput
from forebay.contract.manifest import Head
from forebay.contract.rows import Options, Output, PairRow, Row, TextRow
from forebay.inference.backends.base import PreparedRow
from forebay.inference.tasks.base import LOGITS, Tokens, Values
from forebay.inference.tasks.pairs import Pairs
from forebay.inference.tasks.scores import classes
from forebay.inference.tasks.text import Texts


class Classification:
    """Scores labels.

    Args:
        texts: tokenizes.
        head: the labels, and what makes scores of their logits.
        only_pairs: refuse single texts.
    """

    output = LOGITS

    def __init__(self, texts: Texts, head: Head, *, only_pairs: bool) -> None:
        self._texts = texts
        self._pairs = Pairs(texts)
        self._head = head
        self._only_pairs = only_pairs

    def samples(self, texts: Sequence[str]) -> list[Row]:
        """The texts, or each of them with the one after it."""
        if self._only_pairs:
            return [PairRow(*pair) for pair in zip(texts, (*texts[1:], texts[0]), strict=True)]
        return [TextRow(text) for text in texts]

    def prepare(
        self, rows: Sequence[Row], *, truncate: bool, options: Options
    ) -> list[PreparedRow | InvalidInput]:
        """Tokenize texts, ids and pairs; a reranker takes pairs alone."""
        pairs = [isinstance(row, PairRow) for row in rows]
        if self._only_pairs or (rows and all(pairs)):
            return self._pairs.prepare(rows, truncate=truncate, options=options)
        if any(pairs):
            alone = (self.prepare([row], truncate=truncate, options=options)[0] for row in rows)
            return [_at(index, row) for index, row in enumerate(alone)]
        return [
            Tokens(row.length, row.data, options=options) if isinstance(row, PreparedRow) else row
            for row in self._texts.prepare(rows, truncate=truncate)
        ]

    def outputs(self, rows: Sequence[PreparedRow], values: Values) -> list[Output]:
        """`Classes` a row, the best label first, and the earlier one of two as good.

        Args:
            rows: of the batch.
            values: logits `[rows, labels]`.
        """
        asked = [row.options for row in rows if isinstance(row, Tokens)]
        return classes(self._head, values, options=asked, tokens=[row.length for row in rows])


def _at(index: int, row: PreparedRow | InvalidInput) -> PreparedRow | InvalidInput:
    if isinstance(row, InvalidInput):
        row.row = index
    return row
