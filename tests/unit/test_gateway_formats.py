"""What requests say of the form of a text, and of tools: what is taken, what is refused and why."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from forebay.contract.errors import InvalidInput
from forebay.contract.formats import Format, FormatKind
from forebay.contract.generation import Message
from forebay.contract.rows import ChatRow
from forebay.contract.tools import Tool, ToolCall
from forebay.gateway.bodies import decode
from forebay.gateway.chats import ChatMessage, chat_of
from forebay.gateway.dialects.openai.chats import ChatRequest
from forebay.gateway.formats import ResponseFormat, format_of
from forebay.gateway.json_schemas import MAX_SCHEMAS, checked
from forebay.gateway.tools import (
    NO_PARAMETERS,
    call_id,
    choice_of,
    functions_of,
    tools_of,
)

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "description": "As on the door."},
        "age": {"type": "integer", "minimum": 0},
        "next": {"$ref": "#"},
    },
    "required": ["name", "age"],
    "additionalProperties": False,
}
TIDE: dict[str, Any] = {
    "type": "function",
    "function": {"name": "tide", "description": "Water.", "parameters": PERSON, "strict": True},
}
WIND: dict[str, Any] = {"type": "function", "function": {"name": "wind"}}

_format = msgspec.json.Decoder(ResponseFormat)
_chat = msgspec.json.Decoder(ChatRequest)


def format_asked(**given: Any) -> Format | None:
    return format_of(decode(_format, msgspec.json.encode(given)), within="input.")


def schema_asked(schema: Any) -> Format | None:
    return format_asked(type="json_schema", json_schema={"name": "it", "schema": schema})


def tools_asked(**given: Any) -> Any:
    body = {"model": "m", "messages": [{"role": "user", "content": "Hi"}], **given}
    request = decode(_chat, msgspec.json.encode(body))
    return tools_of(
        functions_of(request.tools or ()),
        choice_of(request.tool_choice),
        parallel=request.parallel_tool_calls,
    )


def refusal(ask: Callable[[], Any]) -> tuple[str | None, str]:
    with pytest.raises(InvalidInput) as caught:
        ask()
    return caught.value.param, caught.value.message


def test_a_format_is_told_as_the_worker_takes_it() -> None:
    assert format_asked(type="text") is None
    assert format_asked(type="json_object") == Format(FormatKind.OBJECT)
    assert format_asked(type="regex", regex="a+") == Format(FormatKind.REGEX, "a+")
    told = schema_asked(PERSON)
    assert told is not None
    assert told.kind is FormatKind.SCHEMA
    assert list(msgspec.json.decode(told.text)["properties"]) == ["name", "age", "next"], "in order"
    named = {"name": "it", "strict": True, "description": "d"}
    assert format_asked(type="json_schema", json_schema=named) == Format(FormatKind.OBJECT)


@pytest.mark.parametrize(
    ("given", "param"),
    [
        ({"type": "yaml"}, "input.response_format.type"),
        ({"type": "json_schema"}, "input.response_format.json_schema"),
        ({"type": "regex"}, "input.response_format.regex"),
        ({"type": "text", "regex": "a"}, "input.response_format.regex"),
        (
            {"type": "json_object", "json_schema": {"name": "x"}},
            "input.response_format.json_schema",
        ),
    ],
)
def test_a_format_that_is_none_is_refused_by_its_field(given: Any, param: str) -> None:
    assert refusal(lambda: format_asked(**given))[0] == param


@pytest.mark.parametrize(
    ("schema", "place"),
    [
        ({"not": {}}, "not"),
        ({"type": "array", "uniqueItems": True}, "uniqueItems"),
        ({"properties": {"a": {"if": {}}}}, "properties.a.if"),
        ({"anyOf": [{}, {"items": {"contains": {}}}]}, "anyOf[1].items.contains"),
        ({"$defs": {"d": {"nullable": True}}}, "$defs.d.nullable"),
        ({"additionalProperties": {"zebra": 1}}, "additionalProperties.zebra"),
        ({"x-guidance": {"lenient": True}}, "x-guidance"),
        ({"prefixItems": [{"patternProperties": {"a": 3}}]}, "prefixItems[0].patternProperties.a"),
        ({"items": [{}]}, "items"),
        ({"properties": []}, "properties"),
        ({"allOf": {}}, "allOf"),
        ({"minimum": True}, "minimum"),
        ({"exclusiveMaximum": "3"}, "exclusiveMaximum"),
        ({"properties": {"a": {"minimum": 10**19}}}, "properties.a.minimum"),
        ({"maximum": -(2**53) - 1}, "maximum"),
        ({"pattern": r"^[\x00-\x1f]{3}$"}, "pattern"),
        ({"pattern": r"^a[^\\]*$"}, "pattern"),
        ({"pattern": r'^[^"]*$'}, "pattern"),
        ({"pattern": r"^[^\p{L}\\]$"}, "pattern"),
        ({"patternProperties": {r"^[\x00-\x5b]$": {}}}, "patternProperties"),
    ],
)
def test_a_keyword_that_would_be_passed_over_is_refused_by_its_place(
    schema: Any, place: str
) -> None:
    param, message = refusal(lambda: checked(schema, param="s"))
    assert param == f"s.{place}"
    assert param in message


def test_bounds_and_patterns_that_are_followed_are_let_pass() -> None:
    checked({"minimum": -(2**53), "maximum": 2**53}, param="s")
    for pattern in (
        r"^[a-z\]]+$",
        r"^[^/]+$",
        r"^[]a]$",
        r"^\[[^\x00-\x1f\\]*\]$",
        r"^[\x00-\x7f]$",
        r"^[\n\t]$",
        r"^[\p{L} ]+$",
        r"^[^\p{L}\x00-\x1f]$",
        "(",
        "[",
    ):
        checked({"pattern": pattern}, param="s")


def test_remarks_are_let_pass_and_properties_may_have_any_name() -> None:
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "T",
        "x-order": 3,
        "properties": {"not": {"default": 3, "examples": [1]}, "if": True},
        "enum": [{"not": 1}],
    }
    assert msgspec.json.decode(checked(schema, param="s")) == schema


def test_a_schema_has_an_end() -> None:
    assert "65,536" in refusal(lambda: checked({"enum": ["x" * 70_000]}, param="s"))[1]
    many: dict[str, Any] = {"properties": {str(number): {} for number in range(MAX_SCHEMAS)}}
    assert "1,000 schemas" in refusal(lambda: checked(many, param="s"))[1]
    deep: dict[str, Any] = {}
    for _ in range(200):
        deep = {"items": deep}
    assert "levels" in refusal(lambda: checked(deep, param="s"))[1]


def test_tools_are_told_as_the_worker_takes_them() -> None:
    tools = tools_asked(tools=[TIDE, WIND])
    parameters = msgspec.json.encode(PERSON).decode()
    assert tools.tools == (Tool("tide", parameters, "Water."), Tool("wind", NO_PARAMETERS))
    assert (tools.required, tools.only, tools.parallel) == (False, None, True)
    named = {"type": "function", "function": {"name": "wind"}}
    assert tools_asked(tools=[TIDE, WIND], tool_choice=named).only == "wind"
    required = tools_asked(tools=[TIDE], tool_choice="required", parallel_tool_calls=False)
    assert (required.required, required.parallel) == (True, False)
    assert tools_asked(tools=[TIDE], tool_choice="none") is None
    assert tools_asked(tools=[], tool_choice="auto") is None


@pytest.mark.parametrize(
    ("given", "param"),
    [
        ({"tool_choice": "required"}, "tool_choice"),
        (
            {"tools": [TIDE], "tool_choice": {"type": "function", "function": {"name": "x"}}},
            "tool_choice",
        ),
        (
            {"tools": [TIDE], "tool_choice": {"type": "custom", "custom": {"name": "x"}}},
            "tool_choice",
        ),
        ({"tools": [{"type": "custom", "custom": {"name": "x"}}]}, "tools[0].type"),
        ({"tools": [TIDE, TIDE]}, "tools[1].function.name"),
        (
            {"tools": [{"type": "function", "function": {"name": "f", "parameters": {"a": 1}}}]},
            "tools[0].function.parameters.type",
        ),
        (
            {
                "tools": [
                    WIND,
                    {
                        "type": "function",
                        "function": {
                            "name": "f",
                            "parameters": {"type": "object", "properties": {"a": {"not": {}}}},
                        },
                    },
                ]
            },
            "tools[1].function.parameters.properties.a.not",
        ),
        (
            {"tools": [{"type": "function", "function": {"name": f"f{i}"}} for i in range(129)]},
            "tools",
        ),
    ],
)
def test_tools_that_are_none_are_refused_by_their_place(given: Any, param: str) -> None:
    assert refusal(lambda: tools_asked(**given))[0] == param


def _messages(*messages: Any) -> ChatRow:
    decoder = msgspec.json.Decoder(tuple[ChatMessage, ...])
    return chat_of(decode(decoder, msgspec.json.encode(messages), within="messages"))


def test_calls_and_their_results_are_messages_of_a_chat() -> None:
    call = {"id": "a1", "type": "function", "function": {"name": "tide", "arguments": '{"at": 3}'}}
    row = _messages(
        {"role": "user", "content": "How high?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "a1", "content": "4 m"},
    )
    assert row.messages[1:] == (
        Message("assistant", "", calls=(ToolCall("tide", '{"at": 3}', "a1"),)),
        Message("tool", "4 m", answers="a1"),
    )


@pytest.mark.parametrize(
    ("message", "param"),
    [
        ({"role": "tool", "content": "4 m"}, "messages[0].tool_call_id"),
        ({"role": "user", "content": "x", "tool_call_id": "a"}, "messages[0].tool_call_id"),
        (
            {
                "role": "user",
                "content": "x",
                "tool_calls": [{"id": "a", "function": {"name": "f", "arguments": "{}"}}],
            },
            "messages[0].tool_calls",
        ),
        (
            {
                "role": "assistant",
                "tool_calls": [{"id": "a", "function": {"name": "f", "arguments": "[1]"}}],
            },
            "messages[0].tool_calls[0].function.arguments",
        ),
        ({"role": "function", "content": "x", "name": "f"}, "messages[0].role"),
        ({"role": "assistant", "function_call": {"name": "f"}}, "messages[0].function_call"),
    ],
)
def test_a_message_of_calls_that_is_none_is_named(message: Any, param: str) -> None:
    assert refusal(lambda: _messages(message))[0] == param


def test_an_id_of_a_call_is_nine_letters_and_digits_and_always_the_same() -> None:
    ids = {call_id("p", row, index) for row in range(20) for index in range(20)}
    assert len(ids) == 400
    assert all(len(id_) == 9 and id_.isascii() and id_.isalnum() for id_ in ids)
    assert call_id("p", 1, 2) == call_id("p", 1, 2)
