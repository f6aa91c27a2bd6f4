"""Tensors of the Open Inference Protocol: every datatype there and back, and what is refused."""

import math
import struct
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.contract.errors import InvalidInput
from forebay.contract.rows import Task
from forebay.contract.tensors import BYTES, TensorSpec
from forebay.gateway.dialects.oip.tasks import SIGNATURES
from forebay.gateway.tensors import (
    DATATYPES,
    Declared,
    Tensor,
    check_declared,
    fits,
    of_numbers,
    of_raw,
    of_strings,
)

NUMBERS: dict[str, tuple[Any, ...]] = {
    "BOOL": (True, False),
    "INT8": (-128, 127),
    "INT16": (-(2**15), 2**15 - 1),
    "INT32": (-(2**31), 2**31 - 1),
    "INT64": (-(2**63), 2**63 - 1),
    "UINT8": (0, 255),
    "UINT16": (0, 2**16 - 1),
    "UINT32": (0, 2**32 - 1),
    "UINT64": (0, 2**64 - 1),
    "FP16": (0.5, -2.0),
    "FP32": (0.5, -(2.0**100)),
    "FP64": (0.1, 1e300),
}


def declared(datatype: str, *shape: int) -> Declared:
    return Declared("x", datatype, shape)


@pytest.mark.parametrize("datatype", NUMBERS)
def test_numbers_are_the_same_as_their_bytes(datatype: str) -> None:
    numbers = NUMBERS[datatype]
    made = of_numbers(declared(datatype, 2), numbers)
    assert len(made.raw) == 2 * DATATYPES[datatype].size
    assert of_raw(declared(datatype, 2), made.raw).numbers == numbers


def test_all_datatypes_but_two_can_be_told_in_numbers() -> None:
    assert set(DATATYPES) - set(NUMBERS) == {"BF16", BYTES}
    raw = of_raw(declared("BF16", 2), b"\x80\x3f\x00\x40")
    assert raw.raw == b"\x80\x3f\x00\x40"
    with pytest.raises(InvalidInput, match="as binary data"):
        _ = raw.numbers
    with pytest.raises(TypeError):
        _ = raw.strings


@pytest.mark.parametrize(
    ("datatype", "numbers"),
    [("INT8", [128]), ("UINT8", [-1]), ("FP32", [1e300]), ("FP16", [70_000.0])],
)
def test_numbers_out_of_range_are_refused(datatype: str, numbers: Sequence[Any]) -> None:
    with pytest.raises(InvalidInput, match=f"out of the range of {datatype}"):
        of_numbers(declared(datatype, 1), numbers)


@given(st.lists(st.binary(max_size=40), max_size=20))
def test_strings_are_the_same_as_their_bytes(strings: list[bytes]) -> None:
    made = of_strings(declared(BYTES, len(strings)), strings)
    again = of_raw(declared(BYTES, len(strings)), made.raw)
    assert list(again.strings) == strings


@given(st.binary(max_size=60), st.integers(0, 8))
def test_bytes_that_came_are_a_tensor_or_a_clear_error(raw: bytes, count: int) -> None:
    try:
        made = of_raw(declared(BYTES, count), raw)
    except InvalidInput:
        return
    assert (len(made.strings), made.raw) == (count, raw)


@given(st.lists(st.integers(0, 2**63 - 1), min_size=1, max_size=8), st.sampled_from([*DATATYPES]))
def test_any_shape_that_is_declared_is_compared_and_never_allocated(
    shape: list[int], datatype: str
) -> None:
    raw = struct.pack("<I4s", 4, b"abcd")
    size = DATATYPES[datatype].size
    right = math.prod(shape) == (len(raw) / size if size else 1)
    if right:
        assert of_raw(declared(datatype, *shape), raw).raw == raw
    else:
        with pytest.raises(InvalidInput):
            of_raw(declared(datatype, *shape), raw)


@pytest.mark.parametrize(
    ("shape", "wanted", "right"),
    [
        ((3,), (-1,), True),
        ((3, 1), (-1,), True),
        ((3, 2), (-1,), False),
        ((), (-1,), False),
        ((3, 4), (-1, 4), True),
        ((3, 5), (-1, 4), False),
        ((3, 1, 1), (-1,), False),
    ],
)
def test_shapes_fit_dimension_by_dimension(
    shape: tuple[int, ...], wanted: tuple[int, ...], right: bool
) -> None:
    assert fits(shape, wanted) is right


def test_another_datatype_is_refused_by_name() -> None:
    with pytest.raises(InvalidInput, match="x must be of the datatype INT64, not 'FP32'"):
        check_declared(declared("FP32", 1), TensorSpec("x", "INT64", (-1,)), most_rows=5)


def test_each_task_has_a_signature_but_tensors_whose_every_model_has_its_own() -> None:
    assert set(SIGNATURES) == set(Task) - {Task.TENSORS}


@pytest.mark.parametrize("task", SIGNATURES)
def test_each_task_has_a_signature_whose_first_dimension_is_rows(task: Task) -> None:
    signature = SIGNATURES[task]
    specs = [*signature.inputs, *signature.outputs(8)]
    assert all(spec.datatype in DATATYPES and spec.shape[0] == -1 for spec in specs)
    assert signature.names


def test_elements_of_another_count_than_declared_are_refused() -> None:
    with pytest.raises(InvalidInput, match="2 elements, and 1 came"):
        of_strings(declared(BYTES, 2), [b"a"])
    assert Tensor("x", BYTES, (1,), [b"a"]).raw == b"\x01\x00\x00\x00a"
