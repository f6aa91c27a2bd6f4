"""The unmodified `openai` client, making responses: real gateway, real lanes, a real worker."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Literal

import httpx
import openai
import pytest
from openai.types.responses import Response, ResponseStreamEvent

from forebay.contract.generation import GenerationTable
from forebay.contract.model import BackendName, ModelSpec
from forebay.contract.rows import Task
from forebay.inference.generation.echo import EchoEngine, EchoGenerator
from forebay.lanes.keys import Keys
from forebay.runtime.catalog import Catalog
from forebay.runtime.settings import Settings
from tests.fixtures.events import all_events
from tests.fixtures.gateway import Gateway, running_gateway
from tests.fixtures.generating import generating, parrot
from tests.fixtures.lanes import rows_on_lanes
from tests.fixtures.waiting import PATIENCE_S, eventually

SAID = "A forebay is the pool ahead of a turbine"
WORDS = len(SAID.split())
LONG = " ".join(f"word{number}" for number in range(2_000))
LOGPROBS: Literal["message.output_text.logprobs"] = "message.output_text.logprobs"
ENDED = ("completed", "failed", "cancelled", "incomplete")

CATALOG = Catalog(
    {
        "parrot": parrot(),
        "minilm": ModelSpec(Task.EMBEDDING, BackendName.ONNX, source="package:none", name="minilm"),
    }
)


@pytest.fixture
def catalog() -> Catalog:
    return CATALOG


@pytest.fixture
async def worker(redis_url: str, keys: Keys) -> AsyncIterator[EchoEngine]:
    """A worker as fast as it can be, whose prompts and texts have 64 words together."""
    generator = EchoGenerator(GenerationTable(context=64))
    async with generating(redis_url, keys, generator):
        yield generator.engine


@pytest.fixture
async def slow(redis_url: str, keys: Keys) -> AsyncIterator[EchoEngine]:
    """A worker that takes its time."""
    generator = EchoGenerator(GenerationTable(tokens_per_s=100))
    async with generating(redis_url, keys, generator):
        yield generator.engine


async def ended(client: openai.AsyncOpenAI, id_: str) -> Response:
    """A response, once it has ended."""
    told: list[Response] = []

    async def has_ended() -> bool:
        told.append(await client.responses.retrieve(id_))
        return told[-1].status in ENDED

    await eventually(has_ended, what="the response has ended")
    return told[-1]


async def events_of(stream: Any) -> list[ResponseStreamEvent]:
    return [event async for event in stream]


async def test_a_text_is_answered_at_once(client: openai.AsyncOpenAI, worker: EchoEngine) -> None:
    told = await client.responses.create(
        model="parrot", input=SAID, user="ann", metadata={"trace": "1"}, temperature=0.5
    )
    assert told.id.startswith("resp_")
    assert (told.object, told.status, told.model) == ("response", "completed", "parrot")
    assert told.output_text == SAID
    assert (told.metadata, told.user, told.temperature) == ({"trace": "1"}, "ann", 0.5)
    (message,) = told.output
    assert message.type == "message"
    assert (message.role, message.status) == ("assistant", "completed")
    assert told.usage is not None
    assert (told.usage.input_tokens, told.usage.output_tokens) == (WORDS, WORDS)
    assert told.usage.total_tokens == 2 * WORDS
    assert told.usage.input_tokens_details.cached_tokens == 0
    assert told.completed_at is not None
    assert told.completed_at >= told.created_at
    assert await client.responses.retrieve(told.id) == told


async def test_a_response_that_stops_for_room_is_incomplete(
    client: openai.AsyncOpenAI, worker: EchoEngine
) -> None:
    told = await client.responses.create(model="parrot", input=SAID, max_output_tokens=3)
    assert (told.status, told.output_text) == ("incomplete", "A forebay is")
    assert told.incomplete_details is not None
    assert told.incomplete_details.reason == "max_output_tokens"
    assert told.max_output_tokens == 3
    stream = await client.responses.create(
        model="parrot", input=SAID, max_output_tokens=3, stream=True
    )
    *_, last = await events_of(stream)
    assert last.type == "response.incomplete"
    assert last.response.output_text == "A forebay is"


async def test_items_are_messages_and_instructions_come_before_them(
    client: openai.AsyncOpenAI, worker: EchoEngine, web: httpx.AsyncClient
) -> None:
    told = await client.responses.create(
        model="parrot",
        instructions="Be brief.",
        input=[
            {"role": "developer", "content": "Speak of water."},
            {"role": "user", "content": [{"type": "input_text", "text": "Hello"}]},
            {
                "type": "message",
                "id": "msg_1",
                "status": "completed",
                "role": "assistant",
                "content": [{"type": "output_text", "text": "Good day", "annotations": []}],
            },
            {"role": "user", "content": SAID},
        ],
    )
    assert (told.output_text, told.instructions) == (SAID, "Be brief.")
    # A response is a prediction, whose input says what the model was given.
    made = (await web.get(f"/v1/predictions/{told.id.removeprefix('resp_')}")).json()
    assert (made["status"], made["output"]) == ("succeeded", SAID)
    assert made["input"]["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "developer", "content": "Speak of water."},
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Good day"},
        {"role": "user", "content": SAID},
    ]


async def test_every_event_comes_in_its_order_and_is_numbered(
    client: openai.AsyncOpenAI, worker: EchoEngine
) -> None:
    stream = await client.responses.create(model="parrot", input="one two three", stream=True)
    told = await events_of(stream)
    assert [event.type for event in told] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        *["response.output_text.delta"] * (len(told) - 8),
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert [event.sequence_number for event in told] == list(range(len(told)))
    text = "".join(one.delta for one in told if one.type == "response.output_text.delta")
    assert text == "one two three"
    first, last = told[0], told[-1]
    assert first.type == "response.created"
    assert (first.response.status, first.response.output) == ("in_progress", [])
    assert last.type == "response.completed"
    assert await client.responses.retrieve(last.response.id) == last.response


async def test_the_client_puts_a_stream_together_as_the_answer_that_comes_at_once(
    client: openai.AsyncOpenAI, worker: EchoEngine
) -> None:
    asked: dict[str, Any] = {
        "model": "parrot",
        "input": SAID,
        "include": [LOGPROBS],
        "top_logprobs": 1,
    }
    async with client.responses.stream(**asked) as stream:
        whole = await stream.get_final_response()
    once = await client.responses.create(**asked)
    assert whole.output_text == once.output_text == SAID
    (streamed,), (answered,) = whole.output, once.output
    assert streamed.type == answered.type == "message"
    (part,), (other) = streamed.content, answered.content[0]
    assert part.type == other.type == "output_text"
    assert part.logprobs == other.logprobs
    assert other.logprobs is not None
    assert "".join(token.token for token in other.logprobs) == SAID
    assert all(len(token.top_logprobs) == 1 for token in other.logprobs)
    assert whole.usage == once.usage


def _synchronously(url: str) -> tuple[str, str, str]:
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        with client.responses.create(model="parrot", input=SAID, stream=True) as events:
            told = [one.delta for one in events if one.type == "response.output_text.delta"]
        made = client.responses.create(model="parrot", input=SAID)
        with client.responses.stream(response_id=made.id) as again:
            read = again.get_final_response().output_text
        client.responses.delete(made.id)
        return "".join(told), made.output_text, read


async def test_the_synchronous_client_does_all_of_it_too(
    gateway: Gateway, worker: EchoEngine
) -> None:
    assert await asyncio.to_thread(_synchronously, gateway.url) == (SAID, SAID, SAID)


async def test_a_conversation_goes_on_with_what_is_stored(
    client: openai.AsyncOpenAI, worker: EchoEngine
) -> None:
    first = await client.responses.create(
        model="parrot", input="one two", instructions="Be brief.", max_output_tokens=1
    )
    second = await client.responses.create(
        model="parrot", input="three", previous_response_id=first.id, instructions="Be kind."
    )
    third = await client.responses.create(
        model="parrot", input=SAID, previous_response_id=second.id
    )
    assert third.previous_response_id == second.id
    assert (first.output_text, second.output_text, third.output_text) == ("one", "three", SAID)
    items = await client.responses.input_items.list(third.id, order="asc")
    said = [
        (item.role, item.content[0].text)
        for item in items.data
        if item.type == "message" and item.content[0].type in ("input_text", "output_text")
    ]
    assert said == [
        ("user", "one two"),
        ("assistant", "one"),
        ("user", "three"),
        ("assistant", "three"),
        ("user", SAID),
    ]
    # What was before it may go: it has all of it.
    await client.responses.delete(first.id)
    await client.responses.delete(second.id)
    fourth = await client.responses.create(
        model="parrot", input="four", previous_response_id=third.id
    )
    assert fourth.output_text == "four"
    with pytest.raises(openai.NotFoundError, match="no longer kept") as caught:
        await client.responses.create(model="parrot", input="a", previous_response_id=first.id)
    assert caught.value.code == "previous_response_not_found"
    assert caught.value.param == "previous_response_id"


async def test_input_items_come_in_pages(client: openai.AsyncOpenAI, worker: EchoEngine) -> None:
    said = [f"word{number}" for number in range(7)]
    made = await client.responses.create(
        model="parrot", input=[{"role": "user", "content": word} for word in said]
    )
    items = client.responses.input_items.list(made.id, limit=3)
    wrongs: list[dict[str, Any]] = [
        {"limit": 0},
        {"limit": 101},
        {"after": "msg_none"},
        {"extra_query": {"before": "msg_none"}},
    ]
    texts = [item.to_dict()["content"] async for item in items]
    assert texts == [[{"type": "input_text", "text": word}] for word in reversed(said)]
    for wrong in wrongs:
        with pytest.raises(openai.BadRequestError) as caught:
            await client.responses.input_items.list(made.id, **wrong)
        assert caught.value.param in {**wrong, **wrong.get("extra_query", {})}


async def test_what_is_not_stored_can_not_be_asked_for(
    client: openai.AsyncOpenAI, worker: EchoEngine
) -> None:
    made = await client.responses.create(model="parrot", input=SAID, store=False)
    assert (made.output_text, made.status) == (SAID, "completed")
    stream = await client.responses.create(model="parrot", input=SAID, store=False, stream=True)
    *_, last = await events_of(stream)
    assert last.type == "response.completed"
    assert last.response.output_text == SAID
    for id_ in (made.id, last.response.id):
        with pytest.raises(openai.NotFoundError, match="never stored"):
            await client.responses.retrieve(id_)
        with pytest.raises(openai.NotFoundError):
            await client.responses.create(model="parrot", input="a", previous_response_id=id_)


async def test_what_is_deleted_is_gone(
    client: openai.AsyncOpenAI, worker: EchoEngine, web: httpx.AsyncClient
) -> None:
    stream = await client.responses.create(model="parrot", input=SAID, stream=True)
    *_, last = await events_of(stream)
    assert last.type == "response.completed"
    id_ = last.response.id
    told = (await web.delete(f"/v1/responses/{id_}")).json()
    assert told == {"id": id_, "object": "response", "deleted": True}
    with pytest.raises(openai.NotFoundError):
        await client.responses.retrieve(id_)
    with pytest.raises(openai.NotFoundError):
        await client.responses.delete(id_)
    for path in ("", "/stream"):
        answer = await web.get(f"/v1/predictions/{id_.removeprefix('resp_')}{path}")
        assert answer.status_code == 404


async def test_a_response_that_others_have_joined_is_deleted_without_them(
    client: openai.AsyncOpenAI, redis_url: str, keys: Keys
) -> None:
    asked: dict[str, Any] = {"model": "parrot", "input": SAID, "background": True}
    first, second = [await client.responses.create(**asked, temperature=0) for _ in range(2)]
    assert await rows_on_lanes(redis_url, keys, "parrot") == 1
    async with generating(redis_url, keys):
        assert (await ended(client, first.id)).output_text == SAID
    await client.responses.delete(first.id)
    with pytest.raises(openai.NotFoundError):
        await client.responses.retrieve(first.id)
    assert (await client.responses.retrieve(second.id)).output_text == SAID


async def test_a_response_in_the_background_is_queued_and_polled(
    client: openai.AsyncOpenAI, redis_url: str, keys: Keys
) -> None:
    made = await client.responses.create(model="parrot", input=SAID, background=True)
    assert (made.status, made.background, made.output) == ("queued", True, [])
    assert (await client.responses.retrieve(made.id)).status == "queued"
    with pytest.raises(openai.BadRequestError, match="has not ended yet") as caught:
        await client.responses.create(model="parrot", input="a", previous_response_id=made.id)
    assert caught.value.param == "previous_response_id"
    async with generating(redis_url, keys):
        done = await ended(client, made.id)
    assert (done.status, done.output_text) == ("completed", SAID)


def _polled(url: str, **more: Any) -> tuple[list[str], Response]:
    """What the client's documentation does: poll until it is neither queued nor in progress."""
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none") as client:
        told = client.responses.create(model="parrot", input=SAID, background=True, **more)
        statuses = [str(told.status)]
        while told.status in {"queued", "in_progress"}:
            told = client.responses.retrieve(told.id)
            if told.status != statuses[-1]:
                statuses.append(str(told.status))
        return statuses, told


