"""Tensors with those that are expected, for models of plain tensors.

    {"input": {"x": [[1.0, 2.0]]}, "output": {"y": [[3.0]]}}

Tensors are nested lists, or objects with datatype, shape and base64, as `/v1/predictions` has them.
An output that a line doesn't name is not looked at.
"""

import binascii
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from forebay.assess.chance import Columns, Measure
from forebay.assess.forms.base import Details, Example, Numbers, mean_of
from forebay.assess.lines import decode
from forebay.contract.errors import InvalidInput
from forebay.inference.backends.arrays import BF16, DTYPES

Array = npt.NDArray[Any]


class _Line(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    input: dict[str, Any]
    output: dict[str, Any]


class TensorValues:
    """Whether the tensors are those that are expected, and how far they are from them.

    Args:
        tolerance: by how much a number may differ, of itself or of 1, whichever is larger.
    """

    name = "tensors"
    measures: Sequence[Measure] = (
        mean_of("correct", "match", hits=True),
        Measure(
            "mean difference", lambda rows: float(rows["difference"].mean()), lower_is_better=True
        ),
        Measure(
            "largest difference", lambda rows: float(rows["largest"].max()), lower_is_better=True
        ),
    )

    def __init__(self, *, tolerance: float) -> None:
        self._tolerance = tolerance
        self._decoder = msgspec.json.Decoder(_Line)
        self._rows = Numbers("correct", "difference", "largest")

    def read(self, data: bytes, line: int) -> Example:
        """Read a line; see the module."""
        given = decode(self._decoder, data)
        if not given.output:
            raise InvalidInput("`output` names no tensor: there is nothing to hold it against.")
        truth = {name: _array(name, value) for name, value in given.output.items()}
        return Example(line, given.input, truth)

    def take(self, example: Example, output: Any) -> None:
        """Compare each tensor that the line names."""
        correct, apart = True, list[Array]()
        for name, wanted in example.truth.items():
            if name not in output:
                told = ", ".join(map(repr, sorted(output)))
                raise InvalidInput(f"{name!r} is no output of this model: there is {told}.")
            differences, close = self._apart(_array(name, output[name]), wanted)
            correct = correct and close
            apart.append(differences)
        every = np.concatenate(apart)
        known = every[np.isfinite(every)]
        self._rows.add(correct, *((known.mean(), known.max()) if known.size else (0.0, 0.0)))

    def _apart(self, got: Array, wanted: Array) -> tuple[Array, bool]:
        """How far each element is from what is expected, and whether all are close enough.

        A tensor of another shape counts as none: as far away as what is expected is from zeros.
        """
        if got.shape != wanted.shape:
            got = np.zeros_like(wanted)
            return self._apart(got, wanted)[0], False
        if "U" in (got.dtype.kind, wanted.dtype.kind):
            differs = got != wanted
            return differs.astype(np.float64).ravel(), not differs.any()
        one, other = got.astype(np.float64), wanted.astype(np.float64)
        close = np.isclose(one, other, rtol=self._tolerance, atol=self._tolerance, equal_nan=True)
        with np.errstate(invalid="ignore"):
            return np.abs(one - other).ravel(), bool(close.all())

    def columns(self) -> Columns:
        """`correct` is 0 or 1; the others are a line's mean and largest difference, absolute."""
        return self._rows.columns()

    def details(self) -> Details:
        """Nothing more."""
        return Details()


def _array(name: str, value: Any) -> Array:
    """A tensor in JSON as an array.

    Raises:
        InvalidInput: it is none, or of a datatype that can't be compared.
    """
    try:
        if isinstance(value, dict):
            raw = np.frombuffer(binascii.a2b_base64(value["data"]), DTYPES[value["datatype"]])
            if value["datatype"] == BF16:  # the upper half of a float's bits
                raw = (raw.astype(np.uint32) << 16).view(np.float32)
            return raw.reshape(value["shape"])
        found = np.array(value)
        if found.dtype.kind == "O":  # JSON has null for what is no number
            found = np.array(value, np.float64)
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidInput(f"{name!r} is no tensor that can be compared: {error}.") from error
    if found.dtype.kind not in "biufU":
        raise InvalidInput(f"{name!r} is no tensor: it has other things than numbers or texts.")
    return found
