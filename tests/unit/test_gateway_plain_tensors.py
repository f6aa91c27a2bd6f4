"""Tensors and images at the gateway: JSON to rows, rows to JSON, and what is refused."""

import base64
import math
import struct
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.contract.errors import ForebayError, InvalidInput, Unavailable
from forebay.contract.model import BackendName, ModelSpec
from forebay.contract.rows import (
    Classes,
    ImageRow,
    NamedTensor,
    Options,
    Output,
    Task,
    Tensors,
    TensorsRow,
    Value,
)
from forebay.contract.tensors import TensorSignature, TensorSpec
from forebay.gateway import tensor_rows
from forebay.gateway.dialects.oip.tasks import SIGNATURES, signature_of
from forebay.gateway.dialects.replicate.inputs import Asked, rows_of
from forebay.gateway.dialects.replicate.outputs import is_single, output_of
from forebay.gateway.tensors import Declared, Tensor, of_strings

FLOATS = TensorSpec("x", "FP32", (-1, 2))
TEXTS = TensorSpec("text", "BYTES", (-1,))
SUM = TensorSpec("sum", "FP32", (-1,))


def signature(*inputs: TensorSpec, batched: bool = True) -> TensorSignature:
    return TensorSignature(inputs, (SUM,), batched, tuple((1,) for _ in inputs))


def spec(task: Task) -> ModelSpec:
    return ModelSpec(task=task, backend=BackendName.ONNX, source="onnx:m.onnx", name="m")


def asked(given: Any, tensors: TensorSignature | None, task: Task = Task.TENSORS) -> Asked:
    return rows_of(spec(task), msgspec.Raw(msgspec.json.encode(given)), most=4, tensors=tensors)


def floats(*values: float) -> bytes:
    return struct.pack(f"<{len(values)}f", *values)


def told(given: Any, *outputs: Output) -> Any:
    raw = msgspec.Raw(msgspec.json.encode(given))
    return msgspec.json.decode(msgspec.json.encode(output_of(outputs, raw, single=True)))


def test_each_row_of_nested_lists_goes_its_own_way() -> None:
    both = {"x": [[1, 2.5], [3, 4]], "text": ["a", "ü"]}
    assert asked(both, signature(FLOATS, TEXTS)).rows == (
        TensorsRow(
            (
                NamedTensor("x", "FP32", (1, 2), floats(1, 2.5)),
                NamedTensor("text", "BYTES", (1,), b"\x01\0\0\0a"),
            )
        ),
        TensorsRow(
            (
                NamedTensor("x", "FP32", (1, 2), floats(3, 4)),
                NamedTensor("text", "BYTES", (1,), b"\x02\0\0\0\xc3\xbc"),
            )
        ),
    )


def test_where_there_is_no_axis_of_rows_a_request_is_one_row_however_long() -> None:
    (row,) = asked({"x": [[0, 0]] * 9}, signature(FLOATS, batched=False)).rows
    assert isinstance(row, TensorsRow)
    assert row.tensors[0].shape == (9, 2)
    with pytest.raises(InvalidInput, match="has 9 rows; one request takes 4"):
        asked({"x": [[0, 0]] * 9}, signature(FLOATS))


def test_an_object_says_its_datatype_and_shape() -> None:
    data = base64.b64encode(floats(1, 2)).decode()
    given = {"x": {"datatype": "FP32", "shape": [1, 2], "data": data}}
    (row,) = asked(given, signature(FLOATS)).rows
    assert row == TensorsRow((NamedTensor("x", "FP32", (1, 2), floats(1, 2)),))