async def test_a_response_in_the_background_is_polled_as_the_documentation_does(
    gateway: Gateway, redis_url: str, keys: Keys
) -> None:
    whole = asyncio.create_task(asyncio.to_thread(_polled, gateway.url))
    short = asyncio.create_task(asyncio.to_thread(_polled, gateway.url, max_output_tokens=3))
    await eventually(lambda: gateway.busy, what="they ask")
    async with generating(redis_url, keys):
        (first, told), (second, cut) = await whole, await short
    assert (first[0], first[-1], told.output_text) == ("queued", "completed", SAID)
    assert (second[0], second[-1], cut.output_text) == ("queued", "incomplete", "A forebay is")
    assert {*first, *second} <= {"queued", "in_progress", "completed", "incomplete"}
    assert cut.incomplete_details is not None
    assert cut.incomplete_details.reason == "max_output_tokens"


async def test_a_response_in_the_background_is_canceled(
    client: openai.AsyncOpenAI, slow: EchoEngine
) -> None:
    made = await client.responses.create(model="parrot", input=LONG, background=True)

    async def in_progress() -> bool:
        return (await client.responses.retrieve(made.id)).status == "in_progress"

    await eventually(in_progress, what="it runs")
    canceled = await client.responses.cancel(made.id)
    assert (canceled.status, canceled.error, canceled.output) == ("cancelled", None, [])
    assert await client.responses.cancel(made.id) == canceled
    await eventually(lambda: not slow.busy, what="the slot is free")
    told = await events_of(await client.responses.retrieve(made.id, stream=True))
    assert [one.type for one in told][-1] == "response.failed"
    assert told[-1].type == "response.failed"
    assert told[-1].response == canceled
    with pytest.raises(openai.BadRequestError, match="ended without a text"):
        await client.responses.create(model="parrot", input="a", previous_response_id=made.id)


