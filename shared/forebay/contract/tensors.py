"""What tensors a model takes and gives, in the Open Inference Protocol's words for them."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import msgspec

ANY: Final = -1
"""A dimension of any size."""

BYTES: Final = "BYTES"
"""The datatype of texts, and of anything else that is no number."""

ELEMENT_BYTES: Final[Mapping[str, int]] = MappingProxyType(
    {
        "BOOL": 1,
        "INT8": 1,
        "INT16": 2,
        "INT32": 4,
        "INT64": 8,
        "UINT8": 1,
        "UINT16": 2,
        "UINT32": 4,
        "UINT64": 8,
        "FP16": 2,
        "FP32": 4,
        "FP64": 8,
        "BF16": 2,
        BYTES: 0,
    }
)
"""All datatypes, with the bytes of one element; 0 where elements differ in size."""


class TensorSpec(msgspec.Struct, frozen=True):
    """A tensor that a model takes or gives.

    Attributes:
        shape: a dimension of -1 is any.
        optional: whether a request may leave it out.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    optional: bool = False


class TensorSignature(msgspec.Struct, frozen=True):
    """The tensors of a graph.

    Attributes:
        batched: whether the first axis of each tensor is rows, so that rows of several requests
            may share a forward pass; else a request is one row, and runs alone.
        sample: shapes of the inputs, in their order, that the build has run the graph on.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    batched: bool
    sample: tuple[tuple[int, ...], ...]


def fits(shape: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    """Whether a shape is one that is wanted, dimension by dimension."""
    return len(shape) == len(wanted) and all(
        have >= 0 and want in (ANY, have) for have, want in zip(shape, wanted, strict=True)
    )
