"""The OpenAI dialect's translation: input to rows, outputs to a body."""

import base64
import struct

import msgspec
import pytest

from forebay.contract.errors import ForebayError, InvalidInput
from forebay.contract.rows import Embedding, TextRow, TokensRow, Value
from forebay.gateway.bodies import decode
from forebay.gateway.dialects.openai.embeddings import EmbeddingsRequest, Input, render, rows_of

request = msgspec.json.Decoder(EmbeddingsRequest)


@pytest.mark.parametrize(
    ("given", "rows"),
    [
        ("hello", (TextRow("hello"),)),
        (("a", "b"), (TextRow("a"), TextRow("b"))),
        ((1, 2, 3), (TokensRow((1, 2, 3)),)),
        (((1, 2), (3,)), (TokensRow((1, 2)), TokensRow((3,)))),
        ((" ",), (TextRow(" "),)),
    ],
)
def test_each_kind_of_input_becomes_rows(given: Input, rows: tuple[object, ...]) -> None:
    assert rows_of(given, most=10) == rows


@pytest.mark.parametrize(
    ("given", "param"),
    [
        ("", "input"),
        ((), "input"),
        (("a", ""), "input[1]"),
        (((1,), ()), "input[1]"),
    ],
)
def test_nothing_is_no_input(given: Input, param: str) -> None:
    with pytest.raises(InvalidInput, match="must not be empty") as caught:
        rows_of(given, most=10)
    assert caught.value.param == param


@pytest.mark.parametrize("given", [("a", 1), (1, "a"), ("a", (1,)), ((1,), 1)])
def test_kinds_can_not_be_mixed(given: Input) -> None:
    with pytest.raises(InvalidInput, match="not a mixture") as caught:
        rows_of(given, most=10)
    assert caught.value.param == "input"


def test_as_many_inputs_as_the_bound_are_taken_and_no_more() -> None:
    assert len(rows_of(("a",) * 10, most=10)) == 10
    with pytest.raises(InvalidInput, match="11 items; one request takes 10"):
        rows_of(("a",) * 11, most=10)


def test_the_bound_on_inputs_does_not_count_the_tokens_of_one_text() -> None:
    assert len(rows_of(tuple(range(1, 100)), most=10)) == 1


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b'{"model": "m"}', "input"),
        (b'{"input": "a"}', "model"),
        (b'{"model": "m", "input": 3}', "input"),
        (b'{"model": "m", "input": null}', "input"),
        (b'{"model": "m", "input": {"text": "a"}}', "input"),
        (b'{"model": "m", "input": [true]}', "input[0]"),
        (b'{"model": "m", "input": [1.5]}', "input[0]"),
        (b'{"model": "m", "input": [-1]}', "input[0]"),
        (b'{"model": "m", "input": [[1, 99999999999999999999]]}', "input[0][1]"),
        (b'{"model": "m", "input": [["a"]]}', "input[0][0]"),
        (b'{"model": "m", "input": "a", "encoding_format": "hex"}', "encoding_format"),
        (b'{"model": "m", "input": "a", "dimensions": 0}', "dimensions"),
        (b'{"model": "m", "input": "a", "truncate": 1}', "truncate"),
        (b'{"model": "m", "input": "a", "temperature": 1}', "temperature"),
    ],
)
def test_a_parameter_that_is_wrong_or_unknown_is_named(body: bytes, param: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        decode(request, body)
    assert caught.value.param == param


def test_optional_parameters_may_be_null() -> None:
    body = b'{"model":"m","input":"a","encoding_format":null,"dimensions":null,"user":null}'
    assert decode(request, body) == EmbeddingsRequest(input="a", model="m")


FLOATS = (0.1, -1.5, 3.4028235e38, 1.17549435e-38, 1e-45, 0.0)
VECTOR = struct.pack("<6f", *FLOATS)


def rendered(*, base64: bool, dimensions: int | None = None) -> dict[str, object]:
    body = render(
        [Embedding(VECTOR, 4), Embedding(VECTOR[::-1][:24], 5)],
        model="m",
        base64=base64,
        dimensions=dimensions,
    )
    told: dict[str, object] = msgspec.json.decode(body)
    return told


def test_the_answer_has_the_shape_that_openai_documents() -> None:
    told = rendered(base64=True)
    assert told["object"] == "list"
    assert told["model"] == "m"
    assert told["usage"] == {"prompt_tokens": 9, "total_tokens": 9}
    data = told["data"]
    assert isinstance(data, list)
    assert [(item["index"], item["object"]) for item in data] == [
        (0, "embedding"),
        (1, "embedding"),
    ]


def test_base64_is_the_vectors_own_bytes() -> None:
    data = rendered(base64=True)["data"]
    assert isinstance(data, list)
    assert base64.b64decode(data[0]["embedding"]) == VECTOR


def test_numbers_are_the_very_float32_values() -> None:
    data = rendered(base64=False)["data"]
    assert isinstance(data, list)
    assert struct.pack("<6f", *data[0]["embedding"]) == VECTOR


def test_dimensions_may_be_asked_for_if_they_are_the_models_own() -> None:
    rendered(base64=True, dimensions=6)
    with pytest.raises(InvalidInput, match="makes 6 dimensions, and can't make 3") as caught:
        rendered(base64=True, dimensions=3)
    assert caught.value.param == "dimensions"


def test_an_output_that_is_no_embedding_is_not_passed_off_as_one() -> None:
    with pytest.raises(ForebayError, match="no embedding"):
        render([Value(b"1")], model="m", base64=True, dimensions=None)
