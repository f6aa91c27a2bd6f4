"""Inputs that a source has been run on, with what it gave: kept as one `.npz`, nothing pickled."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

SIZES = (32, 48, 64, 8, 16, 224, 128, 256)
"""What dynamic axes behind the first are tried with, all the same at once."""

ROWS = 2
"""What a dynamic first axis is tried with: a 1 could be taken for a constant."""

DTYPES: dict[str, Any] = {
    "BOOL": np.bool_,
    "INT8": np.int8,
    "INT16": np.int16,
    "INT32": np.int32,
    "INT64": np.int64,
    "UINT8": np.uint8,
    "UINT16": np.uint16,
    "UINT32": np.uint32,
    "UINT64": np.uint64,
    "FP16": np.float16,
    "FP32": np.float32,
    "FP64": np.float64,
}


class Case(msgspec.Struct, frozen=True):
    """One run of the source.

    Attributes:
        inputs: by name.
        outputs: likewise.
    """

    inputs: Mapping[str, Array]
    outputs: Mapping[str, Array]


def values(datatype: str, shape: Sequence[int], *, seed: int) -> Array:
    """Values to run a source on.

    Floats are of the normal distribution. Whole numbers are 1, which is a place in any table;
    with another seed than 0 they are 0 or 1. Texts are the letter a.
    """
    random = np.random.default_rng(seed)
    if datatype == "BYTES":
        return np.full(tuple(shape), b"a")
    if datatype.startswith("FP"):
        return random.standard_normal(tuple(shape)).astype(DTYPES[datatype])
    if not seed:
        return np.ones(tuple(shape), DTYPES[datatype])
    return random.integers(0, 2, tuple(shape)).astype(DTYPES[datatype])


def save(cases: Sequence[Case], path: Path) -> None:
    """Write cases to a file."""
    arrays: dict[str, Any] = {
        f"{index}/{side}/{name}": value
        for index, case in enumerate(cases)
        for side, several in (("in", case.inputs), ("out", case.outputs))
        for name, value in several.items()
    }
    np.savez(path, **arrays)


def load(path: Path) -> list[Case]:
    """Read what `save` has written; bytes become texts, as ONNX Runtime takes them."""
    found: dict[int, tuple[dict[str, Array], dict[str, Array]]] = {}
    with np.load(path, allow_pickle=False) as file:
        for key in file.files:
            index, side, name = key.split("/", 2)
            value = file[key]
            if value.dtype.kind == "S":
                value = np.char.decode(value, "utf-8", "replace").astype(np.object_)
            found.setdefault(int(index), ({}, {}))[side == "out"][name] = value
    return [Case(*found[index]) for index in sorted(found)]


def difference(expected: Array | None, got: Array) -> float:
    """The largest difference, in units of the largest value; infinite of what can't be compared."""
    if expected is None or expected.shape != got.shape:
        return float("inf")
    if expected.dtype.kind == "O" or got.dtype.kind == "O":
        return 0.0 if expected.tolist() == got.tolist() else float("inf")
    if expected.dtype.kind != "f":
        return 0.0 if bool((expected == got).all()) else float("inf")
    missing = np.isnan(expected)
    if not bool((missing == np.isnan(got)).all()):
        return float("inf")
    one, other = (np.where(missing, 0.0, side.astype(np.float64)) for side in (expected, got))
    endless = np.isinf(one)
    if not bool((one[endless] == other[endless]).all()):
        return float("inf")
    one, other = (np.where(endless, 0.0, side) for side in (one, other))
    loose = 10 if expected.dtype == np.float16 else 1
    most = float(np.abs(one).max(initial=0.0)) or 1.0
    return float(np.abs(one - other).max(initial=0.0)) / most / loose