async def test_a_stream_in_the_background_goes_on_without_its_reader_and_is_resumed_elsewhere(
    client: openai.AsyncOpenAI, settings: Settings, slow: EchoEngine
) -> None:
    said = " ".join(f"word{number}" for number in range(60))
    stream = await client.responses.create(
        model="parrot", input=said, background=True, stream=True, include=[LOGPROBS]
    )
    first: list[ResponseStreamEvent] = []
    async for event in stream:
        first.append(event)
        if len(first) == 12:
            break
    await stream.close()
    assert [event.type for event in first[:3]] == [
        "response.created",
        "response.queued",
        "response.in_progress",
    ]
    created = first[0]
    assert created.type == "response.created"
    id_ = created.response.id
    async with (
        running_gateway(settings, catalog=CATALOG) as other,
        openai.AsyncOpenAI(
            base_url=f"{other.url}/v1", api_key="none", timeout=PATIENCE_S
        ) as elsewhere,
    ):
        rest = await events_of(
            await elsewhere.responses.retrieve(id_, stream=True, starting_after=11)
        )
        whole = await events_of(await elsewhere.responses.retrieve(id_, stream=True))
        assert [event.sequence_number for event in whole] == list(range(len(whole)))
        assert first + rest == whole
        # From any event on it is the same, at either gateway.
        for number in range(len(whole)):
            gateway = elsewhere if number % 2 else client
            again = await gateway.responses.retrieve(id_, stream=True, starting_after=number)
            assert await events_of(again) == whole[number + 1 :]
    last = whole[-1]
    assert last.type == "response.completed"
    assert last.response.output_text == said
    with pytest.raises(openai.BadRequestError, match="sequence_number") as caught:
        await client.responses.retrieve(id_, stream=True, starting_after=-1)
    assert caught.value.param == "starting_after"
    for past in (len(whole), len(whole) + 5, 10_000):
        with pytest.raises(openai.BadRequestError, match="No event that came") as caught:
            await client.responses.retrieve(id_, stream=True, starting_after=past)
        assert caught.value.param == "starting_after"
    for query, param in (
        ({"bogus": "1"}, "bogus"),
        ({"stream": "maybe"}, "stream"),
        ({"include_obfuscation": "true"}, "include_obfuscation"),
    ):
        with pytest.raises(openai.BadRequestError) as caught:
            await client.responses.retrieve(id_, extra_query=query)
        assert caught.value.param == param


