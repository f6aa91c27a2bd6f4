"""Tensors of a request to rows of a model, and what came of the rows to tensors again.

Where the model's first axis is rows, each goes its own way through the lane, with its first axis of
one; else a request is one row.
"""

import math
from collections.abc import Mapping, Sequence

from forebay.contract.errors import ForebayError, InvalidInput, Unavailable
from forebay.contract.model import ModelSpec
from forebay.contract.rows import NamedTensor, Output, Tensors, TensorsRow
from forebay.contract.tensors import BYTES, TensorSignature
from forebay.gateway.errors import DEFAULT_RETRY_S
from forebay.gateway.tensors import DATATYPES, Declared, Tensor, of_raw

ONE = 1


def known(spec: ModelSpec, tensors: TensorSignature | None) -> TensorSignature:
    """The tensors of a model, which a gateway has to know to speak them.

    Raises:
        Unavailable: it doesn't.
    """
    if tensors is None:
        raise Unavailable(
            f"This gateway can't tell which tensors {spec.name!r} takes: run `forebay models build "
            f"{spec.name}` where it has its home.",
            retry_after_s=DEFAULT_RETRY_S,
        )
    return tensors


def rows_of(signature: TensorSignature, inputs: Mapping[str, Tensor]) -> list[TensorsRow]:
    """The rows of a request.

    Args:
        signature: of the model.
        inputs: one for each input of the model, of its datatype and shape.

    Raises:
        InvalidInput: the inputs differ in their number of rows.
    """
    given = [inputs[spec.name] for spec in signature.inputs]
    # A column does for a list elsewhere, so it may have come in place of one.
    shapes = [
        tensor.shape[: len(spec.shape)]
        for spec, tensor in zip(signature.inputs, given, strict=True)
    ]
    if not signature.batched:
        return [
            TensorsRow(
                tuple(
                    NamedTensor(tensor.name, tensor.datatype, shape, tensor.raw)
                    for tensor, shape in zip(given, shapes, strict=True)
                )
            )
        ]
    count = shapes[0][0]
    for tensor, shape in zip(given, shapes, strict=True):
        if shape[0] != count:
            raise InvalidInput(
                f"{tensor.name} has {shape[0]:,} rows and {given[0].name} {count:,}: the first "
                "axis is rows, and each input has the same number of them.",
                param=tensor.name,
            )
    cut = [_rows(tensor, count) for tensor in given]
    return [
        TensorsRow(
            tuple(
                NamedTensor(tensor.name, tensor.datatype, (ONE, *shape[1:]), pieces[row])
                for tensor, shape, pieces in zip(given, shapes, cut, strict=True)
            )
        )
        for row in range(count)
    ]


def tensors_of(outputs: Sequence[Output]) -> list[Tensor]:
    """The tensors of an answer: those of one row, or of several one below the other.

    Raises:
        ForebayError: the model has answered with something else, or with rows that differ in shape.
    """
    rows = [output.tensors for output in outputs if isinstance(output, Tensors)]
    if not rows or len(rows) < len(outputs):
        raise ForebayError("The model answered with something that is no set of tensors.")
    if len(rows) == ONE:
        return [_tensor(tensor, tensor.shape, tensor.data) for tensor in rows[0]]
    together: list[Tensor] = []
    for column in zip(*rows, strict=True):
        first = column[0]
        other = next((one for one in column if one.shape[1:] != first.shape[1:]), None)
        if other is not None:
            raise ForebayError(
                f"The rows of {first.name} differ in shape, {list(first.shape[1:])} and "
                f"{list(other.shape[1:])}, and can't be told as one tensor: send them one by one."
            )
        shape = (sum(one.shape[0] for one in column), *first.shape[1:])
        together.append(_tensor(first, shape, b"".join(one.data for one in column)))
    return together


def _rows(tensor: Tensor, count: int) -> list[bytes]:
    """The elements of each row, raw."""
    size = DATATYPES[tensor.datatype].size
    per_row = math.prod(tensor.shape) // count
    if size:
        raw, step = tensor.raw, size * per_row
        return [raw[at : at + step] for at in range(0, len(raw), step)]
    strings = tensor.strings
    return [
        Tensor(tensor.name, BYTES, (per_row,), strings[at : at + per_row]).raw
        for at in range(0, len(strings), per_row)
    ]


def _tensor(named: NamedTensor, shape: tuple[int, ...], data: bytes) -> Tensor:
    return of_raw(Declared(named.name, named.datatype, tuple(shape)), data)
