"""The unmodified `openai` client, generating text: real gateway, real lanes, a real worker."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import msgspec
import openai
import pytest
from openai.types.chat import ChatCompletionChunk

from forebay.contract.generation import GenerationTable
from forebay.contract.model import BackendName, LaneLimits, ModelSpec
from forebay.contract.rows import Task
from forebay.inference.generation.echo import EchoEngine, EchoGenerator
from forebay.lanes.keys import Keys
from forebay.runtime.catalog import Catalog
from forebay.runtime.settings import Settings
from tests.fixtures.events import all_events, events
from tests.fixtures.gateway import Gateway, running_gateway
from tests.fixtures.generating import generating, parrot
from tests.fixtures.lanes import rows_on_lanes
from tests.fixtures.waiting import PATIENCE_S, eventually

SAID = "A forebay is the pool ahead of a turbine"
WORDS = len(SAID.split())
LONG = " ".join(f"word{number}" for number in range(2_000))

CATALOG = Catalog(
    {
        "parrot": parrot(),
        "minilm": ModelSpec(Task.EMBEDDING, BackendName.ONNX, source="package:none", name="minilm"),
    }
)


def user(content: str = SAID) -> list[Any]:
    return [{"role": "user", "content": content}]


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


async def chunks_of(stream: Any) -> list[ChatCompletionChunk]:
    return [chunk async for chunk in stream]


async def test_a_chat_is_answered_at_once(client: openai.AsyncOpenAI, worker: EchoEngine) -> None:
    told = await client.chat.completions.create(
        model="parrot",
        messages=[{"role": "system", "content": "Be brief."}, *user()],
        user="ann",
        metadata={"trace": "1"},
    )
    (choice,) = told.choices
    assert told.object == "chat.completion"
    assert told.id.startswith("chatcmpl-")
    assert (told.model, choice.index, choice.finish_reason) == ("parrot", 0, "stop")
    assert (choice.message.role, choice.message.content) == ("assistant", SAID)
    assert choice.logprobs is None
    assert told.usage is not None
    assert (told.usage.prompt_tokens, told.usage.completion_tokens) == (WORDS, WORDS)
    assert told.usage.total_tokens == 2 * WORDS


async def test_a_chat_is_streamed_word_by_word(
    client: openai.AsyncOpenAI, worker: EchoEngine
) -> None:
    stream = await client.chat.completions.create(model="parrot", messages=user(), stream=True)
    chunks = await chunks_of(stream)
    deltas = [chunk.choices[0].delta for chunk in chunks]
    assert "".join(delta.content or "" for delta in deltas) == SAID
    assert [delta.role for delta in deltas if delta.role] == ["assistant"]
    assert deltas[0].role == "assistant"
    assert [chunk.choices[0].finish_reason for chunk in chunks][-1] == "stop"
    assert len({chunk.id for chunk in chunks}) == 1
    assert {chunk.object for chunk in chunks} == {"chat.completion.chunk"}
    assert all(chunk.usage is None for chunk in chunks)


async def test_the_client_puts_a_stream_together_as_the_answer_that_comes_at_once(
    client: openai.AsyncOpenAI, worker: EchoEngine
) -> None:
    async with client.chat.completions.stream(
        model="parrot",
        messages=user(),
        n=3,
        logprobs=True,
        top_logprobs=1,
        stream_options={"include_usage": True},
    ) as stream:
        whole = await stream.get_final_completion()
    once = await client.chat.completions.create(
        model="parrot", messages=user(), n=3, logprobs=True, top_logprobs=1
    )
    assert len(once.choices) == 3
    for one, other in zip(whole.choices, once.choices, strict=True):
        assert (one.index, one.finish_reason) == (other.index, other.finish_reason)
        assert one.message.content == other.message.content == SAID
        assert one.message.role == other.message.role
        assert one.logprobs is not None
        assert other.logprobs is not None
        assert one.logprobs.content == other.logprobs.content
        assert other.logprobs.content is not None
        assert "".join(token.token for token in other.logprobs.content) == SAID
    assert whole.usage == once.usage
    assert once.usage is not None
    # The prompt is one, the texts are three.
    assert (once.usage.prompt_tokens, once.usage.completion_tokens) == (WORDS, 3 * WORDS)


def _synchronously(url: str) -> str:
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        stream = client.chat.completions.create(model="parrot", messages=user(), stream=True)
        return "".join(chunk.choices[0].delta.content or "" for chunk in stream)


async def test_the_synchronous_client_streams_too(gateway: Gateway, worker: EchoEngine) -> None:
    assert await asyncio.to_thread(_synchronously, gateway.url) == SAID


@pytest.mark.parametrize("streamed", [False, True])
async def test_where_a_text_ends(
    client: openai.AsyncOpenAI, worker: EchoEngine, streamed: bool
) -> None:
    async def said(**asked: Any) -> tuple[str, str | None]:
        given: dict[str, Any] = {"model": "parrot", "messages": user(), **asked}
        if not streamed:
            (choice,) = (await client.chat.completions.create(**given)).choices
            return choice.message.content or "", choice.finish_reason
        chunks = await chunks_of(await client.chat.completions.create(**given, stream=True))
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
        return text, chunks[-1].choices[0].finish_reason

    assert await said(max_tokens=3) == ("A forebay is", "length")
    assert await said(max_completion_tokens=2) == ("A forebay", "length")
    assert await said(stop="pool") == ("A forebay is the ", "stop")
    assert await said(stop=["ahead", " is"]) == ("A forebay", "stop")


async def test_usage_comes_in_a_last_chunk_of_its_own(
    client: openai.AsyncOpenAI, worker: EchoEngine
) -> None:
    stream = await client.chat.completions.create(
        model="parrot", messages=user(), stream=True, stream_options={"include_usage": True}
    )
    *chunks, last = await chunks_of(stream)
    assert last.choices == []
    assert last.usage is not None
    assert last.usage.total_tokens == 2 * WORDS
    assert all(chunk.usage is None and chunk.choices for chunk in chunks)


async def test_completions_are_of_prompts_in_their_order(
    client: openai.AsyncOpenAI, worker: EchoEngine
) -> None:
    told = await client.completions.create(
        model="parrot", prompt=["one two", "three four five"], n=2, logprobs=1
    )
    assert told.object == "text_completion"
    assert told.id.startswith("cmpl-")
    assert [choice.index for choice in told.choices] == [0, 1, 2, 3]
    assert [choice.text for choice in told.choices] == [
        "one two",
        "one two",
        "three four five",
        "three four five",
    ]
    logprobs = told.choices[2].logprobs
    assert logprobs is not None
    assert logprobs.tokens == ["three", " four", " five"]
    assert logprobs.text_offset == [0, 5, 10]
    assert told.usage is not None
    assert (told.usage.prompt_tokens, told.usage.completion_tokens) == (5, 10)


async def test_completions_are_streamed_and_are_of_sixteen_tokens_if_nobody_says(
    client: openai.AsyncOpenAI, worker: EchoEngine
) -> None:
    prompt = " ".join(f"w{number}" for number in range(20))
    stream = await client.completions.create(model="parrot", prompt=prompt, stream=True)
    chunks = [chunk async for chunk in stream]
    assert "".join(chunk.choices[0].text for chunk in chunks) == " ".join(prompt.split()[:16])
    assert chunks[-1].choices[0].finish_reason == "length"


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_prompt_over_the_context_is_a_400_that_says_so(
    client: openai.AsyncOpenAI, worker: EchoEngine, streamed: bool
) -> None:
    for asked in ({"messages": user("word " * 70)}, {"messages": user(), "max_tokens": 64}):
        given: dict[str, Any] = {"model": "parrot", "stream": streamed, **asked}
        with pytest.raises(openai.BadRequestError, match="takes 64 together") as caught:
            await client.chat.completions.create(**given)
        assert (caught.value.param, caught.value.code) == ("messages", "context_length_exceeded")
        assert "Row" not in caught.value.message


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(
    ("asked", "param"),
    [
        ({"messages": user(), "max_tokens": -1}, "max_tokens"),
        ({"messages": user(), "temperature": 2.5}, "temperature"),
        ({"messages": []}, "messages"),
        ({"messages": user(), "n": 1_000}, "n"),
        ({"messages": user(), "stop": list("abcde")}, "stop"),
        (
            {"messages": user(), "response_format": {"type": "yaml"}},
            "response_format.type",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
            "messages[0].content[0].type",
        ),
        ({"messages": user(), "extra_body": {"colour": "red"}}, "colour"),
        ({"messages": user(), "model": "minilm"}, "model"),
    ],
)
async def test_what_is_wrong_is_a_400_that_names_it(
    client: openai.AsyncOpenAI, asked: dict[str, Any], param: str, streamed: bool
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        await client.chat.completions.create(**{"model": "parrot", **asked}, stream=streamed)
    assert (caught.value.param, caught.value.code) == (param, "invalid_input")


async def test_a_model_that_is_not_there_is_a_404(client: openai.AsyncOpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        await client.chat.completions.create(model="nobody", messages=user(), stream=True)
    assert caught.value.code == "model_not_found"


async def test_a_client_that_goes_away_frees_its_slot(
    client: openai.AsyncOpenAI, slow: EchoEngine
) -> None:
    stream = await client.chat.completions.create(model="parrot", messages=user(LONG), stream=True)
    async for chunk in stream:
        if chunk.choices[0].delta.content:
            break
    assert slow.busy
    await stream.close()
    await eventually(lambda: not slow.busy, what="the slot is free")


async def test_a_client_that_goes_away_before_the_first_word_frees_its_place(
    web: httpx.AsyncClient, redis_url: str, keys: Keys
) -> None:
    async def waits() -> bool:
        return bool(await rows_on_lanes(redis_url, keys, "parrot"))

    async def waits_no_more() -> bool:
        return not await waits()

    body = {"model": "parrot", "messages": user(LONG), "stream": True}
    asking = asyncio.create_task(web.post("/v1/chat/completions", json=body))
    await eventually(waits, what="it waits")
    asking.cancel()
    await eventually(waits_no_more, what="it waits no more")
    await asyncio.wait({asking})


async def test_what_ends_a_stream_half_way_is_an_error_for_the_client(
    client: openai.AsyncOpenAI, web: httpx.AsyncClient, slow: EchoEngine
) -> None:
    stream = await client.chat.completions.create(model="parrot", messages=user(LONG), stream=True)
    id_ = stream.response.headers["x-forebay-prediction"]
    assert (await anext(stream)).choices
    (await web.post(f"/v1/predictions/{id_}/cancel")).raise_for_status()
    with pytest.raises(openai.APIError) as caught:
        await chunks_of(stream)
    assert caught.value.code == "canceled"
    await eventually(lambda: not slow.busy, what="the slot is free")


async def test_a_stream_with_a_key_goes_on_without_its_client_and_is_resumed_elsewhere(
    web: httpx.AsyncClient, settings: Settings, slow: EchoEngine
) -> None:
    said = " ".join(f"word{number}" for number in range(60))
    body = {"model": "parrot", "messages": user(said), "stream": True}
    key = {"Idempotency-Key": "once"}
    last = None
    async with web.stream("POST", "/v1/chat/completions", json=body, headers=key) as response:
        id_ = response.headers["x-forebay-prediction"]
        first: list[str] = []
        created: set[int] = set()
        async for event in events(response):
            first.append(event.json()["choices"][0]["delta"]["content"])
            created.add(event.json()["created"])
            last = event.id
            if len(first) == 7:
                break
    assert last
    async with (
        running_gateway(settings, catalog=CATALOG) as other,
        httpx.AsyncClient(base_url=other.url, timeout=PATIENCE_S) as elsewhere,
    ):
        again = {**key, "Last-Event-ID": last}
        rest = await all_events(elsewhere, "POST", "/v1/chat/completions", json=body, headers=again)
        assert rest[-1].data == "[DONE]"
        deltas = [event.json()["choices"][0]["delta"] for event in rest[:-1]]
        assert not any("role" in delta for delta in deltas)
        assert {event.json()["created"] for event in rest[:-1]} == created
        assert "".join(first) + "".join(delta.get("content", "") for delta in deltas) == said
        past = {**key, "Last-Event-ID": "999"}
        answer = await elsewhere.post("/v1/chat/completions", json=body, headers=past)
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "Last-Event-ID")
        # Whoever has only its id reads the same text.
        path = f"/v1/predictions/{id_}/stream"
        told = await all_events(elsewhere, "GET", path, headers={"Last-Event-ID": last})
        assert "".join(e.data for e in told if e.event == "output") == said[len("".join(first)) :]
        whole = (await elsewhere.get(f"/v1/predictions/{id_}")).json()
        assert (whole["status"], whole["output"]) == ("succeeded", said)


async def test_every_event_has_an_id_and_the_last_says_that_it_is_done(
    web: httpx.AsyncClient, worker: EchoEngine
) -> None:
    body = {
        "model": "parrot",
        "messages": user(),
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    told = await all_events(web, "POST", "/v1/chat/completions", json=body)
    ids = [int(event.id or -1) for event in told]
    last = len(told) - 3  # of the chunks; those of usage and of the end come after it
    assert ids == [*range(last + 1), last, last]
    assert told[-1].data == "[DONE]"


async def test_a_text_may_take_longer_than_it_may_wait_for_its_turn(
    settings: Settings, slow: EchoEngine
) -> None:
    said = " ".join(f"word{number}" for number in range(300))
    spec = msgspec.structs.replace(parrot(), realtime=LaneLimits(deadline_s=2.0))
    body = {"model": "parrot", "messages": user(said)}
    async with (
        running_gateway(settings, catalog=Catalog({"parrot": spec})) as gateway,
        httpx.AsyncClient(base_url=gateway.url, timeout=PATIENCE_S) as web,
    ):
        answer = await web.post("/v1/chat/completions", json=body)
        assert answer.json()["choices"][0]["message"]["content"] == said
        told = await all_events(web, "POST", "/v1/chat/completions", json={**body, "stream": True})
        deltas = [event.json()["choices"][0]["delta"] for event in told[:-1]]
        assert "".join(delta.get("content", "") for delta in deltas) == said


async def test_there_is_nothing_to_go_on_with_where_nothing_was_begun(
    web: httpx.AsyncClient,
) -> None:
    body = {"model": "parrot", "messages": user(), "stream": True}
    for key in ({}, {"Idempotency-Key": "never"}):
        headers = {**key, "Last-Event-ID": "3"}
        answer = await web.post("/v1/chat/completions", json=body, headers=headers)
        assert (answer.status_code, answer.json()["error"]["param"]) == (404, "Last-Event-ID")
    headers = {"Last-Event-ID": "third"}
    answer = await web.post("/v1/chat/completions", json=body, headers=headers)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "Last-Event-ID")


async def test_a_client_that_does_not_read_holds_up_nobody_and_misses_nothing(
    web: httpx.AsyncClient, redis_url: str, keys: Keys
) -> None:
    said = " ".join(f"word{number}" for number in range(20_000))
    body = {"model": "parrot", "messages": user(said), "stream": True, "logprobs": True}
    generator = EchoGenerator(GenerationTable(context=50_000))
    async with (
        generating(redis_url, keys, generator),
        web.stream("POST", "/v1/chat/completions", json=body) as response,
    ):
        await eventually(lambda: not generator.engine.busy, what="all is generated")
        deltas = [
            event.json()["choices"][0]["delta"]
            async for event in events(response)
            if event.data != "[DONE]"
        ]
    assert "".join(delta.get("content", "") for delta in deltas) == said
