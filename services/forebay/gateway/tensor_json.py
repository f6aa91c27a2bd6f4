"""Tensors in JSON: a nested list, or an object with the datatype, the shape and raw data.

    [[1.0, 2.0], [3.0, 4.0]]
    {"datatype": "FP32", "shape": [2, 2], "data": "AACAPwAAAEAAAEBAAACAQA=="}

The data are base64 of the elements as the Open Inference Protocol's binary extension has them.
"""

import base64
import binascii
import functools
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from forebay.contract.errors import InvalidInput
from forebay.contract.tensors import BYTES, TensorSpec
from forebay.gateway.bodies import decode
from forebay.gateway.tensors import (
    DATATYPES,
    MAX_RANK,
    Declared,
    Tensor,
    check_declared,
    of_numbers,
    of_raw,
    of_strings,
)

Size = Annotated[int, Meta(ge=0, le=2**63 - 1)]


class TensorObject(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A tensor whose elements are raw.

    Attributes:
        data: base64.
    """

    datatype: str
    shape: Annotated[tuple[Size, ...], Meta(max_length=MAX_RANK)]
    data: str


_object = msgspec.json.Decoder(TensorObject)


def read(
    fields: Mapping[str, msgspec.Raw],
    inputs: Sequence[TensorSpec],
    *,
    most_rows: int | None,
    within: str,
) -> dict[str, Tensor]:
    """The tensors of a JSON object.

    Args:
        fields: its fields.
        inputs: what the model takes.
        most_rows: in one request; None where the first axis isn't rows.
        within: the field that holds the object.

    Raises:
        InvalidInput: a tensor is missing, unknown, or of another datatype or shape.
    """
    takes = {spec.name: spec for spec in inputs}
    for name in fields:
        if name not in takes:
            raise InvalidInput(
                f"There is no input {name[:80]!r}. There is {', '.join(map(repr, takes))}.",
                param=f"{within}.{name[:80]}",
            )
    for name, spec in takes.items():
        if name not in fields:
            raise InvalidInput(
                f"The input {name!r} is missing: {spec.datatype} of the shape {list(spec.shape)}.",
                param=f"{within}.{name}",
            )
    return {
        name: _tensor(fields[name], spec, most_rows=most_rows, where=f"{within}.{name}")
        for name, spec in takes.items()
    }


def is_object(value: Any) -> bool:
    """Whether a tensor came as an object, so that its answer is to be one."""
    return isinstance(value, dict)


def told(tensor: Tensor, *, as_object: bool) -> Any:
    """A tensor as JSON has it.

    Args:
        tensor: what is to be told.
        as_object: with raw data; those that lists can't tell, BF16, bytes that are no text and
            infinite numbers, are told so anyway.
    """
    if not as_object:
        elements = _elements(tensor)
        if elements is not None:
            return _nested(elements, tensor.shape)
    data = base64.b64encode(tensor.raw).decode()
    return TensorObject(tensor.datatype, tensor.shape, data)


def _tensor(raw: msgspec.Raw, spec: TensorSpec, *, most_rows: int | None, where: str) -> Tensor:
    if bytes(memoryview(raw)[:1]) == b"{":
        given = decode(_object, raw, within=where)
        declared = Declared(spec.name, given.datatype, given.shape)
        check_declared(declared, spec, most_rows=most_rows)
        try:
            return of_raw(declared, binascii.a2b_base64(given.data, strict_mode=True))
        except ValueError:
            raise InvalidInput(f"{where}.data is no base64.", param=f"{where}.data") from None
    if not DATATYPES[spec.datatype].code and spec.datatype != BYTES:
        raise InvalidInput(
            f"{where} is {spec.datatype}, which lists can't tell: send an object with datatype, "
            "shape and data.",
            param=where,
        )
    nested = decode(_decoder(spec.datatype, len(spec.shape)), raw, within=where)
    shape, elements = _flat(nested, len(spec.shape), where)
    declared = Declared(spec.name, spec.datatype, shape)
    check_declared(declared, spec, most_rows=most_rows)
    if spec.datatype == BYTES:
        return of_strings(declared, [text.encode() for text in elements])
    return of_numbers(declared, elements)


@functools.cache
def _decoder(datatype: str, rank: int) -> msgspec.json.Decoder[Any]:
    """Decodes a list of elements, so many levels of them."""
    whole: Any = DATATYPES[datatype].number
    for _ in range(rank):
        whole = list[whole]
    return msgspec.json.Decoder(whole)


def _flat(nested: Any, rank: int, where: str) -> tuple[tuple[int, ...], list[Any]]:
    """The shape and the elements of nested lists, which must be of the same length on a level."""
    shape: list[int] = []
    level: list[Any] = [nested]
    for _ in range(rank):
        size = len(level[0]) if level else 0
        if any(len(items) != size for items in level):
            raise InvalidInput(
                f"{where} has lists of different lengths beside one another.", param=where
            )
        shape.append(size)
        level = [item for items in level for item in items]
    return tuple(shape), level


def _elements(tensor: Tensor) -> Sequence[Any] | None:
    """The elements as JSON has them; None where it can't tell them."""
    if tensor.datatype == BYTES:
        try:
            return [item.decode() for item in tensor.strings]
        except UnicodeDecodeError:
            return None
    return tensor.numbers if DATATYPES[tensor.datatype].code and tensor.is_bounded else None


def _nested(elements: Sequence[Any], shape: tuple[int, ...]) -> Any:
    if not shape:
        return elements[0]
    level: list[Any] = list(elements)
    for size in reversed(shape[1:]):
        # An axis of none leaves nothing to tell how many lists of none there are.
        level = [level[at : at + size] for at in range(0, len(level), size)] if size else []
    return level
