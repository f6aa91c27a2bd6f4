"""One text to token ids of the model, within its limits."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import numpy as np
from tokenizers import Encoding, Tokenizer

from forebay.contract.errors import ArtifactError, InvalidInput, TooLong
from forebay.contract.manifest import TextLimits
from forebay.contract.rows import Row, TextRow, TokensRow
from forebay.inference.backends.base import PreparedRow

GLANCE_CHARACTERS = 64
"""A text with more characters than this for each token of the limit is looked at from its start:
so much of it nearly always tells that it is over the limit, and where to cut it."""

MAX_CHARACTERS = 100_000
"""No more of a text than this is ever tokenized: the tokenizer takes some 100 bytes for each."""


class Start(msgspec.Struct, frozen=True):
    """The start of a long text, as much of it as tells what to do with it.

    Attributes:
        encoding: of `text`, special tokens included.
        text: all there is, or what comes to twice the limit's tokens or more.
        whole: whether it is all there is.
    """

    encoding: Encoding
    text: str
    whole: bool


class Texts:
    """Tokenizes texts.

    Args:
        tokenizer: the artifact's, with truncation and padding off.
        limits: the manifest's.
    """

    def __init__(self, tokenizer: Tokenizer, limits: TextLimits) -> None:
        self.tokenizer = tokenizer
        self.limits = limits
        self.glance = GLANCE_CHARACTERS * limits.max_tokens

    def prepare(self, rows: Sequence[Row], *, truncate: bool) -> list[PreparedRow | InvalidInput]:
        """Tokenize texts, check ids, and refuse what is over the limit.

        Args:
            rows: `TextRow`s and `TokensRow`s. Ids that already begin and end with the model's
                special tokens are used as they are; else the special tokens are added.
            truncate: keep the first tokens of a row over the limit, special tokens included.

        Returns:
            For each row, in order: the row ready to run, `TooLong`, or `InvalidInput`.
        """
        short = [row.text for row in rows if isinstance(row, TextRow) and self._is_short(row.text)]
        encodings = iter(self.tokenizer.encode_batch_fast(short))
        return [
            self._prepare(row, index, encodings, truncate=truncate)
            for index, row in enumerate(rows)
        ]

    def start(self, text: str, index: int) -> Start | TooLong:
        """Tokenize as much of a long text as tells whether it fits, and where to cut it."""
        # The last words of the start may be cut, so only many more tokens than the limit prove
        # that the first `limit` ones are those of the whole text.
        limit = self.limits.max_tokens
        for characters in (self.glance, MAX_CHARACTERS):
            part = text[:characters]
            encoding = self.tokenizer.encode(part)
            if len(part) == len(text):
                return Start(encoding, part, whole=True)
            if len(encoding.ids) >= 2 * limit:
                return Start(encoding, part, whole=False)
        return TooLong(
            f"This text has {len(text):,} characters, and the first "
            f"{MAX_CHARACTERS:,} come to only {len(encoding.ids):,} tokens: a model that "
            f"takes {limit:,} tokens looks no further. Send less of it.",
            row=index,
        )

    def too_long(self, tokens: int, index: int, *, whole: bool) -> TooLong:
        """The refusal of a row of so many tokens, or at least so many."""
        least = "" if whole else "at least "
        return TooLong(
            f"This text has {least}{tokens:,} tokens and this model takes "
            f"{self.limits.max_tokens:,}: "
            "shorten it, or send `truncate: true` to use its first tokens only.",
            row=index,
        )

    def _is_short(self, text: str) -> bool:
        return len(text) <= self.glance

    def _prepare(
        self, row: Row, index: int, encodings: Iterator[Encoding], *, truncate: bool
    ) -> PreparedRow | InvalidInput:
        limit = self.limits.max_tokens
        whole = True
        match row:
            case TextRow(text=text) if self._is_short(text):
                ids: Sequence[int] = next(encodings).ids
            case TextRow(text=text):
                start = self.start(text, index)
                if isinstance(start, TooLong):
                    return start
                ids, whole = start.encoding.ids, start.whole
            case TokensRow(ids=ids):
                vocabulary = self.limits.vocabulary
                if not ids:
                    return InvalidInput("This row has no tokens.", row=index)
                if min(ids) < 0 or max(ids) >= vocabulary:
                    wrong = next(id_ for id_ in ids if not 0 <= id_ < vocabulary)
                    return InvalidInput(
                        f"{wrong} is no token id of this model: its ids go from 0 to "
                        f"{vocabulary - 1}.",
                        row=index,
                    )
                ids = self._with_special(ids)
            case _:
                return InvalidInput("This model takes text or token ids.", row=index)
        if len(ids) > limit:
            if not truncate:
                return self.too_long(len(ids), index, whole=whole)
            suffix = self.limits.suffix
            ids = (*ids[: limit - len(suffix)], *suffix)
        return PreparedRow(len(ids), np.asarray(ids, np.int64))

    def _with_special(self, ids: tuple[int, ...]) -> tuple[int, ...]:
        prefix, suffix = self.limits.prefix, self.limits.suffix
        bare = len(ids) < len(prefix) + len(suffix)
        if bare or ids[: len(prefix)] != prefix or ids[len(ids) - len(suffix) :] != suffix:
            return (*prefix, *ids, *suffix)
        return ids


def open_tokenizer(path: Path) -> Tokenizer:
    """A tokenizer with truncation and padding off: limits are the manifest's.

    Raises:
        ArtifactError: it can't be loaded.
    """
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises bare Exception
        raise ArtifactError(f"The tokenizer {path} can't be loaded: {error}") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer
