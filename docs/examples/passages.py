"""The passages of a document that answer a question best: a pipeline of two models."""

import asyncio
import re
from typing import Annotated

import msgspec
import numpy as np
from language import Guess
from msgspec import Meta

from forebay.inference.steps import Models


class Question(msgspec.Struct, frozen=True):
    """What a row is."""

    question: Annotated[str, Meta(min_length=1, max_length=1_000)]
    document: Annotated[str, Meta(min_length=1, max_length=1_000_000)]
    best: Annotated[int, Meta(ge=1, le=20, description="How many passages to tell")] = 3


class Passage(msgspec.Struct, frozen=True):
    """A sentence, and how near it is to the question: their cosine."""

    text: str
    nearness: float


class Answer(msgspec.Struct, frozen=True):
    """The document's language, as far as can be told, and its passages, the nearest first."""

    language: str
    passages: list[Passage]


class Passages:
    """Splits a document in sentences, embeds them with the question, and tells the nearest."""

    samples = (Question("Where is the lake?", "A river feeds the lake. It lies in the north."),)

    async def run(self, row: Question, models: Models) -> Answer:
        """Two steps at once; each runs its rows together with those of everybody else's."""
        sentences = re.split(r"(?<=[.!?])\s+", row.document.strip())
        vectors, guesses = await asyncio.gather(
            models["minilm"]([row.question, *sentences], truncate=True),
            models["language"]([{"text": row.document[:1_000]}], as_=list[Guess]),
        )
        question, *embedded = vectors
        nearness = np.stack(embedded) @ np.asarray(question)
        nearest = np.argsort(-nearness)[: row.best]
        return Answer(
            guesses[0][0].language,
            [Passage(sentences[at], round(float(nearness[at]), 3)) for at in nearest],
        )