async def test_a_response_that_was_not_streamed_is_told_in_events_too(
    client: openai.AsyncOpenAI, worker: EchoEngine
) -> None:
    for background in (False, True):
        made = await client.responses.create(model="parrot", input=SAID, background=background)
        await ended(client, made.id)
        told = await events_of(await client.responses.retrieve(made.id, stream=True))
        deltas = [event.delta for event in told if event.type == "response.output_text.delta"]
        assert deltas == [SAID]
        assert [event.sequence_number for event in told] == list(range(len(told)))
        for number in range(len(told)):
            again = await client.responses.retrieve(made.id, stream=True, starting_after=number)
            assert await events_of(again) == told[number + 1 :]


async def test_a_response_that_is_not_in_the_background_is_not_canceled(
    client: openai.AsyncOpenAI, worker: EchoEngine
) -> None:
    made = await client.responses.create(model="parrot", input=SAID)
    with pytest.raises(openai.BadRequestError, match="Only responses created with `background: tr"):
        await client.responses.cancel(made.id)
    assert (await client.responses.retrieve(made.id)).status == "completed"


async def test_a_reader_that_goes_away_frees_its_slot(
    client: openai.AsyncOpenAI, slow: EchoEngine
) -> None:
    stream = await client.responses.create(model="parrot", input=LONG, stream=True)
    id_ = ""
    async for event in stream:
        if event.type == "response.created":
            id_ = event.response.id
        if event.type == "response.output_text.delta":
            break
    assert slow.busy
    await stream.close()
    assert (await ended(client, id_)).status == "cancelled"
    await eventually(lambda: not slow.busy, what="the slot is free")


