"""Generated text over the predictions API and the Open Inference Protocol, with a real worker."""

import asyncio
import functools
import random
from collections.abc import AsyncIterator
from typing import Any

import httpx
import numpy as np
import pytest
import tritonclient.http as http
import tritonclient.http.aio as http_aio
from openai._streaming import SSEDecoder

from forebay.contract.generation import Chunk, Finish, GenerationTable
from forebay.contract.model import BackendName, ModelSpec
from forebay.contract.rows import Task
from forebay.gateway.dialects.replicate.streams import split
from forebay.gateway.sse import event as encoded
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
def catalog() -> Catalog:
    return CATALOG


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
    web: httpx.AsyncClient, input_: Any, *, stream: bool = False, wait: bool = False
) -> dict[str, Any]:
    answer = await web.post(
        "/v1/predictions",
        json={"version": "parrot", "input": input_, "stream": stream},
        headers={"Prefer": "wait"} if wait else {},
    )
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


async def test_the_output_of_a_prompt_is_a_text_and_of_prompts_a_list(
    web: httpx.AsyncClient, worker: None
) -> None:
    assert (await create(web, {"prompt": POEM}, wait=True))["output"] == POEM
    assert (await create(web, {"messages": MESSAGES}, wait=True))["output"] == POEM
    several = await create(web, {"prompt": ["a b", "c"], "max_tokens": 1}, wait=True)
    assert several["output"] == ["a", "c"]
    shown = (await web.get(several["urls"]["get"])).json()
    assert shown["output"] == ["a", "c"]


async def test_a_stream_is_read_at_the_url_that_the_prediction_tells(
    web: httpx.AsyncClient, worker: None
) -> None:
    made = await create(web, {"prompt": POEM}, stream=True)
    assert made["status"] == "starting"
    told = await all_events(web, "GET", made["urls"]["stream"])
    assert {event.event for event in told[:-1]} == {"output"}
    assert "".join(event.data for event in told[:-1]) == POEM
    assert (told[-1].event, told[-1].data) == ("done", "{}")
    assert all(event.id for event in told)
    assert (await web.head(made["urls"]["stream"])).headers["content-type"].startswith("text/ev")
    # What has ended can be read again, as a stream and as a whole.
    again = await all_events(web, "GET", made["urls"]["stream"])
    assert [(e.event, e.data, e.id) for e in again] == [(e.event, e.data, e.id) for e in told]
    assert (await web.get(made["urls"]["get"])).json()["output"] == POEM


async def test_a_stream_goes_on_after_any_of_its_events(
    web: httpx.AsyncClient, worker: None
) -> None:
    made = await create(web, {"prompt": POEM}, stream=True)
    told = await all_events(web, "GET", made["urls"]["stream"])
    for at, event in enumerate(told[:-1]):
        assert event.id
        headers = {"Last-Event-ID": event.id}
        rest = await all_events(web, "GET", made["urls"]["stream"], headers=headers)
        assert [(e.event, e.data) for e in rest] == [(e.event, e.data) for e in told[at + 1 :]]


async def test_an_event_that_never_came_is_nothing_to_go_on_after(
    web: httpx.AsyncClient, worker: None
) -> None:
    for stream in (True, False):
        made = await create(web, {"prompt": POEM}, stream=stream)
        await all_events(web, "GET", made["urls"]["stream"])
        answer = await web.get(made["urls"]["stream"], headers={"Last-Event-ID": "999"})
        assert (answer.status_code, answer.json()["param"]) == (422, "Last-Event-ID")


def test_line_ends_come_as_one_wherever_they_are_cut() -> None:
    said = "a\r\nb\r\r\nc\rd\r"
    chunk = functools.partial(Chunk, "", 0)
    assert split(chunk(1, "a\r")) == ("a", "\r")
    assert split(chunk(2, "\nb"), "\r") == ("\r\nb", "")
    assert split(chunk(2, "", finish=Finish.STOP), "\r") == ("\r", "")
    for at in range(len(said)):
        first, held = split(chunk(1, said[:at]))
        second, rest = split(chunk(2, said[at:], finish=Finish.STOP), held)
        told = "".join(
            "\n".join(line[6:] for line in encoded(text.encode()).decode().split("\n")[:-2])
            for text in (first, second)
            if text
        )
        assert (told, rest) == ("a\nb\n\nc\nd\n", "")


