"""Pairs of texts with how alike they are, and triplets: for embedding models.

{"text": "…", "pair": "…", "score": 4.2}                     any scale, more is more alike
{"anchor": "…", "positive": "…", "negative": "…"}            which is nearer to the anchor
"""

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from forebay.assess.chance import Columns, Measure
from forebay.assess.forms.base import Details, Example, Numbers, mean_of
from forebay.assess.lines import decode
from forebay.assess.measures import correlation


class _Pair(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    text: str
    pair: str
    score: float


class _Triplet(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    anchor: str
    positive: str
    negative: str


class Pairs:
    """Cosines against scores that people gave, as the STS benchmarks have it (Cer et al. 2017).

    Args:
        truncate: cut what is over the model's limit.
    """

    name = "pairs"
    measures: Sequence[Measure] = (
        Measure(
            "Spearman",
            lambda rows: correlation.spearman(rows["cosine"], rows["score"]),
            varied=("cosine", "score"),
        ),
        Measure(
            "Pearson",
            lambda rows: correlation.pearson(rows["cosine"], rows["score"]),
            varied=("cosine", "score"),
        ),
    )

    def __init__(self, *, truncate: bool) -> None:
        self._truncate = truncate
        self._decoder = msgspec.json.Decoder(_Pair)
        self._rows = Numbers("cosine", "score")

    def read(self, data: bytes, line: int) -> Example:
        """Read a line; see the module."""
        given = decode(self._decoder, data)
        asked = {"text": [given.text, given.pair], "truncate": self._truncate}
        return Example(line, asked, given.score, rows=2)

    def take(self, example: Example, output: Any) -> None:
        """Count the cosine of the two vectors."""
        one, other = _unit(output)
        self._rows.add(float(one @ other), example.truth)

    def columns(self) -> Columns:
        """`cosine` as the model has it, and `score` as the file has."""
        return self._rows.columns()

    def details(self) -> Details:
        """Nothing more."""
        return Details()


class Triplets:
    """Whether the positive is nearer to the anchor than the negative; a tie is a miss.

    Args:
        truncate: cut what is over the model's limit.
    """

    name = "triplets"
    measures: Sequence[Measure] = (
        mean_of("correct", "accuracy", hits=True),
        mean_of("margin", "mean margin"),
    )

    def __init__(self, *, truncate: bool) -> None:
        self._truncate = truncate
        self._decoder = msgspec.json.Decoder(_Triplet)
        self._rows = Numbers("correct", "margin")

    def read(self, data: bytes, line: int) -> Example:
        """Read a line; see the module."""
        given = decode(self._decoder, data)
        texts = [given.anchor, given.positive, given.negative]
        return Example(line, {"text": texts, "truncate": self._truncate}, None, rows=3)

    def take(self, example: Example, output: Any) -> None:
        """Count which of the two is nearer, by cosine."""
        anchor, positive, negative = _unit(output)
        margin = float(anchor @ positive - anchor @ negative)
        self._rows.add(margin > 0, margin)

    def columns(self) -> Columns:
        """`correct` is 0 or 1; `margin` is by how much the positive's cosine is the higher one."""
        return self._rows.columns()

    def details(self) -> Details:
        """Nothing more."""
        return Details()


def _unit(output: Any) -> npt.NDArray[np.float64]:
    vectors = np.array(output, np.float64)
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12))
