"""The unmodified `openai` client: responses that are held to a form, and that call tools.

The model has random weights: nothing but the grammar makes it write what is asked for.
"""

import json
from collections.abc import AsyncIterator
from typing import Any, Literal

import openai
import pytest
from openai.types.responses import ResponseFunctionToolCall
from pydantic import BaseModel, ConfigDict, Field

from forebay.lanes.keys import Keys
from forebay.runtime.catalog import Catalog
from forebay.runtime.settings import Settings
from tests.fixtures.calling import Caller
from tests.fixtures.gateway import Gateway, running_gateway
from tests.fixtures.generating import MODEL, PARROT, generating


class Person(BaseModel):
    """Somebody on board."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(max_length=12)
    kind: Literal["crew", "guest"]


TIDE: Any = {
    "type": "function",
    "name": "tide",
    "description": "Height of the water.",
    "parameters": {
        "type": "object",
        "properties": {"at": {"enum": ["Whitby", "Blyth"]}, "hours": {"enum": [6, 12]}},
        "required": ["at", "hours"],
        "additionalProperties": False,
    },
    "strict": True,
}
ASKED: dict[str, Any] = {"model": MODEL, "input": "Who is on board?", "max_output_tokens": 200}
CALL: dict[str, Any] = {
    **ASKED,
    "tools": [TIDE],
    "tool_choice": {"type": "function", "name": "tide"},
    "parallel_tool_calls": False,
}


@pytest.fixture
def catalog() -> Catalog:
    return PARROT


@pytest.fixture
async def gateway(
    settings: Settings, catalog: Catalog, redis_url: str, keys: Keys, caller: Caller
) -> AsyncIterator[Gateway]:
    async with (
        running_gateway(settings, catalog=catalog) as running,
        generating(redis_url, keys, caller.generator()),
    ):
        yield running


async def test_an_answer_is_parsed_into_the_type_that_was_asked_for(
    client: openai.AsyncOpenAI,
) -> None:
    told = await client.responses.parse(**ASKED, text_format=Person)
    assert isinstance(told.output_parsed, Person)
    assert told.text is not None
    assert told.text.format is not None
    assert told.text.format.type == "json_schema"
    async with client.responses.stream(**ASKED, text_format=Person) as stream:
        assert isinstance((await stream.get_final_response()).output_parsed, Person)


async def test_what_a_worker_says_of_a_format_names_it_as_responses_do(
    client: openai.AsyncOpenAI,
) -> None:
    schema: dict[str, Any] = {"type": "string", "pattern": "("}
    text: Any = {"format": {"type": "json_schema", "name": "a", "schema": schema}}
    for streamed in (False, True):
        with pytest.raises(openai.BadRequestError, match=r"text\.format asks for what") as caught:
            await client.responses.create(**ASKED, text=text, stream=streamed)
        assert caught.value.param == "text.format"
        assert "response_format" not in caught.value.message


def the_call(output: Any) -> ResponseFunctionToolCall:
    (call,) = output
    assert isinstance(call, ResponseFunctionToolCall)
    assert call.name == "tide"
    arguments = json.loads(call.arguments)
    assert arguments["at"] in ("Whitby", "Blyth")
    assert arguments["hours"] in (6, 12)
    return call


async def test_a_call_is_told_and_its_output_goes_on_with_the_conversation(
    client: openai.AsyncOpenAI,
) -> None:
    first = await client.responses.create(**CALL)
    assert first.status == "completed"
    call = the_call(first.output)
    assert (first.tools[0].to_dict(), first.parallel_tool_calls) == (TIDE, False)
    output: Any = {"type": "function_call_output", "call_id": call.call_id, "output": "2 m"}
    second = await client.responses.create(
        model=MODEL, input=[output], previous_response_id=first.id, max_output_tokens=2
    )
    items = await client.responses.input_items.list(second.id, order="asc")
    assert [item.type for item in items.data] == [
        "message",
        "function_call",
        "function_call_output",
    ]
    # Who keeps the conversation sends the same items.
    third = await client.responses.create(
        model=MODEL,
        input=[
            {"role": "user", "content": ASKED["input"]},
            call.to_dict(),  # type: ignore[list-item]  # what was told is sent back
            output,
        ],
        max_output_tokens=2,
    )
    told = await client.responses.input_items.list(third.id, order="asc")
    one, other = [[{**item.to_dict(), "id": None} for item in page.data] for page in (items, told)]
    assert one == other


async def test_a_call_is_told_in_events_and_read_again_from_any_of_them(
    client: openai.AsyncOpenAI,
) -> None:
    stream = await client.responses.create(**CALL, stream=True)
    told = [event async for event in stream]
    assert [event.sequence_number for event in told] == list(range(len(told)))
    kinds = [event.type for event in told]
    assert kinds[:3] == ["response.created", "response.in_progress", "response.output_item.added"]
    assert kinds[-3:] == [
        "response.function_call_arguments.done",
        "response.output_item.done",
        "response.completed",
    ]
    last = told[-1]
    assert last.type == "response.completed"
    call = the_call(last.response.output)
    pieces = [
        event.delta for event in told if event.type == "response.function_call_arguments.delta"
    ]
    assert "".join(pieces) == call.arguments
    for number in range(0, len(told), 5):
        again = await client.responses.retrieve(
            last.response.id, stream=True, starting_after=number
        )
        assert [event async for event in again] == told[number + 1 :]


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        ({"tools": [{"type": "web_search", "name": "a"}]}, "tools[0].type"),
        ({"tools": [TIDE, TIDE]}, "tools[1].name"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": [TIDE], "tool_choice": {"type": "function", "name": "a"}}, "tool_choice"),
        ({"tools": [TIDE], "include": ["message.output_text.logprobs"]}, "include"),
        (
            {"tools": [{**TIDE, "parameters": {"type": "object", "not": {}}}]},
            "tools[0].parameters.not",
        ),
        ({"input": [{"type": "function_call_output", "output": "a"}]}, "input[0].call_id"),
    ],
)
async def test_what_is_wrong_with_tools_is_a_400_that_names_it(
    client: openai.AsyncOpenAI, asked: dict[str, Any], param: str
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        await client.responses.create(**{**ASKED, **asked})
    assert caught.value.param == param
