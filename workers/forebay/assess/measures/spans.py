"""Entities found in a text against those that are there: right only if type and bounds are."""

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import accumulate

Entity = tuple[str, int, int]
"""Type, first character, and the character after the last."""


def found(truth: Iterable[Entity], predicted: Iterable[Entity]) -> dict[str, tuple[int, int, int]]:
    """By type: entities found, made up and missed, as CoNLL-2003 counts them.

    Tjong Kim Sang and De Meulder 2003: an entity is right only if type and both bounds are.
    """
    there, told = Counter(truth), Counter(predicted)
    both = there & told
    types = dict.fromkeys(entity[0] for entity in (*there, *told))
    return {
        kind: (_of(both, kind), _of(told - both, kind), _of(there - both, kind)) for kind in types
    }


def of_tags(tokens: Sequence[str], tags: Sequence[str]) -> tuple[str, list[Entity]]:
    """A text, its tokens with a space between, and the entities that BIO tags mark in it.

    `B-` begins an entity and `I-` goes on with one of its type; an `I-` that follows none begins
    one, as in the IOB1 of Ramshaw and Marcus 1995. Tags are as many as tokens.
    """
    starts = accumulate((len(token) + 1 for token in tokens), initial=0)
    entities: list[Entity] = []
    before = "O"
    for token, tag, start in zip(tokens, tags, starts, strict=False):
        mark, _, kind = tag.partition("-")
        if tag != "O":
            if mark == "I" and before != "O" and before.partition("-")[2] == kind:
                kind, first, _ = entities.pop()
                entities.append((kind, first, start + len(token)))
            else:
                entities.append((kind, start, start + len(token)))
        before = tag
    return " ".join(tokens), entities


def _of(counted: Counter[Entity], kind: str) -> int:
    return sum(number for entity, number in counted.items() if entity[0] == kind)
