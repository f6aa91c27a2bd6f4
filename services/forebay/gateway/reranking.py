"""Reranking: a query and documents become pairs, and scores become an order of the documents.

Each document with the query is a row of its own: such rows batch, join and fail like any others.
"""

import struct
from collections.abc import Sequence

import msgspec

from forebay.contract.errors import ForebayError, InvalidInput
from forebay.contract.rows import Classes, Output, PairRow
from forebay.gateway.pairs import check_size


class Document(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A document that came, or goes, as an object."""

    text: str


class Ranked(msgspec.Struct, frozen=True, omit_defaults=True):
    """A document's place, as Cohere names the fields.

    Attributes:
        index: of the document in the request.
        relevance_score: from 0 to 1 where the model's function is a sigmoid, as it mostly is.
        document: where the request wants it back.
    """

    index: int
    relevance_score: float
    document: Document | None = None


def texts_of(documents: Sequence[str | Document]) -> list[str]:
    """The documents' texts, in order."""
    return [one if isinstance(one, str) else one.text for one in documents]


def questions(
    query: str, documents: Sequence[str | Document], *, most: int, within: str = ""
) -> tuple[PairRow, ...]:
    """A row for each document.

    Args:
        query: what the documents are held against.
        documents: texts, as they came.
        most: rows in one request.
        within: the field that holds both, where they are a part of a body; ends with a dot.

    Raises:
        InvalidInput: a text is empty, there is no document, or there is too much of them.
    """
    where = f"{within}documents"
    if not query:
        raise _empty(f"{within}query")
    if not documents:
        raise _empty(where)
    if len(documents) > most:
        raise InvalidInput(
            f"{where} has {len(documents):,} items; one request takes {most:,} at most.",
            param=where,
        )
    texts = texts_of(documents)
    for index, text in enumerate(texts):
        if not text:
            raise _empty(f"{where}[{index}]")
    check_size(len(query) * len(texts), param=f"{within}query")
    return tuple([PairRow(query, text) for text in texts])


def ranking(outputs: Sequence[Output], *, top_n: int | None) -> list[Ranked]:
    """The documents by score, the best first, and the earlier one of two as good.

    Args:
        outputs: `Classes` of one label, one a document, in order.
        top_n: documents to tell; None tells all.

    Raises:
        ForebayError: the model has answered with something else.
    """
    scores: list[float] = []
    for output in outputs:
        if not isinstance(output, Classes) or len(output.scores) != 4:
            raise ForebayError("The model answered with something that is no relevance.")
        scores.extend(struct.unpack("<f", output.scores))
    order = sorted(range(len(scores)), key=lambda index: -scores[index])
    return [Ranked(index, scores[index]) for index in order[:top_n]]


def _empty(where: str) -> InvalidInput:
    return InvalidInput(f"{where} must not be empty.", param=where)
