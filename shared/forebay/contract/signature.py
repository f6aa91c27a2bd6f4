"""Sources that become ONNX by a library of their own, and what `models.toml` says of their tensors.

A SavedModel says what it takes. A TorchScript file doesn't, so the catalog has to.
"""

import re

import msgspec

from forebay.contract.tensors import BYTES, ELEMENT_BYTES

TORCHSCRIPT = "torchscript:"
"""How the source of a model that is a TorchScript file begins."""

SAVED_MODEL = "savedmodel:"
"""And of one that is a folder of TensorFlow's."""

CONVERTED = (TORCHSCRIPT, SAVED_MODEL)

FORM = '"FP32[rows, 16]": a datatype, and for each axis its size, or a name where any size will do'
"""What an input looks like in a signature."""

TORCHSCRIPT_DATATYPES = frozenset(ELEMENT_BYTES) - {BYTES, "BF16", "UINT16", "UINT32", "UINT64"}
"""Those of the Open Inference Protocol that both numpy and PyTorch's exporter have."""

_INPUT = re.compile(r"(?P<datatype>[A-Z]+[0-9]*)\[(?P<shape>[^\[\]]*)\]")
_AXIS = re.compile(r"[a-z][a-z0-9_]{0,30}")
_MAX_SIDE = 1_000_000


class Conversion(msgspec.Struct, frozen=True):
    """How a source became an ONNX file.

    Attributes:
        by: the libraries that did it, with their versions.
        runs: how often the graph was held against the source.
        difference: the largest, in units of the source's largest value; of whole numbers and texts
            there is none.
    """

    by: str
    runs: int
    difference: float


class InputTensor(msgspec.Struct, frozen=True):
    """A tensor that a model takes, as a signature says it.

    Attributes:
        name: what clients call it.
        datatype: of the Open Inference Protocol.
        shape: a name is an axis of any size, the same wherever the name stands.
    """

    name: str
    datatype: str
    shape: tuple[int | str, ...]


class SignatureTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A `[models.NAME.signature]` table: the tensors of a TorchScript file.

    Attributes:
        inputs: of each argument of `forward`, in their order, a name for clients with datatype and
            shape, such as `x = "FP32[rows, 16]"`. An axis that has a name instead of a size is of
            any size, the same wherever that name stands.
        outputs: names of what it gives, in order. If not given, `output`; of several `output_0`,
            `output_1` and so on.
    """

    inputs: dict[str, str] = {}
    outputs: tuple[str, ...] = ()

    @property
    def tensors(self) -> tuple[InputTensor, ...]:
        """What the model takes; of a table that is not wrong."""
        return tuple(
            tensor
            for name, told in self.inputs.items()
            if (tensor := _parsed(name, told)) is not None
        )

    def wrong(self) -> tuple[str, str] | None:
        """The field that is not well, and the rule it breaks; None if all is well."""
        for name, told in self.inputs.items():
            tensor = _parsed(name, told)
            if tensor is None:
                return f"inputs.{name}", f"of the form {FORM}"
            if tensor.datatype not in TORCHSCRIPT_DATATYPES:
                return f"inputs.{name}", f"of one of {', '.join(sorted(TORCHSCRIPT_DATATYPES))}"
        names = (*self.inputs, *self.outputs)
        if not all(names) or len(set(names)) < len(names):
            return "outputs", "of names that are not empty and that no other tensor has"
        return None


def _parsed(name: str, told: str) -> InputTensor | None:
    found = _INPUT.fullmatch(told)
    if found is None:
        return None
    shape: list[int | str] = []
    for part in found["shape"].split(",") if found["shape"].strip() else ():
        axis = part.strip()
        if axis.isascii() and axis.isdecimal() and 1 <= int(axis[:9]) <= _MAX_SIDE:
            shape.append(int(axis))
        elif _AXIS.fullmatch(axis):
            shape.append(axis)
        else:
            return None
    return InputTensor(name, found["datatype"], tuple(shape))
