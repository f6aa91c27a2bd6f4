"""Streams of real processes: killed gateways, killed workers, and workers that are told to end."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest

from forebay.local.server import free_port
from tests.fixtures.fleet import Fleet, fleet
from tests.fixtures.waiting import PATIENCE_S, eventually

MODELS = """
[models.parrot]
task = "generation"
backend = "echo"

[models.parrot.generation]
tokens_per_s = 40
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


async def made(client: httpx.AsyncClient, url: str) -> str:
    """A prediction that is to be read while it grows; its id."""
    body = {"version": "parrot", "input": {"prompt": PROMPT}, "stream": True}
    answer = await client.post(f"{url}/v1/predictions", json=body)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


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
