"""Tensors as they travel, and as ONNX Runtime takes them.

BF16, which numpy doesn't have, is kept as the bits of it, uint16.
"""

import math
import struct
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from forebay.contract.errors import InvalidInput
from forebay.contract.rows import NamedTensor
from forebay.contract.tensors import BYTES, TensorSpec, fits

Array = npt.NDArray[Any]

BF16: Final = "BF16"

DTYPES: Final[dict[str, np.dtype[Any]]] = {
    "BOOL": np.dtype(np.bool_),
    "INT8": np.dtype(np.int8),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "UINT8": np.dtype(np.uint8),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
    BF16: np.dtype("<u2"),
    BYTES: np.dtype(np.object_),
}
"""numpy's type for each datatype."""

_LENGTH: Final = struct.Struct("<I")


def array_of(tensor: NamedTensor, spec: TensorSpec) -> Array:
    """A tensor as an array.

    Args:
        tensor: as it came.
        spec: what the model takes by this name.

    Raises:
        InvalidInput: it is of another datatype or shape, or its bytes are not those of one.
    """
    name = tensor.name
    if tensor.datatype != spec.datatype or not fits(tensor.shape, spec.shape):
        raise InvalidInput(
            f"{name} must be {spec.datatype} of the shape {list(spec.shape)}, where -1 is any "
            f"number, not {tensor.datatype[:40]} of {list(tensor.shape)}.",
            param=name,
        )
    if tensor.datatype == BYTES:
        return _strings(tensor)
    dtype = DTYPES[tensor.datatype]
    if len(tensor.data) != dtype.itemsize * math.prod(tensor.shape):
        raise _torn(tensor)
    if tensor.datatype == "BOOL":
        # Any other byte than 0 and 1 would be no bool that C++ knows.
        return np.asarray(np.frombuffer(tensor.data, np.uint8) != 0).reshape(tensor.shape)
    return np.frombuffer(tensor.data, dtype).reshape(tensor.shape)


def datatype_of(array: Array) -> str:
    """The Open Inference Protocol's name for what an array holds; uint16 is taken for itself.

    Raises:
        TypeError: there is none.
    """
    if array.dtype.kind in "OSU":
        return BYTES
    for name, dtype in DTYPES.items():
        if dtype == array.dtype.newbyteorder("<") and name != BF16:
            return name
    raise TypeError(f"no tensor holds {array.dtype}")


def tensor_of(name: str, datatype: str, array: Array) -> NamedTensor:
    """An array as a tensor that travels."""
    if datatype == BYTES:
        encoded = [str(item).encode() for item in array.reshape(-1)]
        data = b"".join(piece for item in encoded for piece in (_LENGTH.pack(len(item)), item))
    else:
        data = np.ascontiguousarray(array, DTYPES[datatype]).tobytes()
    return NamedTensor(name, datatype, tuple(array.shape), data)


def _strings(tensor: NamedTensor) -> Array:
    items: list[str] = []
    at, data = 0, tensor.data
    try:
        while at < len(data):
            (length,) = _LENGTH.unpack_from(data, at)
            at += _LENGTH.size + length
            if at > len(data):
                raise _torn(tensor)
            items.append(data[at - length : at].decode())
    except UnicodeDecodeError:
        raise InvalidInput(
            f"{tensor.name} holds bytes that are no UTF-8: an ONNX model takes texts.",
            param=tensor.name,
        ) from None
    except struct.error:
        raise _torn(tensor) from None
    if len(items) != math.prod(tensor.shape):
        raise _torn(tensor)
    array = np.empty(len(items), np.object_)
    array[:] = items
    return array.reshape(tensor.shape)


def _torn(tensor: NamedTensor) -> InvalidInput:
    return InvalidInput(
        f"{tensor.name} holds {len(tensor.data):,} bytes, which are no {tensor.datatype} of the "
        f"shape {list(tensor.shape)}.",
        param=tensor.name,
    )


def joined(arrays: Sequence[Array]) -> Array:
    """Arrays one after the other along their first axis."""
    return np.concatenate(arrays) if len(arrays) > 1 else arrays[0]