async def test_what_was_not_made_as_a_stream_is_told_in_one_event(
    web: httpx.AsyncClient, worker: None
) -> None:
    made = await create(web, {"prompt": POEM})
    told = await all_events(web, "GET", made["urls"]["stream"])
    assert [(event.event, event.data) for event in told] == [("output", POEM), ("done", "{}")]


async def test_a_stream_that_is_canceled_says_so(web: httpx.AsyncClient, slow: EchoEngine) -> None:
    made = await create(web, {"prompt": LONG}, stream=True)
    names: list[str | None] = []
    async with web.stream("GET", made["urls"]["stream"]) as response:
        async for event in events(response):
            if not names:
                (await web.post(made["urls"]["cancel"])).raise_for_status()
            names.append(event.event)
            last = event.data
    assert names[-1] == "done"
    assert set(names[:-1]) == {"output"}
    assert last == '{"reason":"canceled"}'
    await eventually(lambda: not slow.busy, what="the slot is free")


async def test_a_stream_of_what_fails_is_an_event_too(web: httpx.AsyncClient, worker: None) -> None:
    made = await create(web, {"prompt": LONG, "max_tokens": 4_000}, stream=True)
    error, done = await all_events(web, "GET", made["urls"]["stream"])
    assert error.event == "error"
    assert "4,096 together" in error.json()["detail"]
    assert (done.event, done.json()) == ("done", {"reason": "error"})


async def test_readers_of_one_prediction_do_not_disturb_one_another(
    web: httpx.AsyncClient, slow: EchoEngine
) -> None:
    said = " ".join(f"w{number}" for number in range(40))
    made = await create(web, {"prompt": said}, stream=True)
    reading = [
        asyncio.create_task(all_events(web, "GET", made["urls"]["stream"])) for _ in range(3)
    ]
    async with web.stream("GET", made["urls"]["stream"]) as response:
        async for _ in events(response):
            break  # one of them leaves
    for told in await asyncio.gather(*reading):
        assert "".join(event.data for event in told[:-1]) == said


async def cut(web: httpx.AsyncClient, url: str, at: int) -> tuple[str, str]:
    """What a client has of a stream that is cut after so many bytes, and its last event's id."""
    data = b""
    async with web.stream("GET", url) as response:
        async for some in response.aiter_bytes():
            data += some
            if len(data) >= at:
                break
    whole, _, _ = data[:at].rpartition(b"\n\n")
    read = list(SSEDecoder().iter_bytes(iter([whole + b"\n\n"])))
    text = "".join(event.data for event in read if event.event == "output")
    return text, (read[-1].id if read else None) or "0"


async def test_streams_cut_anywhere_go_on_at_another_gateway_to_the_same_text(
    web: httpx.AsyncClient, settings: Settings, redis_url: str, keys: Keys
) -> None:
    said = POEM * 8
    chance = random.Random(7)
    generator = EchoGenerator(GenerationTable(slots=20, tokens_per_s=2_000))

    async def once(elsewhere: httpx.AsyncClient) -> str:
        made = await create(web, {"prompt": said}, stream=True)
        path = httpx.URL(made["urls"]["stream"]).path
        first, last = await cut(web, path, chance.randrange(1, 40 * len(said.split())))
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
    web: httpx.AsyncClient, body: dict[str, Any], param: str
) -> None:
    answer = await web.post("/v1/predictions", json=body)
    assert (answer.status_code, answer.json()["param"]) == (422, param)


async def test_there_is_no_stream_of_what_is_not_there_or_has_no_text(
    web: httpx.AsyncClient,
) -> None:
    missing = f"/v1/predictions/parrot-0-{'0' * 20}/stream"
    assert (await web.get(missing)).status_code == 404
    made = await web.post("/v1/predictions", json={"version": "echo", "input": {"value": 1}})
    assert "stream" not in made.json()["urls"]
    answer = await web.get(f"{made.json()['urls']['get']}/stream")
    assert answer.status_code == 400
    assert "generates no text" in answer.json()["detail"]
    made = await web.post("/v1/predictions", json={"version": "parrot", "input": {"prompt": "a"}})
    wrong = {"Last-Event-ID": "first"}
    answer = await web.get(made.json()["urls"]["stream"], headers=wrong)
    assert (answer.status_code, answer.json()["param"]) == (422, "Last-Event-ID")


async def test_the_schema_says_what_a_model_of_texts_takes(web: httpx.AsyncClient) -> None:
    told = (await web.get("/v1/models/parrot/schema")).json()
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
