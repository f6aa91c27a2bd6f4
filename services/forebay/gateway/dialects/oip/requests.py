"""The body of an `infer` request over REST: its JSON, and tensors' elements in it or behind it."""

import functools
import re
from collections.abc import Callable
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from forebay.contract.errors import InvalidInput
from forebay.contract.tensors import BYTES
from forebay.gateway.bodies import decode
from forebay.gateway.dialects.oip.framing import HEADER_LENGTH, Binary, decompress, split
from forebay.gateway.dialects.oip.inference import Given
from forebay.gateway.dialects.oip.parameters import Parameters
from forebay.gateway.http import Call
from forebay.gateway.tensors import (
    DATATYPES,
    MAX_RANK,
    Declared,
    Tensor,
    of_numbers,
    of_raw,
    of_strings,
)

MAX_ID: Final = 1_024
"""Longest id of a request, characters."""

Size = Annotated[int, Meta(ge=0, le=2**63 - 1)]

_OPENING = re.compile(rb"[\[\s]*")


class InputParameters(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An input's; `binary_data_size` bytes of it are behind the JSON."""

    binary_data_size: Size | None = None


class InputTensor(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An input.

    Attributes:
        data: its elements, flat or nested as the shape is, unless they are binary.
    """

    name: str
    shape: Annotated[tuple[Size, ...], Meta(max_length=MAX_RANK)]
    datatype: str
    parameters: InputParameters = InputParameters()
    data: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class OutputParameters(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An output's.

    Attributes:
        binary_data: give it as binary data; if not said, `binary_data_output` counts.
        classification: must be 0: there are no labels to count here.
    """

    binary_data: bool | None = None
    classification: Annotated[int, Meta(ge=0, le=0)] = 0


class OutputTensor(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An output that is asked for."""

    name: str
    parameters: OutputParameters = OutputParameters()


class InferRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The JSON of `POST /v2/models/{model}/infer`.

    Attributes:
        outputs: those that are asked for; none asks for all.
        id: told again in the answer.
    """

    inputs: tuple[InputTensor, ...]
    outputs: tuple[OutputTensor, ...] = ()
    parameters: Parameters = Parameters()
    id: Annotated[str, Meta(max_length=MAX_ID)] = ""


class Asked(msgspec.Struct, frozen=True):
    """A request, read.

    Attributes:
        request: its JSON.
        inputs: each with what reads its elements.
    """

    request: InferRequest
    inputs: list[Given]

    def is_binary(self, output: str) -> bool:
        """Whether an output is to be given as binary data."""
        for tensor in self.request.outputs:
            if tensor.name == output and tensor.parameters.binary_data is not None:
                return tensor.parameters.binary_data
        return self.request.parameters.binary_data_output


_request = msgspec.json.Decoder(InferRequest)


def read(call: Call, *, limit: int) -> Asked:
    """Read a request, its tensors' elements not yet.

    Args:
        call: with its body.
        limit: largest body, decompressed, bytes.

    Raises:
        InvalidInput: it is wrong; `param` names the field.
    """
    body = decompress(call.body, call.header(b"content-encoding"), limit=limit)
    text, behind = split(body, call.header(HEADER_LENGTH))
    request = decode(_request, text)
    binary = Binary(behind)
    inputs: list[Given] = [
        (Declared(tensor.name, tensor.datatype, tensor.shape), _reader(tensor, binary))
        for tensor in request.inputs
    ]
    binary.finish()
    return Asked(request, inputs)


def _reader(tensor: InputTensor, binary: Binary) -> Callable[[Declared], Tensor]:
    """What reads an input's elements, wherever they are."""
    size, data, name = tensor.parameters.binary_data_size, tensor.data, tensor.name[:80]
    if size is None and data is not msgspec.UNSET:
        return functools.partial(_of_json, data=data)
    if size is not None and data is msgspec.UNSET:
        return functools.partial(of_raw, raw=binary.take(size, param=name))
    raise InvalidInput(
        f"{name}: give its elements either as data or, behind the JSON, as binary data "
        "(parameters.binary_data_size).",
        param=name,
    )


def _of_json(declared: Declared, data: msgspec.Raw) -> Tensor:
    """A tensor from its elements in JSON."""
    where = f"{declared.name}.data"
    opening = _OPENING.match(memoryview(data))
    depth = 0 if opening is None else opening[0].count(b"[")
    if depth not in (1, len(declared.shape)):
        raise InvalidInput(
            f"{where} must be a flat list, or nested as the shape {list(declared.shape)} says.",
            param=where,
        )
    elements = decode(_decoder(DATATYPES[declared.datatype].number, depth), data, within=where)
    if depth > 1:
        elements = _flat(elements, declared, where)
    if declared.datatype == BYTES:
        return of_strings(declared, [text.encode() for text in elements])
    return of_numbers(declared, elements)


def _flat(nested: list[Any], declared: Declared, where: str) -> list[Any]:
    """The elements of a nested list, whose every list must be as long as the shape says."""
    level: list[Any] = [nested]
    for size in declared.shape:
        if any(len(items) != size for items in level):
            raise InvalidInput(
                f"{where} is not nested as its shape {list(declared.shape)} says.", param=where
            )
        level = [item for items in level for item in items]
    return level


@functools.cache
def _decoder(element: type, depth: int) -> msgspec.json.Decoder[Any]:
    """Decodes lists of an element, so many levels of them."""
    whole: Any = element
    for _ in range(depth):
        whole = list[whole]
    return msgspec.json.Decoder(whole)
