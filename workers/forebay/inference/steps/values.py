"""Between what a user's code writes and what travels: values to rows, outputs to values."""

import sys
from array import array
from collections.abc import Mapping
from typing import Any

import msgspec

from forebay.contract.rows import (
    Classes,
    Embedding,
    ImageRow,
    Options,
    Output,
    PairRow,
    Row,
    Spans,
    Task,
    Tensors,
    TensorsRow,
    TextRow,
    TokensRow,
    Value,
    ValueRow,
)
from forebay.inference.backends.user_rows import encoded, kind_of

AS_JSON = frozenset({Task.PYTHON, Task.PIPELINE, Task.ECHO})
"""Tasks whose rows are JSON."""

_ROWS = (TextRow, TokensRow, ValueRow, PairRow, ImageRow, TensorsRow)


class Label(msgspec.Struct, frozen=True):
    """A label of a text, and its score."""

    label: str
    score: float


def row_of(task: Task, value: Any) -> Row:
    """A row of a step.

    Args:
        task: the step's.
        value: for a model of texts a text, a pair of them, or something with a `text` and perhaps a
            `pair`; of images the bytes of a file; of tensors numpy arrays by name; for others
            whatever JSON can say. A row of `contract.rows` is one already.

    Raises:
        TypeError: it is none of these.
    """
    if isinstance(value, _ROWS):
        return value
    if task is Task.TENSORS:
        return _tensors_row(value)
    if task is Task.IMAGE_CLASSIFICATION:
        if isinstance(value, bytes | bytearray | memoryview):
            return ImageRow(bytes(value))
        raise TypeError(f"a {kind_of(value)} is no image: give the bytes of a file")
    if task in AS_JSON:
        return ValueRow(encoded(value))
    if isinstance(value, str):
        return TextRow(value)
    text, pair = _texts(value)
    if isinstance(text, str) and pair is None:
        return TextRow(text)
    if isinstance(text, str) and isinstance(pair, str):
        return PairRow(text, pair)
    raise TypeError(
        f"a {kind_of(value)} is no row of a model of texts: give a text, a pair of texts, or an "
        "object with a `text`"
    )


def _texts(value: Any) -> tuple[Any, Any]:
    """A text and what is put beside it, if there is any of the two in a value."""
    if isinstance(value, tuple | list) and len(value) == 2:
        return value[0], value[1]
    fields = value if isinstance(value, Mapping) else msgspec.to_builtins(value)
    return (fields.get("text"), fields.get("pair")) if isinstance(fields, Mapping) else (None, None)


def value_of(output: Output, options: Options, *, type_: Any = Any) -> Any:
    """What a step made of a row, as a user's code reads it.

    Returns:
        Of an embedding an `array` of float32, which numpy takes as it is; of classes a `Label`, or
        several if the call said how many; of spans a list of `Span`; of tensors numpy
        arrays by name; of JSON what it says, as an
        object of `type_`. Anything else as it is.

    Raises:
        msgspec.ValidationError: the JSON is no `type_`.
    """
    match output:
        case Value(json=json):
            return msgspec.json.decode(json, type=type_)
        case Embedding(vector=vector):
            return _floats(vector)
        case Classes(labels=labels, scores=scores):
            several = [Label(*both) for both in zip(labels, _floats(scores), strict=True)]
            return several[0] if options.top_k == 1 else several
        case Spans(spans=spans):
            return list(spans)
        case Tensors():
            return _arrays(output)
        case _:
            return output


def _tensors_row(value: Any) -> TensorsRow:
    # Not at the top: a worker whose pipeline knows no tensors needs no numpy.
    import numpy as np

    from forebay.inference.backends.arrays import datatype_of, tensor_of

    if not isinstance(value, Mapping):
        raise TypeError(f"a {kind_of(value)} holds no tensors: give arrays by name")
    arrays = {str(name): np.asarray(array) for name, array in value.items()}
    return TensorsRow(
        tuple(tensor_of(name, datatype_of(array), array) for name, array in arrays.items())
    )


def _arrays(tensors: Tensors) -> dict[str, Any]:
    from forebay.contract.tensors import TensorSpec
    from forebay.inference.backends.arrays import array_of

    return {
        tensor.name: array_of(tensor, TensorSpec(tensor.name, tensor.datatype, tensor.shape))
        for tensor in tensors.tensors
    }


def _floats(data: bytes) -> "array[float]":
    """Little-endian float32."""
    floats = array("f", data)
    if sys.byteorder == "big":
        floats.byteswap()
    return floats
