"""Streams of real processes: killed gateways, killed workers, and workers that are told to end."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import openai
import pytest

from forebay.lanes.depth import counters
from forebay.lanes.keys import Keys
from forebay.local.server import free_port
from forebay.runtime.redis import connect
from tests.fixtures.cutting import Chat, Client, CutOff, Dialect, Failed, Reading
from tests.fixtures.fleet import Fleet, fleet
from tests.fixtures.servers import TIMEOUT_S
from tests.fixtures.waiting import PATIENCE_S, eventually

MODELS = """
[models.parrot]
task = "generation"
backend = "echo"

[models.parrot.generation]
tokens_per_s = 40

[models.quick]
task = "generation"
backend = "echo"

[models.quick.generation]
tokens_per_s = 200
slots = 32
"""
PROMPT = " ".join(f"word{number}" for number in range(120))


@pytest.fixture
def processes(tmp_path: Path, redis_url: str, key_prefix: str) -> Iterator[Fleet]:
    with fleet(
        tmp_path, MODELS, redis_url=redis_url, key_prefix=key_prefix, drain_s="3"
    ) as running:
        running.start("gateway")
        yield running


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(timeout=PATIENCE_S) as client:
        yield client


async def made(
    client: httpx.AsyncClient, url: str, prompt: str = PROMPT, *, model: str = "parrot"
) -> str:
    """A prediction that is to be read while it grows; its id."""
    body = {"version": model, "input": {"prompt": prompt}, "stream": True}
    answer = await client.post(f"{url}/v1/predictions", json=body)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


async def until_ready(client: httpx.AsyncClient, port: int) -> None:
    """Wait until the gateway at a port answers."""

    async def is_ready() -> bool:
        with contextlib.suppress(httpx.TransportError):
            answer = await client.get(f"http://127.0.0.1:{port}/health/ready")
            return answer.status_code == 200
        return False

    await eventually(is_ready, what="the other gateway is ready")


class Reader:
    """Reads a prediction's stream, from wherever it can be read.

    Attributes:
        text: what came so far.
        names: of the events.
    """

    def __init__(self, client: httpx.AsyncClient, id_: str) -> None:
        self.text = ""
        self.names: list[str] = []
        self.last_id = ""
        self._client = client
        self._id = id_

    async def read(self, url: str, *, events: int | None = None) -> None:
        """Read on, up to so many events."""
        headers = {"Accept": "text/event-stream"}
        if self.last_id:
            headers["Last-Event-ID"] = self.last_id
        path = f"{url}/v1/predictions/{self._id}/stream"
        async with self._client.stream("GET", path, headers=headers) as answer:
            assert answer.status_code == 200, await answer.aread()
            data: list[str] = []
            name = ""
            async for line in answer.aiter_lines():
                field, _, value = line.partition(": ")
                match field:
                    case "event":
                        name = value
                    case "id":
                        self.last_id = value
                    case "data":
                        data.append(value)
                    case "" if name:
                        self.names.append(name)
                        if name == "output":
                            self.text += "\n".join(data)
                        data, name = [], ""
                        if events is not None and len(self.names) >= events:
                            return
                    case _:
                        pass


async def test_a_stream_goes_on_at_another_gateway_where_one_was_killed(
    processes: Fleet, client: httpx.AsyncClient
) -> None:
    processes.start("worker", "parrot")
    await processes.ready("parrot")
    reader = Reader(client, await made(client, processes.url))
    await reader.read(processes.url, events=10)
    (gateway,) = processes.running("gateway")
    reading = asyncio.create_task(reader.read(processes.url))
    processes.end(gateway, kill=True)
    with pytest.raises(httpx.TransportError):
        await reading
    processes.port = free_port()
    processes.start("gateway", port=str(processes.port))
    await processes.ready("parrot")
    await reader.read(processes.url)
    assert reader.text == PROMPT
    assert reader.names[-1] == "done"


@pytest.mark.parametrize("kill", [True, False], ids=["killed", "told to end"])
async def test_a_stream_goes_on_where_its_worker_has_ended(
    processes: Fleet, client: httpx.AsyncClient, kill: bool
) -> None:
    # A grace that is too short for the streams to end in.
    first = processes.start("worker", "parrot", drain_s="2.2")
    await processes.ready("parrot")
    several = [Reader(client, await made(client, processes.url)) for _ in range(3)]
    reading = [asyncio.create_task(one.read(processes.url)) for one in several]
    await eventually(lambda: all(len(one.names) > 5 for one in several), what="events")
    processes.start("worker", "parrot")
    processes.end(first, kill=kill)
    assert all(len(one.names) < 100 for one in several)
    async with asyncio.timeout(PATIENCE_S):
        await asyncio.gather(*reading)
    assert [one.text for one in several] == [PROMPT] * 3


async def asked(url: str) -> tuple[str, list[str]]:
    """Have a response made in the background; its id, and what came of it until the gateway went.

    The client has no id of its own making, and reads on until it can't.
    """
    id_, pieces = "", list[str]()
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        stream = await client.responses.create(
            model="parrot", input=PROMPT, background=True, stream=True
        )
        async for event in stream:
            if event.type == "response.created":
                id_ = event.response.id
            elif event.type == "response.output_text.delta":
                pieces.append(event.delta)
                if len(pieces) == 5:
                    break
    return id_, pieces


async def test_a_response_in_the_background_outlives_its_gateway_and_its_worker(
    processes: Fleet,
) -> None:
    first = processes.start("worker", "parrot")
    await processes.ready("parrot")
    id_, begun = await asked(processes.url)
    (gateway,) = processes.running("gateway")
    processes.end(gateway, kill=True)
    processes.end(first, kill=True)
    processes.port = free_port()
    processes.start("gateway", port=str(processes.port))
    processes.start("worker", "parrot")
    await processes.ready("parrot")
    async with openai.AsyncOpenAI(base_url=f"{processes.url}/v1", api_key="none") as client:
        # Two before the text begins, three as it does, and five words: the last was number 9.
        rest = await client.responses.retrieve(id_, stream=True, starting_after=9)
        told = [event async for event in rest]
        assert told[-1].type == "response.completed"
        pieces = [event.delta for event in told if event.type == "response.output_text.delta"]
        assert "".join(begun + pieces) == PROMPT
        whole = await client.responses.retrieve(id_)
        assert (whole.status, whole.output_text) == ("completed", PROMPT)
        assert whole == told[-1].response


async def test_a_text_cut_at_any_byte_and_read_on_at_another_gateway_is_the_same(
    processes: Fleet, client: httpx.AsyncClient
) -> None:
    second = free_port()
    processes.start("gateway", port=str(second))
    for _ in range(2):
        processes.start("worker", "quick")
    await processes.ready("quick")
    ports = (processes.port, second)
    await until_ready(client, second)
    chance = random.Random(47)
    prompts = [
        " ".join(f"word{n}-{chance.randrange(10**6)}é" for n in range(40)) for _ in range(100)
    ]

    async def read(number: int, prompt: str) -> Client:
        if number % 2:
            body = {"model": "quick", "messages": [{"role": "user", "content": prompt}]}
            dialect: Dialect = Chat(f"text-{number}", body)
        else:
            dialect = Reading(await made(client, processes.url, prompt, model="quick"))
        reader, turn = Client(dialect), number
        while not reader.done:
            with contextlib.suppress(CutOff):
                await reader.read(ports[turn % 2], most=chance.randrange(1, 4_000))
            turn += 1
        return reader

    async with asyncio.timeout(120):
        readers = await asyncio.gather(*(read(n, prompt) for n, prompt in enumerate(prompts)))
    assert [reader.text for reader in readers] == prompts
    assert sum(reader.repeated for reader in readers) == 0
    assert sum(reader.cuts for reader in readers) > 100


async def test_what_a_killed_gateway_streamed_for_who_has_no_key_is_canceled(
    processes: Fleet, client: httpx.AsyncClient, redis_url: str, key_prefix: str
) -> None:
    leased = free_port()
    gateway = processes.start("gateway", port=str(leased), lease_s="3")
    processes.start("worker", "parrot")
    await processes.ready("parrot")
    await until_ready(client, leased)
    body = {"model": "parrot", "messages": [{"role": "user", "content": PROMPT}]}
    endless = {**body, "max_tokens": 3_000, "ignore_eos": True, "temperature": 0}

    kept = Client(Chat("mine", body))
    readers = [Client(Chat("", endless)), Client(Chat("", endless)), kept]
    reading = [asyncio.create_task(one.read(leased)) for one in readers]
    await eventually(lambda: all(one.text for one in readers), what="texts grow")
    processes.end(gateway, kill=True)
    for task in reading:
        with pytest.raises((CutOff, Failed)):
            await task
    redis = connect(redis_url, timeout_s=TIMEOUT_S)
    keys = Keys(key_prefix).of("parrot")

    async def canceled() -> bool:
        return (await counters(redis, keys)).get("canceled", 0) == 2

    await eventually(canceled, what="nobody's texts are canceled")
    await redis.aclose()
    await kept.read(processes.port)
    assert kept.text == PROMPT
