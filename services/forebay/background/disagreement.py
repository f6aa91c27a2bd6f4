"""How far two outputs of the same row are apart."""

import math
import operator
import sys
from array import array
from typing import Final

import msgspec

from forebay.contract.rows import (
    Classes,
    Embedding,
    Entailment,
    Output,
    Spans,
    Value,
)

MOST_DIFFERENT: Final = 1.0
"""The difference of outputs that have nothing in common, or that can't be compared."""

LET_PASS: Final = 0.01
"""An embedding differs whose cosine to the other's is further from 1, and so does a score."""


def difference(one: Output, other: Output) -> tuple[float, bool]:
    """How far two outputs are apart, and whether that counts as another answer.

    ==========  ==================================================  ===========================
    output      difference                                          another answer
    ==========  ==================================================  ===========================
    embedding   1 - cosine                                          over `LET_PASS`
    classes     the largest of a label's scores, of labels in both  another best label; of a
                                                                    single one, over `LET_PASS`
    entailment  of the probabilities that it entails                the other way
    spans       1 - share of the spans that are in both             any span in one of them only
    JSON        0 or 1                                              not equal
    ==========  ==================================================  ===========================

    Returns:
        The difference, 0 for none (of scores that are logits it may be over 1), and whether it is
        another answer.
    """
    match one, other:
        case Embedding(), Embedding():
            apart = 1 - _cosine(_floats(one.vector), _floats(other.vector))
            return apart, apart > LET_PASS
        case Classes(), Classes():
            return _of_classes(one, other)
        case Entailment(), Entailment():
            first, second = _entails(one), _entails(other)
            return abs(first - second), (first > 0.5) != (second > 0.5)
        case Spans(), Spans():
            found = {(span.entity, span.start, span.end) for span in one.spans}
            others = {(span.entity, span.start, span.end) for span in other.spans}
            shared = len(found & others) / len(found | others) if found | others else 1.0
            return 1 - shared, found != others
        case Value(), Value():
            equal = one.json == other.json or _json(one.json) == _json(other.json)
            return (0.0, False) if equal else (MOST_DIFFERENT, True)
        case _:
            return MOST_DIFFERENT, True


def _of_classes(one: Classes, other: Classes) -> tuple[float, bool]:
    first = dict(zip(one.labels, _floats(one.scores), strict=True))
    second = dict(zip(other.labels, _floats(other.scores), strict=True))
    both = first.keys() & second.keys()
    apart = max((abs(first[label] - second[label]) for label in both), default=MOST_DIFFERENT)
    if len(one.labels) == len(other.labels) == 1 and both:
        return apart, apart > LET_PASS
    return apart, one.labels[:1] != other.labels[:1]


def _entails(output: Entailment) -> float:
    """The probability of entailment against contradiction."""
    return 0.5 * (1 + math.tanh((output.entails - output.contradicts) / 2))


def _cosine(one: "array[float]", other: "array[float]") -> float:
    if len(one) != len(other):
        return 0.0
    lengths = math.sqrt(_dot(one, one) * _dot(other, other))
    return _dot(one, other) / lengths if lengths else float(one == other)


def _dot(one: "array[float]", other: "array[float]") -> float:
    return math.fsum(map(operator.mul, one, other))


def _floats(raw: bytes) -> "array[float]":
    """Little-endian float32."""
    values = array("f", raw)
    if sys.byteorder == "big":
        values.byteswap()
    return values


def _json(raw: bytes) -> object:
    return msgspec.json.decode(raw)
