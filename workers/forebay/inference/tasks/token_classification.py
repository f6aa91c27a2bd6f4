"""Labels for parts of a text, as transformers' token classification pipeline gives them.

Each token gets the label that its logits rank first; those labelled `O` are left out. With the
aggregation `simple`, runs of tokens with one entity become a group: `B-` begins a new one.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
from tokenizers import Encoding

from forebay.contract.errors import InvalidInput, TooLong
from forebay.contract.manifest import Head
from forebay.contract.rows import Aggregation, Function, Options, Output, Row, Span, Spans, TextRow
from forebay.inference.backends.base import PreparedRow
from forebay.inference.tasks.base import LOGITS, Tokens, Values
from forebay.inference.tasks.scores import scores
from forebay.inference.tasks.text import Texts

_OUTSIDE = "O"


class Located(Tokens, frozen=True):
    """A row of a text, and where its tokens are.

    Attributes:
        text: as far as it was tokenized.
        offsets: first character of each token, and the one after its last.
        special: 1 for the special tokens, which are in no text.
    """

    text: str = ""
    offsets: Sequence[tuple[int, int]] = ()
    special: Sequence[int] = ()


class TokenClassification:
    """Labels parts of texts.

    Args:
        texts: tokenizes.
        head: the labels.
    """

    output = LOGITS

    def __init__(self, texts: Texts, head: Head) -> None:
        self._texts = texts
        self._tokenizer = texts.tokenizer
        self._head = head

    def samples(self, texts: Sequence[str]) -> list[Row]:
        """The texts."""
        return [TextRow(text) for text in texts]

    def prepare(
        self, rows: Sequence[Row], *, truncate: bool, options: Options
    ) -> list[PreparedRow | InvalidInput]:
        """Tokenize texts; ids are refused, as they have no characters."""
        short = [
            row.text
            for row in rows
            if isinstance(row, TextRow) and len(row.text) <= self._texts.glance
        ]
        encodings = iter(self._tokenizer.encode_batch(short))
        return [
            self._prepare(row, index, encodings, truncate=truncate, options=options)
            for index, row in enumerate(rows)
        ]

    def outputs(self, rows: Sequence[PreparedRow], values: Values) -> list[Output]:
        """`Spans` a row.

        Args:
            rows: of the batch.
            values: logits `[rows, tokens, labels]`.
        """
        outputs: list[Output] = []
        for row, logits in zip(rows, values, strict=True):
            assert isinstance(row, Located)
            spans = self._tokens(row, scores(Function.SOFTMAX, logits[: row.length]))
            if row.options.aggregation is Aggregation.SIMPLE:
                spans = self._groups(spans)
            found = tuple(span for span in spans if span.entity != _OUTSIDE)
            outputs.append(Spans(found, row.length))
        return outputs

    def _prepare(
        self,
        row: Row,
        index: int,
        encodings: Iterator[Encoding],
        *,
        truncate: bool,
        options: Options,
    ) -> PreparedRow | InvalidInput:
        if not isinstance(row, TextRow):
            return InvalidInput("This model takes text.", row=index)
        text, whole = row.text, True
        if len(text) <= self._texts.glance:
            encoding = next(encodings)
        else:
            start = self._texts.start(text, index)
            if isinstance(start, TooLong):
                return start
            encoding, text, whole = start.encoding, start.text, start.whole
        limits, total = self._texts.limits, len(encoding.ids)
        kept = list(range(total))
        if total > limits.max_tokens:
            if not truncate:
                return self._texts.too_long(total, index, whole=whole)
            last = len(limits.suffix)
            kept = [*kept[: limits.max_tokens - last], *kept[total - last :]]
        ids, offsets, special = encoding.ids, encoding.offsets, encoding.special_tokens_mask
        return Located(
            len(kept),
            np.asarray([ids[place] for place in kept], np.int64),
            options=options,
            text=text,
            offsets=[offsets[place] for place in kept],
            special=[special[place] for place in kept],
        )

    def _tokens(self, row: Located, made: Values) -> list[Span]:
        """A span for each token that is no special one."""
        best = made.argmax(-1)
        peaks = made[np.arange(len(best)), best].tolist()
        spans: list[Span] = []
        for index, (id_, label) in enumerate(zip(row.data.tolist(), best.tolist(), strict=True)):
            if row.special[index]:
                continue
            start, end = row.offsets[index]
            # What the vocabulary lacks is told by the text itself.
            known = id_ != self._head.unknown
            word = self._tokenizer.id_to_token(id_) if known else row.text[start:end]
            spans.append(
                Span(self._head.labels[label], peaks[index], word or "", start, end, index)
            )
        return spans

    def _groups(self, tokens: list[Span]) -> list[Span]:
        """Runs of tokens with one entity, each as one span."""
        begins = [0] if tokens else []
        for place, (before, span) in enumerate(pairwise(tokens), 1):
            if span.entity.startswith("B-") or _name(span) != _name(before):
                begins.append(place)
        return [
            self._group(tokens[begin:end])
            for begin, end in zip(begins, [*begins[1:], len(tokens)], strict=True)
        ]

    def _group(self, tokens: list[Span]) -> Span:
        words = [span.word for span in tokens]
        decoder = self._tokenizer.decoder
        return Span(
            tokens[0].entity.split("-", 1)[-1],
            float(np.mean([span.score for span in tokens])),
            " ".join(words) if decoder is None else decoder.decode(words),
            tokens[0].start,
            tokens[-1].end,
        )


def _name(span: Span) -> str:
    """The entity, without what says whether it begins here or goes on."""
    return span.entity[2:] if span.entity.startswith(("B-", "I-")) else span.entity
