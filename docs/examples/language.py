"""Which language a text is in: compares its triples of letters with those of a few sentences."""

import zlib
from typing import Annotated

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import Meta

WIDTH = 4_096
"""Triples of letters are counted in so many slots."""

KNOWN = {
    "de": "Der Fluss speist den See, und das Wasser treibt die Turbine an. Die Leute leben nicht "
    "weit vom Ufer und gehen am Abend mit ihren Kindern durch die Felder nach Hause.",
    "en": "The river feeds the lake, and the water drives the turbine. People live not far from "
    "the shore and walk home through the fields with their children in the evening.",
    "es": "El río alimenta el lago y el agua mueve la turbina. La gente vive no muy lejos de la "
    "orilla y por la tarde vuelve a casa por los campos con sus hijos.",
    "fr": "La rivière alimente le lac et l'eau fait tourner la turbine. Les gens vivent non loin "
    "de la rive et rentrent le soir à la maison par les champs avec leurs enfants.",
}


class Text(msgspec.Struct, frozen=True):
    """What a row is: clients get an error that names the field if theirs is not like this."""

    text: Annotated[str, Meta(min_length=1, max_length=10_000, description="What to look at")]
    best: Annotated[int, Meta(ge=1, le=len(KNOWN), description="How many languages to name")] = 1


class Guess(msgspec.Struct, frozen=True):
    """A language, and how like it the text is, 0 to 1."""

    language: str
    likeness: float


class Language:
    """Guesses languages, many texts at a time."""

    samples = (Text("A river feeds the lake."), Text("Der Fluss speist den See.", best=2))

    def load(self) -> None:
        """Count the triples of the known sentences; once, before the model is ready."""
        self.names = list(KNOWN)
        self.known = np.stack([counted(text) for text in KNOWN.values()])

    def predict(self, rows: list[Text]) -> list[list[Guess]]:
        """The languages most like each text, the best one first."""
        likeness = np.stack([counted(row.text) for row in rows]) @ self.known.T
        order = np.argsort(-likeness, axis=1)
        return [
            [Guess(self.names[at], round(float(scores[at]), 3)) for at in best[: row.best]]
            for row, scores, best in zip(rows, likeness, order, strict=True)
        ]


def counted(text: str) -> npt.NDArray[np.float32]:
    """How often each triple of letters is in a text, as a vector of length one."""
    padded = f"  {text.lower()}  "
    slots = [zlib.crc32(padded[at : at + 3].encode()) % WIDTH for at in range(len(padded) - 2)]
    counts = np.bincount(slots, minlength=WIDTH).astype(np.float32)
    return counts / np.linalg.norm(counts)
