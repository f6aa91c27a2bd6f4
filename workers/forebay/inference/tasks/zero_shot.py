"""Whether a text entails a hypothesis: what zero-shot classification asks once for each label.

The gateway makes hypotheses of labels and scores of the answers (`gateway/zero_shot.py`), so that
here every question is a row like any other.
"""

from collections.abc import Sequence

from forebay.contract.errors import ArtifactError, InvalidInput
from forebay.contract.manifest import Head
from forebay.contract.rows import Entailment, Options, Output, PairRow, Row
from forebay.inference.backends.base import PreparedRow
from forebay.inference.tasks.base import LOGITS, Values
from forebay.inference.tasks.pairs import Pairs
from forebay.inference.tasks.text import Texts


class ZeroShot:
    """Judges pairs of a text and a hypothesis.

    Args:
        texts: tokenizes.
        head: says which labels mean yes and no.

    Raises:
        ArtifactError: the head doesn't say.
    """

    output = LOGITS

    def __init__(self, texts: Texts, head: Head) -> None:
        if head.entailment is None or head.contradiction is None:
            raise ArtifactError("The manifest doesn't say which label stands for entailment.")
        self._columns = head.entailment, head.contradiction
        # The hypothesis is never cut: without it there is no question.
        self._pairs = Pairs(texts, only_first=True)

    def samples(self, texts: Sequence[str]) -> list[Row]:
        """The texts, each with a hypothesis."""
        return [PairRow(text, "This example is new.") for text in texts]

    def prepare(
        self, rows: Sequence[Row], *, truncate: bool, options: Options
    ) -> list[PreparedRow | InvalidInput]:
        """Tokenize pairs; of one that is over the limit only the first text is ever cut."""
        return self._pairs.prepare(rows, truncate=truncate, options=options)

    def outputs(self, rows: Sequence[PreparedRow], values: Values) -> list[Output]:
        """An `Entailment` a row.

        Args:
            rows: of the batch.
            values: logits `[rows, labels]`.
        """
        entails, contradicts = (values[:, column].tolist() for column in self._columns)
        return [
            Entailment(yes, no, row.length)
            for row, yes, no in zip(rows, entails, contradicts, strict=True)
        ]
