"""Two texts to token ids of the model, in one sequence, within its limits.

Where a pair is over the limit and may be cut, tokens go as in the `tokenizers` library, which
transformers uses: from the end of the longer text until both are as long, then from both
("longest_first"), or from the first text alone ("only_first").
"""

from collections.abc import Iterator, Sequence

import numpy as np
from tokenizers import Encoding

from forebay.contract.errors import InvalidInput, TooLong
from forebay.contract.rows import Options, PairRow, Row
from forebay.inference.backends.base import PreparedRow
from forebay.inference.tasks.base import Tokens
from forebay.inference.tasks.text import Texts


class Pairs:
    """Tokenizes pairs of texts.

    Args:
        texts: has tokenizer and limits.
        only_first: cut nothing but the first text.
    """

    def __init__(self, texts: Texts, *, only_first: bool = False) -> None:
        self._texts = texts
        self._only_first = only_first

    def prepare(
        self, rows: Sequence[Row], *, truncate: bool, options: Options
    ) -> list[PreparedRow | InvalidInput]:
        """Tokenize pairs and refuse what is over the limit.

        Args:
            rows: `PairRow`s.
            truncate: cut a pair that is over the limit.
            options: go with each row.

        Returns:
            For each row, in order: `Tokens`, `TooLong`, or `InvalidInput`.
        """
        short = [
            (row.text, row.pair) for row in rows if isinstance(row, PairRow) and self._is_short(row)
        ]
        encodings = iter(self._texts.tokenizer.encode_batch_fast(short))
        return [
            self._prepare(row, index, encodings, truncate=truncate, options=options)
            for index, row in enumerate(rows)
        ]

    def _is_short(self, row: PairRow) -> bool:
        return len(row.text) + len(row.pair) <= self._texts.glance

    def _prepare(
        self,
        row: Row,
        index: int,
        encodings: Iterator[Encoding],
        *,
        truncate: bool,
        options: Options,
    ) -> PreparedRow | InvalidInput:
        if not isinstance(row, PairRow):
            return InvalidInput("This model takes pairs of texts.", row=index)
        whole = True
        if self._is_short(row):
            encoding = next(encodings)
        else:
            first = self._texts.start(row.text, index)
            second = self._texts.start(row.pair, index)
            if isinstance(first, TooLong):
                return first
            if isinstance(second, TooLong):
                return second
            whole = first.whole and second.whole
            encoding = self._texts.tokenizer.encode(first.text, second.text)
        ids, segments = encoding.ids, encoding.type_ids
        if len(ids) > self._texts.limits.max_tokens:
            if not truncate:
                return self._texts.too_long(len(ids), index, whole=whole)
            kept = self._kept(encoding)
            if kept is None:
                return TooLong(
                    "What this text is held against is too long for the model, which takes "
                    f"{self._texts.limits.max_tokens:,} tokens of both: shorten it.",
                    row=index,
                )
            ids, segments = [ids[i] for i in kept], [segments[i] for i in kept]
        return Tokens(
            len(ids),
            np.asarray(ids, np.int64),
            segments=np.asarray(segments, np.int64),
            options=options,
        )

    def _kept(self, encoding: Encoding) -> list[int] | None:
        """Places of the tokens that stay; None if nothing would be left of the first text."""
        places: dict[int | None, list[int]] = {None: [], 0: [], 1: []}
        for place, sequence in enumerate(encoding.sequence_ids):
            places[sequence].append(place)
        special, first, second = places[None], places[0], places[1]
        room = self._texts.limits.max_tokens - len(special)
        if self._only_first:
            if room <= len(second):
                return None
            return sorted((*special, *first[: room - len(second)], *second))
        shorter, longer = sorted((len(first), len(second)))
        longer = shorter if shorter > room else max(shorter, room - shorter)
        if shorter + longer > room:
            shorter, longer = room // 2, room - room // 2
        if len(first) > len(second):
            shorter, longer = longer, shorter
        return sorted((*special, *first[:shorter], *second[:longer]))
