"""Tensors in messages: raw, one field for each, or typed, in the list that holds their kind.

A request is answered as it was asked: raw if its inputs were raw, as those of `tritonclient` are,
or if it says `binary_data_output`; typed otherwise.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any, Final

from forebay.contract.errors import InvalidInput
from forebay.contract.tensors import BYTES
from forebay.gateway.dialects.oip.inference import Answered, Given
from forebay.gateway.dialects.oip.rpc.wire import open_inference_pb2 as pb
from forebay.gateway.tensors import Declared, Tensor, of_numbers, of_raw, of_strings

CONTENTS: Final = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    BYTES: "bytes_contents",
}
"""The list for elements of each datatype; the others travel raw only."""


def inputs_of(request: pb.ModelInferRequest) -> list[Given]:
    """A request's inputs, their elements not yet read.

    Raises:
        InvalidInput: raw contents are not as many as inputs, or are there beside typed ones.
    """
    raw = request.raw_input_contents
    if raw and len(raw) != len(request.inputs):
        raise InvalidInput(
            f"raw_input_contents holds {len(raw):,} items for {len(request.inputs):,} inputs: give "
            "one for each, or none.",
            param="raw_input_contents",
        )
    given: list[Given] = []
    for index, tensor in enumerate(request.inputs):
        _refuse_parameters(tensor.name, tensor.parameters)
        reads: Callable[[Declared], Tensor]
        if not raw:
            reads = functools.partial(_of_contents, contents=tensor.contents)
        elif tensor.HasField("contents"):
            raise InvalidInput(
                f"{tensor.name[:80]}: give its elements either as contents or in "
                "raw_input_contents, not both.",
                param=tensor.name,
            )
        else:
            reads = functools.partial(of_raw, raw=raw[index])
        given.append((Declared(tensor.name, tensor.datatype, tuple(tensor.shape)), reads))
    return given


def wanted_of(request: pb.ModelInferRequest) -> list[str]:
    """Names of the outputs that are asked for.

    Raises:
        InvalidInput: one has parameters.
    """
    for tensor in request.outputs:
        _refuse_parameters(tensor.name, tensor.parameters)
    return [tensor.name for tensor in request.outputs]


def parameters_of(request: pb.ModelInferRequest) -> dict[str, Any]:
    """A request's parameters as plain values."""
    found: dict[str, Any] = {}
    for name, value in request.parameters.items():
        kind = value.WhichOneof("parameter_choice")
        found[name] = None if kind is None else getattr(value, kind)
    return found


def response_of(answered: Answered, *, id_: str, raw: bool) -> pb.ModelInferResponse:
    """The answer to an inference.

    Args:
        answered: what came of it.
        id_: the request's own.
        raw: give the outputs raw.
    """
    response = pb.ModelInferResponse(
        model_name=answered.model, model_version=answered.version, id=id_
    )
    for tensor in answered.outputs:
        output = response.outputs.add(
            name=tensor.name, datatype=tensor.datatype, shape=tensor.shape
        )
        if raw:
            response.raw_output_contents.append(tensor.raw)
        else:
            elements = tensor.strings if tensor.datatype == BYTES else tensor.numbers
            getattr(output.contents, _field(tensor.datatype)).extend(elements)
    return response


def _of_contents(declared: Declared, contents: pb.InferTensorContents) -> Tensor:
    """A tensor from typed contents."""
    field = _field(declared.datatype)
    others = [descriptor.name for descriptor, _ in contents.ListFields()]
    if others not in ([], [field]):
        strays = ", ".join(other for other in others if other != field)
        raise InvalidInput(
            f"{declared.name}: elements of {declared.datatype} go in {field}, not in {strays}.",
            param=declared.name,
        )
    elements = getattr(contents, field)
    if declared.datatype == BYTES:
        return of_strings(declared, elements)
    return of_numbers(declared, elements)


def _field(datatype: str) -> str:
    field = CONTENTS.get(datatype)
    if field is None:
        raise InvalidInput(f"{datatype} has no typed contents: send it in raw_input_contents.")
    return field


def _refuse_parameters(tensor: str, parameters: Mapping[str, pb.InferParameter]) -> None:
    """Refuse what a tensor is said to need beyond its elements: shared memory, classification."""
    for name in parameters:
        raise InvalidInput(
            f"{tensor[:80]}: the parameter {name[:80]!r} is not one that is heeded here; leave it "
            "out.",
            param=name,
        )