@pytest.mark.parametrize(
    ("given", "message", "param"),
    [
        ({}, "The input 'x' is missing: FP32 of the shape [-1, 2]", "input.x"),
        ({"x": [[1, 2]], "z": 1}, "There is no input 'z'. There is 'x'.", "input.z"),
        ({"x": [1, 2]}, "input.x[0]: expected `array`, got `int`", "input.x[0]"),
        ({"x": [["a", 2]]}, "input.x[0][0]: expected `float`, got `str`", "input.x[0][0]"),
        ({"x": [[1, 2], [3]]}, "input.x has lists of different lengths", "input.x"),
        ({"x": [[1, 2, 3]]}, "x must be of the shape [-1, 2]", "x"),
        ({"x": [[1e300, 2]]}, "x holds a number that is out of the range of FP32", "x"),
        ({"x": []}, "x must be of the shape [-1, 2]", "x"),
        (
            {"x": {"datatype": "FP32", "shape": [1, 2], "data": "!"}},
            "input.x.data is no base64",
            "input.x.data",
        ),
        (
            {"x": {"datatype": "FP32", "shape": [1, 2], "data": "AAAA"}},
            "which is 8 bytes, and 3 bytes came",
            "x",
        ),
        (
            {"x": {"datatype": "FP64", "shape": [1, 2], "data": ""}},
            "x must be of the datatype FP32, not 'FP64'",
            "x",
        ),
    ],
)
def test_what_the_model_does_not_take_is_refused_by_the_inputs_name(
    given: Any, message: str, param: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        asked(given, signature(FLOATS))
    assert message in caught.value.message
    assert caught.value.param == param


def test_inputs_of_different_numbers_of_rows_are_refused() -> None:
    with pytest.raises(InvalidInput, match="text has 2 rows and x 1"):
        asked({"x": [[1, 2]], "text": ["a", "b"]}, signature(FLOATS, TEXTS))


def test_a_datatype_that_lists_can_not_tell_is_an_object() -> None:
    half = signature(TensorSpec("x", "BF16", (-1,)))
    with pytest.raises(InvalidInput, match="BF16, which lists can't tell"):
        asked({"x": [1.0]}, half)
    answer = Tensors((NamedTensor("y", "BF16", (1,), b"\x80\x3f"),))
    assert told({"x": []}, answer) == {"y": {"datatype": "BF16", "shape": [1], "data": "gD8="}}


def test_infinite_numbers_are_an_object_because_json_has_only_null_for_them() -> None:
    row = Tensors((NamedTensor("y", "FP32", (2,), floats(-math.inf, 1.0)),))
    data = base64.b64encode(floats(-math.inf, 1.0)).decode()
    shown = told({"x": []}, row)["y"]
    assert (shown["datatype"], shown["data"]) == ("FP32", data)


def test_a_gateway_that_knows_no_artifact_says_so() -> None:
    with pytest.raises(Unavailable, match="run `forebay models build m`"):
        asked({"x": [[1, 2]]}, None)
    with pytest.raises(Unavailable, match="can't tell which tensors 'm' takes"):
        signature_of(spec(Task.TENSORS), None)


def test_rows_are_told_as_one_tensor_in_the_form_that_was_sent() -> None:
    rows = [Tensors((NamedTensor("y", "FP32", (1, 2), floats(n, n + 0.5)),)) for n in (1, 2)]
    assert told({"x": []}, *rows) == {"y": [[1.0, 1.5], [2.0, 2.5]]}
    data = base64.b64encode(floats(1, 1.5, 2, 2.5)).decode()
    assert told({"x": {}}, *rows) == {"y": {"datatype": "FP32", "shape": [2, 2], "data": data}}
    scalar = Tensors((NamedTensor("y", "INT64", (), struct.pack("<q", -7)),))
    assert told({"x": []}, scalar) == {"y": -7}
    empty = Tensors((NamedTensor("y", "FP32", (0, 3), b""),))
    assert told({"x": []}, empty) == {"y": []}
    texts = Tensors((NamedTensor("y", "BYTES", (1,), b"\x01\0\0\0\xff"),))
    assert told({"x": []}, texts)["y"]["datatype"] == "BYTES"
    assert is_single(Task.TENSORS, {"text": [1]})


def test_rows_that_differ_in_shape_are_no_tensor() -> None:
    rows = [Tensors((NamedTensor("y", "FP32", (1, n), bytes(4 * n)),)) for n in (1, 2)]
    with pytest.raises(ForebayError, match=r"rows of y differ in shape, \[1\] and \[2\]"):
        tensor_rows.tensors_of(rows)
    with pytest.raises(ForebayError, match="no set of tensors"):
        tensor_rows.tensors_of([rows[0], Value(b"1")])


@given(st.lists(st.tuples(st.binary(max_size=9), st.binary(max_size=9)), min_size=1, max_size=9))
def test_what_is_cut_into_rows_and_put_together_is_the_same(items: list[Any]) -> None:
    flat = [piece for pair in items for piece in pair]
    whole = of_strings(Declared("t", "BYTES", (len(items), 2)), flat)
    pairs = signature(TensorSpec("t", "BYTES", (-1, 2)))
    cut = tensor_rows.rows_of(pairs, {"t": whole})
    assert len(cut) == len(items)
    (again,) = tensor_rows.tensors_of([Tensors(row.tensors) for row in cut])
    assert (again.shape, list(again.strings)) == (whole.shape, list(whole.strings))


def test_a_column_does_for_a_list() -> None:
    tensor = Tensor("text", "BYTES", (2, 1), [b"a", b"b"])
    first, _ = tensor_rows.rows_of(signature(TEXTS), {"text": tensor})
    assert first.tensors[0].shape == (1,)


PIXELS = b"\x89PNG\r\n\x1a\n\xff"
ENCODED = base64.b64encode(PIXELS).decode()


@pytest.mark.parametrize(
    "text",
    [ENCODED, f"data:image/png;base64,{ENCODED}", f"DATA:;BASE64,{ENCODED[:6]}\n{ENCODED[6:]}"],
)
def test_an_image_is_base64_alone_or_in_a_url(text: str) -> None:
    expected = Asked((ImageRow(PIXELS),), single=True, options=Options(top_k=5))
    assert asked({"image": text}, None, Task.IMAGE_CLASSIFICATION) == expected
    several = asked({"image": [text], "top_k": None}, None, Task.IMAGE_CLASSIFICATION)
    assert several == Asked((ImageRow(PIXELS),), single=False, options=Options(top_k=0))
    assert not is_single(Task.IMAGE_CLASSIFICATION, {"image": [text]})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("http://example.org/a.png", "here an image is a data: URL"),
        ("HTTPS://example.org/a.png", "is an address"),
        ("data:image/png,raw", "must be base64 where it is a data: URL"),
        ("data:image/png;base64,", "must not be empty"),
        ("a.png", "neither a data: URL nor base64"),
        ("", "must not be empty"),
    ],
)
def test_what_is_no_image_in_json_is_refused(text: str, message: str) -> None:
    for sent, param in ((text, "input.image"), ([ENCODED, text], "input.image[1]")):
        with pytest.raises(InvalidInput, match=message) as caught:
            asked({"image": sent}, None, Task.IMAGE_CLASSIFICATION)
        assert caught.value.param == param


def test_tensors_of_images_are_files_or_base64() -> None:
    given = of_strings(Declared("image", "BYTES", (2,)), [PIXELS, ENCODED.encode()])
    rows = SIGNATURES[Task.IMAGE_CLASSIFICATION].rows({"image": given})
    assert list(rows) == [ImageRow(PIXELS)] * 2


def test_labels_of_an_image_are_always_a_list() -> None:
    one = Classes(("lake",), floats(0.5), 0)
    given = {"image": [ENCODED, ENCODED]}
    assert told(given, one, one) == [[{"label": "lake", "score": 0.5}]] * 2