async def test_a_client_that_waits_and_goes_away_frees_its_slot(
    web: httpx.AsyncClient, slow: EchoEngine
) -> None:
    asking = asyncio.create_task(web.post("/v1/responses", json={"model": "parrot", "input": LONG}))
    await eventually(lambda: slow.busy, what="it runs")
    asking.cancel()
    await eventually(lambda: not slow.busy, what="the slot is free")
    await asyncio.wait({asking})


@pytest.mark.parametrize("asked", [{}, {"stream": True}, {"background": True}, {"store": False}])
async def test_a_request_that_comes_again_with_its_key_is_the_same_response(
    web: httpx.AsyncClient, worker: EchoEngine, asked: dict[str, Any]
) -> None:
    body = {"model": "parrot", "input": SAID, **asked}
    headers = {"Idempotency-Key": "once"}
    if "stream" in asked:
        first = await all_events(web, "POST", "/v1/responses", json=body, headers=headers)
        second = await all_events(web, "POST", "/v1/responses", json=body, headers=headers)
        assert [event.data for event in first] == [event.data for event in second]
        assert [event.id for event in first] == [str(at) for at in range(len(first))]
        for number in (0, 4, len(first) // 2, len(first) - 1):
            again = {**headers, "Last-Event-ID": str(number)}
            rest = await all_events(web, "POST", "/v1/responses", json=body, headers=again)
            assert [event.data for event in rest] == [event.data for event in first[number + 1 :]]
        return
    told = [await web.post("/v1/responses", json=body, headers=headers) for _ in range(2)]
    ids = {answer.json()["id"] for answer in told}
    assert len(ids) == (2 if "store" in asked else 1)
    reused = await web.post("/v1/responses", json={**body, "input": "b"}, headers=headers)
    assert reused.status_code == 422


async def test_there_is_nothing_to_go_on_with_where_nothing_was_begun(
    web: httpx.AsyncClient,
) -> None:
    body = {"model": "parrot", "input": SAID, "stream": True}
    for number in ("0", "3", "30"):
        headers = {"Idempotency-Key": "never", "Last-Event-ID": number}
        answer = await web.post("/v1/responses", json=body, headers=headers)
        assert (answer.status_code, answer.json()["error"]["param"]) == (404, "Last-Event-ID")


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_prompt_over_the_context_is_a_400_that_says_so(
    client: openai.AsyncOpenAI, worker: EchoEngine, streamed: bool
) -> None:
    with pytest.raises(openai.BadRequestError, match="takes 64 together") as caught:
        await client.responses.create(model="parrot", input=LONG, stream=streamed)
    assert (caught.value.param, caught.value.code) == ("input", "context_length_exceeded")


async def test_a_model_that_can_not_be_held_to_a_format_says_so(
    client: openai.AsyncOpenAI, worker: EchoEngine
) -> None:
    with pytest.raises(openai.BadRequestError, match="can't be held") as caught:
        await client.responses.create(
            model="parrot", input=SAID, text={"format": {"type": "json_object"}}
        )
    assert caught.value.param == "text.format"


async def test_a_prompt_over_the_context_fails_in_the_background(
    client: openai.AsyncOpenAI, worker: EchoEngine
) -> None:
    stream = await client.responses.create(model="parrot", input=LONG, background=True, stream=True)
    told = await events_of(stream)
    assert [event.type for event in told] == [
        "response.created",
        "response.queued",
        "response.failed",
    ]
    last = told[-1]
    assert last.type == "response.failed"
    assert last.response.error is not None
    assert last.response.error.code == "invalid_prompt"
    assert "takes 64 together" in last.response.error.message
    assert await client.responses.retrieve(last.response.id) == last.response


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        ({"input": ""}, "input"),
        ({"input": []}, "input"),
        ({}, "input"),
        ({"max_output_tokens": 0, "input": SAID}, "max_output_tokens"),
        ({"temperature": 2.5, "input": SAID}, "temperature"),
        ({"input": [{"role": "pilot", "content": "a"}]}, "input[0].role"),
        ({"input": [{"role": "user"}]}, "input[0].content"),
        ({"input": [{"role": "user", "content": []}]}, "input[0].content"),
        ({"input": [{"role": "user", "content": "a", "colour": 1}]}, "input[0].colour"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "a"}]}]},
            "input[0].content[0].type",
        ),
        (
            {"input": [{"role": "user", "content": [{"type": "input_text"}]}]},
            "input[0].content[0].text",
        ),
        ({"input": [{"type": "item_reference", "id": "a"}]}, "input[0].type"),
        ({"input": SAID, "tools": [{"type": "web_search", "name": "a"}]}, "tools[0].type"),
        ({"input": SAID, "truncation": "auto"}, "truncation"),
        ({"input": SAID, "conversation": "conv_1"}, "conversation"),
        ({"input": SAID, "reasoning": {"effort": "high"}}, "reasoning"),
        ({"input": SAID, "text": {"format": {"type": "xml"}}}, "text.format.type"),
        ({"input": SAID, "text": {"format": {"type": "json_schema"}}}, "text.format.schema"),
        (
            {"input": SAID, "text": {"format": {"type": "json_object", "schema": {}}}},
            "text.format.schema",
        ),
        (
            {
                "input": SAID,
                "text": {"format": {"type": "json_schema", "name": "a", "schema": {"not": {}}}},
            },
            "text.format.schema.not",
        ),
        ({"input": SAID, "text": {"verbosity": "low"}}, "text.verbosity"),
        ({"input": SAID, "include": ["the.weather"]}, "include"),
        ({"input": SAID, "top_logprobs": 2}, "top_logprobs"),
        ({"input": SAID, "background": True, "store": False}, "store"),
        ({"input": SAID, "extra_body": {"colour": "red"}}, "colour"),
        ({"input": SAID, "extra_body": {"n": 2}}, "n"),
        ({"input": SAID, "max_output_tokens": 2, "extra_body": {"max_tokens": 3}}, "max_tokens"),
        ({"input": SAID, "model": "minilm"}, "model"),
    ],
)
async def test_what_is_wrong_is_a_400_that_names_it(
    client: openai.AsyncOpenAI, asked: dict[str, Any], param: str
) -> None:
    for streamed in (False, True):
        with pytest.raises(openai.BadRequestError) as caught:
            await client.responses.create(**{"model": "parrot", **asked}, stream=streamed)
        assert (caught.value.param, caught.value.code) == (param, "invalid_input")


