"""Decoding JSON bodies, and saying what is wrong with one."""

import msgspec
import pytest

from forebay.contract.errors import InvalidInput
from forebay.contract.validation import explain
from forebay.gateway.bodies import MAX_DEPTH, check_depth, decode
from forebay.gateway.errors import MalformedBody


class Inner(msgspec.Struct, forbid_unknown_fields=True):
    size: int


class Body(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    items: list[int | list[int]] = []
    inner: Inner | None = None


body = msgspec.json.Decoder(Body)
anything = msgspec.json.Decoder()


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"nonsense",
        b'{"name": "x"} and more',
        b'{"name": "\xff"}',
        b'{"name": "\\ud83d',
        b'{"name": "\\ud83d\\u',
        b'{"name": "\\\\ud83d is half of a pair',
        b'\xef\xbb\xbf{"name": "x"}',
    ],
)
def test_a_body_that_is_not_json_is_called_malformed(text: bytes) -> None:
    with pytest.raises(MalformedBody, match="not JSON"):
        decode(body, text)


@pytest.mark.parametrize(
    "text",
    [
        rb"\ud800",
        rb"\ud800x",
        rb"\ud800\n",
        rb"\ud800\u0041",
        rb"\ud800\ud800",
        rb"\udc00",
        rb"\udc00\ud800",
        rb"\\\ud800",
    ],
)
def test_half_of_a_surrogate_pair_is_called_that(text: bytes) -> None:
    for json in (b'{"name": "%s"}', b'{"name": "x", "%s": 1}'):
        with pytest.raises(MalformedBody, match="unpaired surrogate"):
            decode(body, json % text)
    assert decode(body, rb'{"name": "\ud83d\ude00 \\ud800"}').name == "😀 \\ud800"


@pytest.mark.parametrize(
    "text",
    [
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"name": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"items": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"colour": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    ],
)
def test_a_body_that_nests_without_end_is_refused_for_that(text: bytes) -> None:
    for decoder in (body, anything):
        with pytest.raises(MalformedBody, match="nests too deeply"):
            decode(decoder, text)


def test_a_number_of_a_million_digits_is_refused() -> None:
    with pytest.raises((MalformedBody, InvalidInput)):
        decode(anything, b"1" * 1_000_000)


@pytest.mark.parametrize(
    ("text", "param", "message"),
    [
        (b'{"name": 1}', "name", "name: expected `str`, got `int`."),
        (b'{"name": "x", "items": [1, "a"]}', "items[1]", "items[1]: expected"),
        (b'{"name": "x", "items": [[1, 2.5]]}', "items[0][1]", "items[0][1]: expected `int`"),
        (b'{"name": "x", "inner": {"size": null}}', "inner.size", "inner.size: expected"),
        (b'{"name": "x", "inner": {}}', "inner.size", "Missing parameter: 'inner.size'."),
        (b'{"name": "x", "inner": {"size": 1, "a": 2}}', "inner.a", "Unknown parameter: 'inner.a'"),
        (b'{"name": "x", "colour": 1}', "colour", "Unknown parameter: 'colour'."),
        (b"{}", "name", "Missing parameter: 'name'."),
    ],
)
def test_a_wrong_field_is_named(text: bytes, param: str, message: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        decode(body, text)
    assert caught.value.param == param
    assert caught.value.message.startswith(message)


def test_a_field_inside_a_part_of_a_body_is_named_from_the_top() -> None:
    with pytest.raises(InvalidInput) as caught:
        decode(body, b'{"name": 1}', within="input")
    assert caught.value.param == "input.name"


def test_the_part_itself_is_named_if_it_is_of_the_wrong_type() -> None:
    with pytest.raises(InvalidInput) as caught:
        decode(body, b"3", within="input")
    assert caught.value.param == "input"


def test_a_body_of_the_wrong_type_is_said_to_be_so() -> None:
    with pytest.raises(InvalidInput, match="wrong shape: expected `object`, got `array`"):
        decode(body, b"[]")


def test_a_message_without_a_place_is_passed_on() -> None:
    assert explain("Something else").message == "The body is of the wrong shape: something else."


def nested(levels: int) -> object:
    value: object = 1
    for level in range(levels):
        value = [value] if level % 2 else {"a": value}
    return value


def test_a_value_may_nest_up_to_the_bound() -> None:
    check_depth(nested(MAX_DEPTH - 1), param="value")


def test_a_value_that_nests_beyond_the_bound_is_refused() -> None:
    with pytest.raises(InvalidInput, match="value nests more than"):
        check_depth(nested(MAX_DEPTH), param="value")
