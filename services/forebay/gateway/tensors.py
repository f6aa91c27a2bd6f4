"""Tensors as the Open Inference Protocol has them: name, datatype, shape, elements by row.

Elements travel as numbers (JSON, or typed lists in gRPC), or raw: little-endian, one after the
other; each element of `BYTES` as its length in four bytes and then its bytes. What is declared is
held against what is there before anything is made of it, in integers that can't overflow.

Source: the Open Inference Protocol's tensor data types, and Triton's binary tensor data extension.
"""

import math
import struct
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from forebay.contract import tensors
from forebay.contract.errors import InvalidInput
from forebay.contract.tensors import BYTES, TensorSpec

MAX_RANK: Final = 8
"""Most dimensions of a tensor."""

_LENGTH: Final = struct.Struct("<I")


class Datatype(msgspec.Struct, frozen=True):
    """What an element is.

    Attributes:
        size: bytes of one element; 0 where elements differ in size.
        code: of one element in `struct`; empty where Python has no such number.
        number: the type that JSON has for it.
        config: its name in a model's configuration.
    """

    size: int
    code: str
    number: type
    config: str


DATATYPES: Final = {
    "BOOL": Datatype(1, "?", bool, "TYPE_BOOL"),
    "INT8": Datatype(1, "b", int, "TYPE_INT8"),
    "INT16": Datatype(2, "h", int, "TYPE_INT16"),
    "INT32": Datatype(4, "i", int, "TYPE_INT32"),
    "INT64": Datatype(8, "q", int, "TYPE_INT64"),
    "UINT8": Datatype(1, "B", int, "TYPE_UINT8"),
    "UINT16": Datatype(2, "H", int, "TYPE_UINT16"),
    "UINT32": Datatype(4, "I", int, "TYPE_UINT32"),
    "UINT64": Datatype(8, "Q", int, "TYPE_UINT64"),
    "FP16": Datatype(2, "e", float, "TYPE_FP16"),
    "FP32": Datatype(4, "f", float, "TYPE_FP32"),
    "FP64": Datatype(8, "d", float, "TYPE_FP64"),
    "BF16": Datatype(2, "", float, "TYPE_BF16"),
    BYTES: Datatype(0, "", str, "TYPE_STRING"),
}
"""All datatypes of the protocol, by name."""


class Declared(msgspec.Struct, frozen=True):
    """What a request says of a tensor, before its elements are looked at."""

    name: str
    datatype: str
    shape: tuple[int, ...]

    @property
    def elements(self) -> int:
        """How many there must be."""
        return math.prod(self.shape)


class Tensor(msgspec.Struct, frozen=True):
    """A tensor with its elements.

    Attributes:
        data: the elements: raw, or one `bytes` each where the datatype is `BYTES`.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: bytes | Sequence[bytes]

    @property
    def numbers(self) -> tuple[Any, ...]:
        """The elements of a tensor of numbers."""
        return struct.unpack(f"<{math.prod(self.shape)}{_code(self.datatype)}", self.raw)

    @property
    def is_bounded(self) -> bool:
        """Whether no number of it is infinite, which JSON can't tell."""
        if DATATYPES[self.datatype].code not in ("e", "f", "d"):
            return True
        numbers = self.numbers
        return math.inf not in numbers and -math.inf not in numbers

    @property
    def strings(self) -> Sequence[bytes]:
        """The elements of a tensor of `BYTES`."""
        if isinstance(self.data, bytes):
            raise TypeError(f"{self.name} is a tensor of {self.datatype}")
        return self.data

    @property
    def raw(self) -> bytes:
        """The elements as they travel in binary."""
        if isinstance(self.data, bytes):
            return self.data
        pieces: list[bytes] = []
        for item in self.data:
            pieces += (_LENGTH.pack(len(item)), item)
        return b"".join(pieces)


def of_raw(declared: Declared, raw: bytes | memoryview) -> Tensor:
    """A tensor from binary data.

    Args:
        declared: its name, datatype and shape.
        raw: all of its elements, and nothing else.

    Raises:
        InvalidInput: these are not the bytes of such a tensor.
    """
    size = DATATYPES[declared.datatype].size
    if not size:
        return _tensor(declared, _split(declared, memoryview(raw)))
    if len(raw) != size * declared.elements:
        raise InvalidInput(
            f"{declared.name} is declared as {declared.datatype} of shape {list(declared.shape)}, "
            f"which is {_cut(size * declared.elements)} bytes, and {len(raw):,} bytes came.",
            param=declared.name,
        )
    return _tensor(declared, bytes(raw))


