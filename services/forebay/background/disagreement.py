"""How far two outputs of the same row are apart."""

import math
import operator
import struct
import sys
from array import array
from collections.abc import Iterator
from typing import Final

import msgspec

from forebay.contract.rows import (
    Classes,
    Embedding,
    Entailment,
    Generated,
    NamedTensor,
    Output,
    Spans,
    Tensors,
    Value,
)

MOST_DIFFERENT: Final = 1.0
"""The difference of outputs that have nothing in common, or that can't be compared."""

_FLOATS: Final = {"FP16": "<e", "FP32": "<f", "FP64": "<d"}

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
    tensors     the largest, of one tensor's elements by the        over `LET_PASS`
                largest of them; 0 or 1 of what is no float
    JSON        0 or 1                                              not equal
    text        0 or 1                                              not equal
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
        case Tensors(), Tensors():
            return _of_tensors(one, other)
        case Value(), Value():
            equal = one.json == other.json or _json(one.json) == _json(other.json)
            return (0.0, False) if equal else (MOST_DIFFERENT, True)
        case Generated(), Generated():
            return (0.0, False) if one.text == other.text else (MOST_DIFFERENT, True)
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


def _of_tensors(one: Tensors, other: Tensors) -> tuple[float, bool]:
    first = {tensor.name: tensor for tensor in one.tensors}
    second = {tensor.name: tensor for tensor in other.tensors}
    if first.keys() != second.keys():
        return MOST_DIFFERENT, True
    apart = max((_of_tensor(first[name], second[name]) for name in first), default=0.0)
    return apart, apart > LET_PASS


def _of_tensor(one: NamedTensor, other: NamedTensor) -> float:
    if one == other:
        return 0.0
    code = _FLOATS.get(one.datatype)
    if code is None or (one.datatype, one.shape) != (other.datatype, other.shape):
        return MOST_DIFFERENT
    pairs = zip(_numbers(one.data, code), _numbers(other.data, code), strict=True)
    apart = largest = 0.0
    for first, second in pairs:
        if first != second:
            if not math.isfinite(first - second):
                return MOST_DIFFERENT
            apart = max(apart, abs(first - second))
        largest = max(largest, abs(first), abs(second))
    return apart / largest if largest else 0.0


def _numbers(raw: bytes, code: str) -> Iterator[float]:
    return (number for (number,) in struct.iter_unpack(code, raw))


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
