"""A text and its entities, or tokens and their BIO tags.

{"text": "Ada met him.", "entities": [{"entity": "PER", "start": 0, "end": 3}]}
{"tokens": ["Ada", "met", "him", "."], "tags": ["B-PER", "O", "O", "O"]}
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from forebay.assess.chance import Columns, Measure
from forebay.assess.forms.base import Details, Example, LabelFigures, Numbers
from forebay.assess.lines import decode
from forebay.assess.measures import spans
from forebay.assess.measures.labels import Tally
from forebay.contract.errors import InvalidInput


class _Entity(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    entity: str
    start: int
    end: int


class _Line(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    text: str | None = None
    entities: tuple[_Entity, ...] | None = None
    tokens: tuple[str, ...] | None = None
    tags: tuple[str, ...] | None = None


class Entities:
    """Entities found and missed, by type: right only if type and both bounds are.

    Args:
        truncate: cut what is over the model's limit.
    """

    name = "entities"
    measures: Sequence[Measure] = (
        Measure("F1", lambda rows: _tally(rows).micro_f1),
        Measure("precision", lambda rows: _share(rows, "extra")),
        Measure("recall", lambda rows: _share(rows, "missed")),
    )

    def __init__(self, *, truncate: bool) -> None:
        self._truncate = truncate
        self._decoder = msgspec.json.Decoder(_Line)
        self._rows = Numbers("hits", "extra", "missed")
        self._types: tuple[Counter[str], Counter[str], Counter[str]] = (
            Counter(),
            Counter(),
            Counter(),
        )

    def read(self, data: bytes, line: int) -> Example:
        """Read a line; see the module."""
        given = decode(self._decoder, data)
        truth: list[spans.Entity]
        if given.tokens is not None and given.tags is not None:
            if len(given.tokens) != len(given.tags):
                raise InvalidInput(
                    f"it has {len(given.tokens)} tokens and {len(given.tags)} tags: each token "
                    "has one."
                )
            for tag in given.tags:
                if tag != "O" and tag[:2] not in ("B-", "I-"):
                    raise InvalidInput(f"{tag!r} is no tag: tags are O, B-TYPE and I-TYPE.")
            text, truth = spans.of_tags(given.tokens, given.tags)
        elif given.text is not None and given.entities is not None:
            text, truth = given.text, [(one.entity, one.start, one.end) for one in given.entities]
            for _, start, end in truth:
                if not 0 <= start < end <= len(text):
                    raise InvalidInput(
                        f"there are no characters {start} to {end} in a text of {len(text)}."
                    )
        else:
            raise InvalidInput("it needs `text` and `entities`, or `tokens` and `tags`.")
        asked = {"text": text, "aggregation_strategy": "simple", "truncate": self._truncate}
        return Example(line, asked, truth)

    def take(self, example: Example, output: Any) -> None:
        """Count the groups of tokens that the model tells."""
        told = [(one["entity_group"], one["start"], one["end"]) for one in output]
        by_type = spans.found(example.truth, told)
        for kind, counts in by_type.items():
            for counter, count in zip(self._types, counts, strict=True):
                counter[kind] += count
        self._rows.add(*(sum(counts[at] for counts in by_type.values()) for at in range(3)))

    def columns(self) -> Columns:
        """Entities found, made up and missed, a row each."""
        return self._rows.columns()

    def details(self) -> Details:
        """Figures of each type."""
        kinds = sorted(set().union(*self._types))
        counts = [np.array([counter[kind] for kind in kinds], np.int64) for counter in self._types]
        tally = Tally(*counts)
        return Details(
            tuple(
                LabelFigures(kind, float(precision), float(recall), float(f1), int(support))
                for kind, precision, recall, f1, support in zip(
                    kinds, tally.precision, tally.recall, tally.f1, tally.support, strict=True
                )
            )
        )


def _tally(rows: Columns) -> Tally:
    return Tally(*(rows[name].sum(keepdims=True) for name in ("hits", "extra", "missed")))


def _share(rows: Columns, wrong: str) -> float:
    hits = float(rows["hits"].sum())
    whole = hits + float(rows[wrong].sum())
    return hits / whole if whole else 0.0
