"""Generated text over the predictions API and the Open Inference Protocol, with a real worker."""

import asyncio
import random
from collections.abc import AsyncIterator
from typing import Any

import httpx
import numpy as np
import pytest
import tritonclient.http as http
import tritonclient.http.aio as http_aio
from openai._streaming import SSEDecoder

from forebay.contract.generation import GenerationTable
from forebay.contract.model import BackendName, ModelSpec
from forebay.contract.rows import Task
from forebay.inference.generation.echo import EchoEngine, EchoGenerator
from forebay.lanes.keys import Keys
from forebay.runtime.catalog import Catalog
from forebay.runtime.settings import Settings
from tests.fixtures.events import all_events, events
from tests.fixtures.gateway import Gateway, running_gateway
from tests.fixtures.generating import generating, parrot
from tests.fixtures.tensors import texts
from tests.fixtures.waiting import PATIENCE_S, eventually

POEM = "Over the weir\nand down the  race,\n\nthe river"
MESSAGES = [{"role": "user", "content": POEM}]
LONG = " ".join(f"word{number}" for number in range(2_000))
CATALOG = Catalog({"parrot": parrot(), "echo": ModelSpec(Task.ECHO, BackendName.ECHO, name="echo")})


@pytest.fixture
def settings(redis_url: str, key_prefix: str) -> Settings:
    return Settings(redis_url=redis_url, key_prefix=key_prefix)


@pytest.fixture
async def gateway(settings: Settings) -> AsyncIterator[Gateway]:
    async with running_gateway(settings, catalog=CATALOG) as running:
        yield running


@pytest.fixture
async def client(gateway: Gateway) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=gateway.url, timeout=PATIENCE_S) as client:
        yield client


@pytest.fixture
async def worker(redis_url: str, keys: Keys) -> AsyncIterator[None]:
    async with generating(redis_url, keys):
        yield


@pytest.fixture
async def slow(redis_url: str, keys: Keys) -> AsyncIterator[EchoEngine]:
    generator = EchoGenerator(GenerationTable(tokens_per_s=100))
    async with generating(redis_url, keys, generator):
        yield generator.engine


async def create(
    client: httpx.AsyncClient, input_: Any, *, stream: bool = False, wait: bool = False
) -> dict[str, Any]:
    answer = await client.post(
        "/v1/predictions",
        json={"version": "parrot", "input": input_, "stream": stream},
        headers={"Prefer": "wait"} if wait else {},
    )
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


async def test_the_output_of_a_prompt_is_a_text_and_of_prompts_a_list(
    client: httpx.AsyncClient, worker: None
) -> None:
    assert (await create(client, {"prompt": POEM}, wait=True))["output"] == POEM
    assert (await create(client, {"messages": MESSAGES}, wait=True))["output"] == POEM
    several = await create(client, {"prompt": ["a b", "c"], "max_tokens": 1}, wait=True)
    assert several["output"] == ["a", "c"]
    shown = (await client.get(several["urls"]["get"])).json()
    assert shown["output"] == ["a", "c"]


async def test_a_stream_is_read_at_the_url_that_the_prediction_tells(
    client: httpx.AsyncClient, worker: None
) -> None:
    made = await create(client, {"prompt": POEM}, stream=True)
    assert made["status"] == "starting"
    told = await all_events(client, "GET", made["urls"]["stream"])
    assert {event.event for event in told[:-1]} == {"output"}
    assert "".join(event.data for event in told[:-1]) == POEM
    assert (told[-1].event, told[-1].data) == ("done", "{}")
    assert all(event.id for event in told)
    assert (await client.head(made["urls"]["stream"])).headers["content-type"].startswith("text/ev")
    # What has ended can be read again, as a stream and as a whole.
    again = await all_events(client, "GET", made["urls"]["stream"])
    assert [(e.event, e.data, e.id) for e in again] == [(e.event, e.data, e.id) for e in told]
    assert (await client.get(made["urls"]["get"])).json()["output"] == POEM


async def test_a_stream_goes_on_after_any_of_its_events(
    client: httpx.AsyncClient, worker: None
) -> None:
    made = await create(client, {"prompt": POEM}, stream=True)
    told = await all_events(client, "GET", made["urls"]["stream"])
    for at, event in enumerate(told[:-1]):
        assert event.id
        headers = {"Last-Event-ID": event.id}
        rest = await all_events(client, "GET", made["urls"]["stream"], headers=headers)
        assert [(e.event, e.data) for e in rest] == [(e.event, e.data) for e in told[at + 1 :]]


async def test_what_was_not_made_as_a_stream_is_told_in_one_event(
    client: httpx.AsyncClient, worker: None
) -> None:
    made = await create(client, {"prompt": POEM})
    told = await all_events(client, "GET", made["urls"]["stream"])
    assert [(event.event, event.data) for event in told] == [("output", POEM), ("done", "{}")]


async def test_a_stream_that_is_canceled_says_so(
    client: httpx.AsyncClient, slow: EchoEngine
) -> None:
    made = await create(client, {"prompt": LONG}, stream=True)
    names: list[str | None] = []
    async with client.stream("GET", made["urls"]["stream"]) as response:
        async for event in events(response):
            if not names:
                (await client.post(made["urls"]["cancel"])).raise_for_status()
            names.append(event.event)
            last = event.data
    assert names[-1] == "done"
    assert set(names[:-1]) == {"output"}
    assert last == '{"reason":"canceled"}'
    await eventually(lambda: not slow.busy, what="the slot is free")


