"""A query, documents, and which of them are relevant: for rerankers, and for embedding models.

    {"query": "…", "documents": ["…", "…"], "relevant": [1]}          by place, from 0
    {"query": "…", "documents": ["…", "…"], "relevance": [0, 2]}      a grade each

An embedding model orders documents by the cosine of their vectors to the query's.
"""

from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
import numpy as np
from msgspec import Meta

from forebay.assess.chance import Columns, Measure
from forebay.assess.forms.base import Details, Example, Numbers, mean_of
from forebay.assess.lines import decode
from forebay.assess.measures import ranking
from forebay.contract.errors import InvalidInput

MOST = 10
"""NDCG looks at so many of the first documents."""

NDCG = f"NDCG@{MOST}"


class _Line(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    query: str
    documents: Annotated[tuple[str, ...], Meta(min_length=1)]
    relevant: tuple[int, ...] | None = None
    relevance: tuple[Annotated[float, Meta(ge=0)], ...] | None = None


class Ranking:
    """Documents in the model's order.

    Args:
        by_vectors: order them by cosine; else the model tells the order.
        truncate: cut what is over the model's limit.
    """

    name = "ranking"
    measures: Sequence[Measure] = (
        mean_of(NDCG, NDCG),
        mean_of("MRR", "MRR"),
        mean_of("MAP", "MAP"),
    )

    def __init__(self, *, by_vectors: bool, truncate: bool) -> None:
        self._by_vectors = by_vectors
        self._truncate = truncate
        self._decoder = msgspec.json.Decoder(_Line)
        self._rows = Numbers(NDCG, "MRR", "MAP")

    def read(self, data: bytes, line: int) -> Example:
        """Read a line; see the module."""
        given = decode(self._decoder, data)
        number = len(given.documents)
        if (given.relevant is None) == (given.relevance is None):
            raise InvalidInput("it needs `relevant` (places) or `relevance` (a grade each).")
        if given.relevance is not None:
            grades = list(given.relevance)
            if len(grades) != number:
                raise InvalidInput(f"it has {number} documents and {len(grades)} grades.")
        else:
            grades = [0.0] * number
            for place in given.relevant or ():
                if not 0 <= place < number:
                    raise InvalidInput(f"there is no document {place}: they are 0 to {number - 1}.")
                grades[place] = 1.0
        if not any(grades):
            raise InvalidInput("none of its documents is relevant: no order of them is any good.")
        if self._by_vectors:
            asked: dict[str, Any] = {"text": [given.query, *given.documents]}
        else:
            asked = {"query": given.query, "documents": given.documents}
        rows = number + self._by_vectors
        return Example(line, {**asked, "truncate": self._truncate}, grades, rows)

    def take(self, example: Example, output: Any) -> None:
        """Count the order of the documents."""
        if self._by_vectors:
            vectors = np.array(output, np.float64)
            vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
            order = np.argsort(-(vectors[1:] @ vectors[0]), kind="stable").tolist()
        else:
            order = [one["index"] for one in output]
        gains = [example.truth[place] for place in order]
        self._rows.add(
            ranking.ndcg(gains, most=MOST),
            ranking.reciprocal_rank(gains),
            ranking.average_precision(gains),
        )

    def columns(self) -> Columns:
        """Each query's own figures."""
        return self._rows.columns()

    def details(self) -> Details:
        """Nothing more."""
        return Details()