async def test_what_asks_for_nothing_is_taken(
    client: openai.AsyncOpenAI, worker: EchoEngine
) -> None:
    told = await client.responses.create(
        model="parrot",
        input=SAID,
        tools=[],
        tool_choice="auto",
        parallel_tool_calls=True,
        truncation="disabled",
        text={"format": {"type": "text"}},
        include=["reasoning.encrypted_content"],
        service_tier="auto",
        prompt_cache_key="weir",
        safety_identifier="ann",
        extra_body={"seed": 7, "stop": "pool"},
    )
    assert told.output_text == "A forebay is the "
    assert (told.prompt_cache_key, told.safety_identifier) == ("weir", "ann")


async def test_ids_that_are_no_responses_are_404s(
    client: openai.AsyncOpenAI, worker: EchoEngine, web: httpx.AsyncClient
) -> None:
    body = {"version": "parrot", "input": {"messages": [{"role": "user", "content": "a"}]}}
    made = (await web.post("/v1/predictions", json=body, headers={"Prefer": "wait"})).json()["id"]
    for id_ in (made, f"resp_{made}", "resp_", "resp_parrot-0-00000000000000000000", "weir"):
        with pytest.raises(openai.NotFoundError, match="no response"):
            await client.responses.retrieve(id_)
        with pytest.raises(openai.NotFoundError, match="no response"):
            await client.responses.cancel(id_)