def of_numbers(declared: Declared, numbers: Sequence[Any]) -> Tensor:
    """A tensor from numbers.

    Raises:
        InvalidInput: there are more or fewer than declared, or one is out of the datatype's range.
    """
    check_count(declared, len(numbers))
    try:
        raw = struct.pack(f"<{len(numbers)}{_code(declared.datatype)}", *numbers)
    except (struct.error, OverflowError):
        raise InvalidInput(
            f"{declared.name} holds a number that is out of the range of {declared.datatype}.",
            param=declared.name,
        ) from None
    return _tensor(declared, raw)


def of_strings(declared: Declared, strings: Sequence[bytes]) -> Tensor:
    """A tensor of `BYTES` from its elements.

    Raises:
        InvalidInput: there are more or fewer than declared.
    """
    check_count(declared, len(strings))
    return _tensor(declared, tuple(strings))


def check_count(declared: Declared, found: int) -> None:
    """Make sure that there are as many elements as the shape says.

    Raises:
        InvalidInput: there aren't.
    """
    if found != declared.elements:
        raise InvalidInput(
            f"{declared.name} is declared with the shape {list(declared.shape)}, which is "
            f"{_cut(declared.elements)} elements, and {found:,} came.",
            param=declared.name,
        )


def check_declared(declared: Declared, spec: TensorSpec, *, most_rows: int | None) -> None:
    """Hold what a request declares against what the model takes.

    Args:
        declared: by the request.
        spec: of the model.
        most_rows: in one request; None where the first axis isn't rows.

    Raises:
        InvalidInput: another datatype, another shape, or too many rows.
    """
    name = declared.name
    if declared.datatype != spec.datatype:
        raise InvalidInput(
            f"{name} must be of the datatype {spec.datatype}, not {declared.datatype[:40]!r}.",
            param=name,
        )
    if not fits(declared.shape, spec.shape):
        shown = [*declared.shape] if len(declared.shape) <= MAX_RANK else "of more dimensions"
        raise InvalidInput(
            f"{name} must be of the shape {list(spec.shape)}, where -1 is any number, not {shown}.",
            param=name,
        )
    if declared.elements == 0:
        raise InvalidInput(f"{name} must not be empty.", param=name)
    if most_rows is not None and declared.shape[0] > most_rows:
        raise InvalidInput(
            f"{name} has {_cut(declared.shape[0])} rows; one request takes {most_rows:,} at most.",
            param=name,
        )


def fits(shape: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    """Whether a shape is one that is wanted; [n, 1] does for [n], as most servers have it."""
    if len(wanted) == 1 and len(shape) == 2 and shape[1] == 1:
        shape = shape[:1]
    return tensors.fits(shape, wanted)


def _split(declared: Declared, raw: memoryview) -> tuple[bytes, ...]:
    """The elements of a raw `BYTES` tensor."""
    count, size = declared.elements, len(raw)
    found: list[bytes] = []
    at = 0
    while at < size and len(found) < count:
        if size - at < _LENGTH.size:
            break
        (length,) = _LENGTH.unpack_from(raw, at)
        at += _LENGTH.size
        if length > size - at:
            raise InvalidInput(
                f"{declared.name}: element {len(found)} is said to have {length:,} bytes, and only "
                f"{size - at:,} are left.",
                param=declared.name,
            )
        found.append(bytes(raw[at : at + length]))
        at += length
    if len(found) == count and at == size:
        return tuple(found)
    raise InvalidInput(
        f"{declared.name} is declared with the shape {list(declared.shape)}, which is "
        f"{_cut(count)} elements; the {size:,} bytes that came hold {len(found):,}, and "
        f"{size - at:,} bytes are left over.",
        param=declared.name,
    )


def _tensor(declared: Declared, data: bytes | Sequence[bytes]) -> Tensor:
    return Tensor(declared.name, declared.datatype, declared.shape, data)


def _code(datatype: str) -> str:
    code = DATATYPES[datatype].code
    if not code:
        raise InvalidInput(f"{datatype} can't be told in numbers here: send it as binary data.")
    return code


def _cut(number: int) -> str:
    """A number for people, who don't read the end of a very long one."""
    return f"{number:,}" if number < 10**18 else "more than 10^18"
