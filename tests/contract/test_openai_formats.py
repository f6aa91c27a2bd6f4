"""The unmodified `openai` client: structured output and tools, of a model with random weights.

Nothing but the grammar makes such a model write what is asked for.
"""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from typing import Any, Literal

import httpx
import openai
import pytest
from openai.types.chat import ChatCompletionMessageToolCall
from pydantic import BaseModel, ConfigDict, Field

from forebay.lanes.keys import Keys
from forebay.runtime.settings import Settings
from tests.fixtures.calling import Caller
from tests.fixtures.events import all_events
from tests.fixtures.gateway import Gateway, running_gateway
from tests.fixtures.generating import MODEL, PARROT, generating
from tests.fixtures.stack import ROOT
from tests.integration.test_readme import BLOCK

ASKED: list[Any] = [{"role": "user", "content": "Who is on board?"}]


class Person(BaseModel):
    """Somebody on board."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(max_length=12)
    age: int = Field(ge=0, le=150)
    kind: Literal["crew", "guest"]
    known: list["Person"] = Field(max_length=0)


class Tide(BaseModel):
    """Height of the water."""

    at: Literal["Whitby", "Blyth"]
    hours: int = Field(ge=0, le=23)


TIDE = openai.pydantic_function_tool(Tide)
NOW: Any = {
    "type": "function",
    "function": {"name": "now", "description": "The time.", "parameters": {}, "strict": True},
}
ONE: Any = {
    "tools": [TIDE, NOW],
    "tool_choice": {"type": "function", "function": {"name": "Tide"}},
    "parallel_tool_calls": False,
}


def called(events: list[Any]) -> list[Any]:
    """Pieces of calls in events."""
    return [
        piece
        for event in events
        if event.data != "[DONE]"
        for choice in json.loads(event.data)["choices"]
        for piece in choice["delta"].get("tool_calls", ())
    ]


LOOSE: dict[str, Any] = {"model": MODEL, "messages": ASKED, "max_tokens": 200, "seed": 3}


@pytest.fixture
def settings(redis_url: str, key_prefix: str) -> Settings:
    return Settings(redis_url=redis_url, key_prefix=key_prefix)


@pytest.fixture
async def gateway(
    settings: Settings, redis_url: str, keys: Keys, caller: Caller
) -> AsyncIterator[Gateway]:
    generator = caller.generator()
    async with (
        running_gateway(settings, catalog=PARROT) as running,
        generating(redis_url, keys, generator),
    ):
        yield running


@pytest.fixture
async def client(gateway: Gateway) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(
        base_url=f"{gateway.url}/v1", api_key="none", max_retries=0, timeout=60
    ) as client:
        yield client


async def test_an_answer_is_parsed_into_the_type_that_was_asked_for(
    client: openai.AsyncOpenAI,
) -> None:
    told = await client.chat.completions.parse(**LOOSE, response_format=Person, n=2)
    for choice in told.choices:
        assert choice.finish_reason == "stop"
        assert isinstance(choice.message.parsed, Person)


async def test_an_answer_of_some_type_is_parsed_as_it_is_streamed(
    client: openai.AsyncOpenAI,
) -> None:
    async with client.chat.completions.stream(**LOOSE, response_format=Person) as stream:
        kinds = [event.type async for event in stream]
        final = await stream.get_final_completion()
    assert "content.delta" in kinds
    assert "content.done" in kinds
    assert isinstance(final.choices[0].message.parsed, Person)


async def test_an_answer_may_be_any_object_or_match_a_pattern(client: openai.AsyncOpenAI) -> None:
    told = await client.chat.completions.create(
        **{**LOOSE, "max_tokens": 20}, response_format={"type": "json_object"}
    )
    assert (told.choices[0].message.content or "").startswith("{")
    told = await client.completions.create(
        model=MODEL,
        prompt="On board:",
        max_tokens=20,
        extra_body={"response_format": {"type": "regex", "regex": "(ab|c){2}"}},
    )
    assert told.choices[0].text in ("abab", "abc", "cab", "cc")


async def test_a_text_that_has_no_room_for_its_form_says_so(client: openai.AsyncOpenAI) -> None:
    with pytest.raises(openai.LengthFinishReasonError):
        await client.chat.completions.parse(**{**LOOSE, "max_tokens": 4}, response_format=Person)


async def test_a_tool_is_called_and_its_result_is_a_message_of_the_next_turn(
    client: openai.AsyncOpenAI,
) -> None:
    told = await client.chat.completions.parse(**LOOSE, **ONE)
    (choice,) = told.choices
    assert choice.finish_reason == "tool_calls"
    assert choice.message.content is None
    assert choice.message.tool_calls is not None
    (call,) = choice.message.tool_calls
    assert (call.type, call.function.name) == ("function", "Tide")
    assert isinstance(call.function.parsed_arguments, Tide)
    answered: list[Any] = [
        *ASKED,
        choice.message,
        {"role": "tool", "tool_call_id": call.id, "content": "4 m"},
    ]
    again = await client.chat.completions.create(
        **{**LOOSE, "messages": answered, "max_tokens": 4}, tools=[TIDE], tool_choice="none"
    )
    assert again.usage is not None
    assert told.usage is not None
    assert again.usage.prompt_tokens > 20
    assert again.choices[0].message.tool_calls is None


async def test_calls_are_streamed_as_they_grow(
    client: openai.AsyncOpenAI, gateway: Gateway
) -> None:
    whole = await client.chat.completions.create(**LOOSE, **ONE)
    async with client.chat.completions.stream(**LOOSE, **ONE) as stream:
        kinds = [event.type async for event in stream]
        final = await stream.get_final_completion()
    assert kinds.count("tool_calls.function.arguments.delta") > 3
    assert "tool_calls.function.arguments.done" in kinds
    (choice,) = final.choices
    assert choice.finish_reason == "tool_calls"
    assert choice.message.tool_calls is not None
    assert whole.choices[0].message.tool_calls is not None
    (streamed,), (at_once,) = choice.message.tool_calls, whole.choices[0].message.tool_calls
    assert isinstance(at_once, ChatCompletionMessageToolCall)
    assert streamed.function.arguments == at_once.function.arguments
    assert isinstance(streamed.function.parsed_arguments, Tide)


async def test_a_model_that_must_call_a_tool_may_choose_and_call_several(
    client: openai.AsyncOpenAI,
) -> None:
    told = await client.chat.completions.create(
        **{**LOOSE, "max_tokens": 300},
        tools=[NOW, TIDE],
        tool_choice="required",
        n=4,
    )
    ids = set[str]()
    for choice in told.choices:
        assert choice.message.tool_calls
        for call in choice.message.tool_calls:
            assert isinstance(call, ChatCompletionMessageToolCall)
            assert call.function.name in ("now", "Tide")
            ids.add(call.id)
        if choice.finish_reason == "tool_calls":
            assert isinstance(json.loads(call.function.arguments), dict)
    assert len(ids) == sum(len(choice.message.tool_calls or ()) for choice in told.choices)


async def test_a_stream_of_calls_that_is_resumed_goes_on_with_the_same_call(
    gateway: Gateway,
) -> None:
    body = {**LOOSE, **ONE, "stream": True}

    async def told(**headers: str) -> list[Any]:
        async with httpx.AsyncClient(base_url=gateway.url, timeout=60) as web:
            return await all_events(web, "POST", "/v1/chat/completions", json=body, headers=headers)

    whole = await told(**{"idempotency-key": "tide"})
    middle = len(whole) // 2
    rest = await told(**{"idempotency-key": "tide", "last-event-id": whole[middle].id})
    assert called(rest) == called(whole[middle + 1 :])
    assert 0 < len(called(rest)) < len(called(whole))


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        (
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {
                        "name": "x",
                        "schema": {"properties": {"a": {"uniqueItems": True}}},
                    },
                }
            },
            "response_format.json_schema.schema.properties.a.uniqueItems",
        ),
        (
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "x", "schema": {"type": "string", "pattern": "("}},
                }
            },
            "response_format",
        ),
        (
            {
                "tools": [
                    NOW,
                    {
                        "type": "function",
                        "function": {
                            "name": "f",
                            "parameters": {
                                "type": "object",
                                "properties": {"a": {"type": "string", "format": "zebra"}},
                            },
                        },
                    },
                ]
            },
            "tools[1].function.parameters",
        ),
        ({"tools": [NOW], "tool_choice": "required", "ignore_eos": True}, "ignore_eos"),
        ({"response_format": {"type": "json_object"}, "ignore_eos": True}, "ignore_eos"),
    ],
)
async def test_what_can_not_be_held_to_is_a_400_that_names_it(
    client: openai.AsyncOpenAI, asked: dict[str, Any], param: str
) -> None:
    extra = {"ignore_eos": asked.pop("ignore_eos")} if "ignore_eos" in asked else None
    with pytest.raises(openai.BadRequestError) as caught:
        await client.chat.completions.create(**LOOSE, **asked, extra_body=extra)
    assert caught.value.param == param


async def test_predictions_are_held_to_the_same_formats(gateway: Gateway) -> None:
    schema = Person.model_json_schema()
    given = {
        "prompt": "On board:",
        "max_tokens": 200,
        "seed": 3,
        "response_format": {"type": "json_schema", "json_schema": {"name": "p", "schema": schema}},
    }
    async with httpx.AsyncClient(base_url=gateway.url, timeout=60) as web:
        response = await web.post(
            "/v1/predictions",
            json={"version": MODEL, "input": given},
            headers={"prefer": "wait=60"},
        )
        made = response.json()
        assert made["status"] == "succeeded", made
        assert Person.model_validate_json(made["output"]).kind in ("crew", "guest")
        schema["not"] = {}
        refused = await web.post("/v1/predictions", json={"version": MODEL, "input": given})
        inputs = {
            "inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": ["On board:"]}],
            "parameters": {"max_tokens": 20, "response_format": {"type": "regex", "regex": "b+c"}},
        }
        tensors = await web.post(f"/v2/models/{MODEL}/infer", json=inputs)
    assert refused.status_code == 422
    assert "input.response_format.json_schema.schema.not" in refused.text
    assert tensors.status_code == 200, tensors.text
    (text,) = tensors.json()["outputs"][0]["data"]
    assert set(text) <= {"b", "c"}


async def test_the_page_has_a_tool_called(gateway: Gateway) -> None:
    page = (ROOT / "docs" / "generation.md").read_text("utf-8")
    (block,) = (body for kind, body in BLOCK.findall(page) if kind == "python" and "tide" in body)
    here = block.replace("http://127.0.0.1:8000", gateway.url).replace('"qwen"', f'"{MODEL}"')
    ran = await asyncio.create_subprocess_exec(
        sys.executable, "-c", here, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    printed, errors = await ran.communicate()
    assert ran.returncode == 0, errors.decode()
    call, _ = printed.decode().split("\n", 1)
    name, arguments = call.split(" ", 1)
    assert name == "tide"
    assert set(json.loads(arguments)) == {"gauge", "hour"}
