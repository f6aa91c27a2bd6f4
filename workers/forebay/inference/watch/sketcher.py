"""Counts what a worker serves: of a random sample of rows, in coarse bins."""

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from forebay.contract.errors import InvalidInput
from forebay.contract.rows import (
    Classes,
    Embedding,
    Entailment,
    Generated,
    Output,
    PairRow,
    Row,
    Spans,
    Tensors,
    TensorsRow,
    TextRow,
    Value,
    output_bytes,
    row_bytes,
)
from forebay.contract.sketch import INPUTS, OUTPUTS
from forebay.inference.backends.base import PreparedRow
from forebay.inference.watch import bins

MOST_NAMES = 256
"""Labels that are told by name; those of a model that has more share buckets."""

ANSWER_BUCKETS = 64
LONGEST_ANSWER = 64
"""Longest JSON value, in bytes, that is told by its bucket: a label, a number, true or false."""


MOST_ROWS_S = 200.0
"""About so many rows a second are looked at, at most."""

MOST_CHARACTERS = 4_096
"""Different characters that are counted one by one, until they are put into their bins."""


class Sampler:
    """Decides which rows are looked at: a share of them, and less of it when there are very many.

    Each row by itself, whatever batch it is in, so that no kind of row is preferred.

    Args:
        share: of the rows, at most.
        most_s: about so many rows a second, at most.
        now: seconds that only go forward.
    """

    def __init__(self, share: float, most_s: float, now: Callable[[], float]) -> None:
        self._share = share
        self._most_s = most_s
        self._now = now
        self._second = now()
        self._seen = 0
        self._before = 0

    def chosen(self, count: int) -> Sequence[int]:
        """Which of so many rows to look at."""
        now = self._now()
        if now - self._second >= 1:
            self._before = self._seen if now - self._second < 2 else 0
            self._seen, self._second = 0, now
        self._seen += count
        share = min(self._share, self._most_s / max(self._seen, self._before))
        if share >= 1:
            return range(count)
        draw = random.random
        return [index for index in range(count) if draw() < share]


class Sketcher:
    """Counts. Safe to use from several threads.

    Args:
        share: of the rows that are looked at, before and after they run each.
        most_s: rows a second that are looked at, about, at most.
        now: seconds that only go forward.
    """

    def __init__(
        self,
        share: float,
        *,
        most_s: float = MOST_ROWS_S,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._inputs = Sampler(share, most_s, now)
        self._outputs = Sampler(share, most_s, now)
        self._names: set[str] = set()
        self._counts: Counter[str] = Counter()
        self._characters: Counter[str] = Counter()
        self._pieces: Any = None
        self._lock = threading.Lock()

    def asked(self, rows: Sequence[Row], prepared: Sequence[PreparedRow | InvalidInput]) -> None:
        """Rows that came, and what became of each; those that were refused don't count."""
        with self._lock:
            for index in self._inputs.chosen(len(rows)):
                ready = prepared[index]
                if isinstance(ready, PreparedRow):
                    self._input(rows[index], ready)

    def answered(self, outputs: Sequence[Output]) -> None:
        """What the model has given."""
        with self._lock:
            for index in self._outputs.chosen(len(outputs)):
                self._output(outputs[index])

    def take(self) -> dict[str, int]:
        """Everything counted since the last time, by field."""
        with self._lock:
            self._sort_characters()
            if self._pieces is not None:
                pieces, self._pieces = self._pieces.tolist(), None
                for bucket, count in enumerate(pieces):
                    if count:
                        self._counts[f"pieces {bucket}"] += count
            counts, self._counts = self._counts, Counter()
        return dict(counts)

    def put_back(self, counts: Mapping[str, int]) -> None:
        """What was taken could not be told: it comes with the next."""
        with self._lock:
            self._counts.update(counts)

    def _input(self, row: Row, ready: PreparedRow) -> None:
        counts = self._counts
        counts[INPUTS] += 1
        size = row_bytes(row)
        counts[f"size {bins.size(size)}"] += 1
        if isinstance(row, TextRow):
            self._characters.update(row.text[: bins.MOST_CHARACTERS])
        elif isinstance(row, PairRow):
            self._characters.update(row.text[: bins.MOST_CHARACTERS])
            self._characters.update(row.pair[: bins.MOST_CHARACTERS])
        elif ready.length == 1 or isinstance(row, TensorsRow):
            return  # a row that is no text, and of which no tokens are known
        counts[f"tokens {bins.size(ready.length)}"] += 1
        if isinstance(row, TextRow | PairRow):
            counts[f"density {bins.signed(size / ready.length)}"] += 1
        from forebay.inference.watch import vectors  # numpy is there where there are tokens

        pieces = vectors.pieces(ready.data)
        if pieces is not None:
            self._pieces = pieces if self._pieces is None else self._pieces + pieces
        if len(self._characters) > MOST_CHARACTERS:
            self._sort_characters()

    def _sort_characters(self) -> None:
        """Put characters into their bins: each of them once, however often it came."""
        for character, count in self._characters.items():
            self._counts[f"alphabet {bins.alphabet(character)}"] += count
        self._characters.clear()

    def _output(self, output: Output) -> None:
        counts = self._counts
        counts[OUTPUTS] += 1
        match output:
            case Embedding(vector=vector):
                from forebay.inference.watch import vectors

                norm, direction = vectors.embedding(vector)
                counts[f"norm {norm}"] += 1
                counts[f"direction {direction}"] += 1
            case Classes(labels=labels, scores=scores):
                from forebay.inference.watch import vectors

                counts[f"score {bins.share(vectors.best(scores))}"] += 1
                counts[f"label {self._name(labels[0])}"] += 1
            case Entailment(entails=entails, contradicts=contradicts):
                counts[f"margin {bins.signed(entails - contradicts)}"] += 1
            case Spans(spans=spans):
                counts[f"found {bins.size(len(spans))}"] += 1
                for span in spans:
                    counts[f"entity {self._name(span.entity)}"] += 1
            case Value(json=json):
                counts[f"answer {_answer(json)}"] += 1
            case Tensors() | Generated():
                counts[f"answer {bins.size(output_bytes(output))}"] += 1

    def _name(self, label: str) -> str:
        if label in self._names:
            return label
        if len(self._names) < MOST_NAMES:
            self._names.add(label)
            return label
        return bins.bucket(label, of=MOST_NAMES)


def _answer(json: bytes) -> str:
    """A short JSON value by its bucket, a longer one by its size: neither tells what it is."""
    if len(json) > LONGEST_ANSWER or json[:1] in b"{[":
        return bins.size(len(json))
    try:
        return bins.share(float(json))
    except ValueError:
        return bins.bucket(json.decode(errors="replace"), of=ANSWER_BUCKETS)