async def test_a_stream_of_what_fails_is_an_event_too(
    client: httpx.AsyncClient, worker: None
) -> None:
    made = await create(client, {"prompt": LONG, "max_tokens": 4_000}, stream=True)
    error, done = await all_events(client, "GET", made["urls"]["stream"])
    assert error.event == "error"
    assert "4,096 together" in error.json()["detail"]
    assert (done.event, done.json()) == ("done", {"reason": "error"})


async def test_readers_of_one_prediction_do_not_disturb_one_another(
    client: httpx.AsyncClient, slow: EchoEngine
) -> None:
    said = " ".join(f"w{number}" for number in range(40))
    made = await create(client, {"prompt": said}, stream=True)
    reading = [
        asyncio.create_task(all_events(client, "GET", made["urls"]["stream"])) for _ in range(3)
    ]
    async with client.stream("GET", made["urls"]["stream"]) as response:
        async for _ in events(response):
            break  # one of them leaves
    for told in await asyncio.gather(*reading):
        assert "".join(event.data for event in told[:-1]) == said


async def cut(client: httpx.AsyncClient, url: str, at: int) -> tuple[str, str]:
    """What a client has of a stream that is cut after so many bytes, and its last event's id."""
    data = b""
    async with client.stream("GET", url) as response:
        async for some in response.aiter_bytes():
            data += some
            if len(data) >= at:
                break
    whole, _, _ = data[:at].rpartition(b"\n\n")
    read = list(SSEDecoder().iter_bytes(iter([whole + b"\n\n"])))
    text = "".join(event.data for event in read if event.event == "output")
    return text, (read[-1].id if read else None) or "0"


async def test_streams_cut_anywhere_go_on_at_another_gateway_to_the_same_text(
    client: httpx.AsyncClient, settings: Settings, redis_url: str, keys: Keys
) -> None:
    said = POEM * 8
    chance = random.Random(7)
    generator = EchoGenerator(GenerationTable(slots=20, tokens_per_s=2_000))

    async def once(elsewhere: httpx.AsyncClient) -> str:
        made = await create(client, {"prompt": said}, stream=True)
        path = httpx.URL(made["urls"]["stream"]).path
        first, last = await cut(client, path, chance.randrange(1, 40 * len(said.split())))
        rest = await all_events(elsewhere, "GET", path, headers={"Last-Event-ID": last})
        return first + "".join(event.data for event in rest if event.event == "output")

    async with (
        generating(redis_url, keys, generator),
        running_gateway(settings, catalog=CATALOG) as other,
        httpx.AsyncClient(base_url=other.url, timeout=PATIENCE_S) as elsewhere,
    ):
        for _ in range(5):
            read = await asyncio.gather(*(once(elsewhere) for _ in range(20)))
            assert set(read) == {said}


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"version": "echo", "input": {"value": 1}, "stream": True}, "stream"),
        ({"version": "parrot", "input": {"prompt": ["a", "b"]}, "stream": True}, "stream"),
        ({"version": "parrot", "input": {"prompt": "a", "stream": True}}, "input.stream"),
        ({"version": "parrot", "input": {"prompt": "a", "max_tokens": -1}}, "input.max_tokens"),
        ({"version": "parrot", "input": {"messages": []}}, "input.messages"),
    ],
)
async def test_what_is_wrong_is_named(
    client: httpx.AsyncClient, body: dict[str, Any], param: str
) -> None:
    answer = await client.post("/v1/predictions", json=body)
    assert (answer.status_code, answer.json()["param"]) == (422, param)


async def test_there_is_no_stream_of_what_is_not_there_or_has_no_text(
    client: httpx.AsyncClient,
) -> None:
    missing = f"/v1/predictions/parrot-0-{'0' * 20}/stream"
    assert (await client.get(missing)).status_code == 404
    made = await client.post("/v1/predictions", json={"version": "echo", "input": {"value": 1}})
    assert "stream" not in made.json()["urls"]
    answer = await client.get(f"{made.json()['urls']['get']}/stream")
    assert answer.status_code == 400
    assert "generates no text" in answer.json()["detail"]
    made = await client.post(
        "/v1/predictions", json={"version": "parrot", "input": {"prompt": "a"}}
    )
    wrong = {"Last-Event-ID": "first"}
    answer = await client.get(made.json()["urls"]["stream"], headers=wrong)
    assert (answer.status_code, answer.json()["param"]) == (422, "Last-Event-ID")


async def test_the_schema_says_what_a_model_of_texts_takes(client: httpx.AsyncClient) -> None:
    told = (await client.get("/v1/models/parrot/schema")).json()
    properties = told["input"]["$defs"]["GenerationInput"]["properties"]
    assert {"prompt", "messages", "max_tokens", "temperature", "stop"} <= set(properties)
    assert properties["max_tokens"]["description"].startswith("Most tokens to generate")


async def test_tensors_of_prompts_come_back_as_tensors_of_texts(
    gateway: Gateway, worker: None
) -> None:
    async with http_aio.InferenceServerClient(gateway.url.removeprefix("http://")) as client:
        described = await client.get_model_metadata("parrot")
        assert [tensor["name"] for tensor in described["inputs"]] == ["text"]
        assert [tensor["name"] for tensor in described["outputs"]] == ["text"]
        result = await client.infer(
            "parrot", [texts(http, ["a b c", POEM])], parameters={"max_tokens": 2, "stop": " the"}
        )
        told = result.as_numpy("text")
        assert told is not None
        assert np.char.decode(told.astype(bytes)).tolist() == ["a b", "Over"]
        with pytest.raises(Exception, match="temperature"):
            await client.infer("parrot", [texts(http, ["a"])], parameters={"temperature": 9.0})
        with pytest.raises(Exception, match="max_tokens is for models that generate text"):
            await client.infer("echo", [texts(http, ["a"])], parameters={"max_tokens": 2})
