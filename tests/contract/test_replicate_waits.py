"""How long Replicate's client waits, and what it is told when that runs out, or something dies."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from replicate.client import Client
from replicate.exceptions import ReplicateError
from replicate.stream import EventSource

from forebay.contract.generation import GenerationTable
from forebay.inference.generation.echo import EchoGenerator
from forebay.lanes.keys import Keys
from forebay.lanes.sweeps import expire_overdue
from forebay.local.server import free_port
from forebay.runtime.catalog import Catalog
from forebay.runtime.redis import connect
from forebay.runtime.settings import Settings
from tests.fixtures.answering import answering
from tests.fixtures.gateway import Gateway, running_gateway
from tests.fixtures.generating import generating
from tests.fixtures.lanes import join, read, settlement
from tests.fixtures.replicating import CATALOG, PARROTS, Versions, aside, client_of, hang_up
from tests.fixtures.servers import TIMEOUT_S, LaneServer, Server
from tests.fixtures.waiting import PATIENCE_S, eventually

ECHO: dict[str, Any] = {"version": "forebay/echo", "input": {"value": 1}}
LONG = " ".join(f"w{number}" for number in range(1_000))
SAID = " ".join(f"w{number}" for number in range(30))


@pytest.fixture
def catalog() -> Catalog:
    return CATALOG


@pytest.fixture
async def gateway(settings: Settings, catalog: Catalog) -> AsyncIterator[Gateway]:
    async with running_gateway(settings, catalog=catalog, versions=Versions()) as running:
        yield running


@pytest.fixture
async def hosted(gateway: Gateway) -> AsyncIterator[httpx.AsyncClient]:
    url = f"{gateway.url}/replicate"
    async with httpx.AsyncClient(base_url=url, timeout=PATIENCE_S) as client:
        yield client


class Told(httpx.AsyncHTTPTransport):
    """Remembers each answer's status, of those as well that the client asks again for."""

    def __init__(self) -> None:
        super().__init__()
        self.statuses: list[int] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response = await super().handle_async_request(request)
        self.statuses.append(response.status_code)
        return response


def parrot(*, tokens_per_s: float) -> EchoGenerator:
    return EchoGenerator(GenerationTable(tokens_per_s=tokens_per_s))


@pytest.mark.parametrize(
    ("prefer", "waited"),
    [
        ("", False),
        ("respond-async", False),
        ("handling=strict", False),
        ("wait", True),
        ("wait=60", True),
        ("respond-async, wait=60", True),
    ],
)
async def test_who_prefers_to_wait_gets_the_end(
    hosted: httpx.AsyncClient, redis_url: str, keys: Keys, prefer: str, waited: bool
) -> None:
    headers = {"Prefer": prefer} if prefer else {}
    if not waited:  # and no worker is there to be faster than the answer
        told = (await hosted.post("/v1/predictions", json=ECHO, headers=headers)).json()
        assert (told["status"], told["output"]) == ("starting", None)
        return
    async with answering(redis_url, keys, "echo"):
        told = (await hosted.post("/v1/predictions", json=ECHO, headers=headers)).json()
    assert (told["status"], told["output"], told["model"]) == ("succeeded", 1, "forebay/echo")


@pytest.mark.parametrize("prefer", ["wait=0", "wait=61", "wait=soon"])
async def test_a_wait_that_nobody_can_have_is_refused_before_anything_is_made(
    hosted: httpx.AsyncClient, prefer: str
) -> None:
    answer = await hosted.post("/v1/predictions", json=ECHO, headers={"Prefer": prefer})
    assert (answer.status_code, answer.json()["param"]) == (422, "Prefer")
    assert (await hosted.get("/v1/predictions")).json()["results"] == []


async def test_the_client_is_told_of_a_wait_that_is_too_long(replicate: Client) -> None:
    with pytest.raises(ReplicateError, match="from 1 to 60") as refused:
        await aside(lambda: replicate.predictions.create("echo", {"value": 1}, wait=61))
    assert refused.value.status == 422


async def test_a_wait_that_runs_out_ends_in_polling_that_ends_well(
    replicate: Client, redis_url: str, keys: Keys
) -> None:
    made = await aside(lambda: replicate.predictions.create("echo", {"value": 1}, wait=1))
    assert (made.status, made.output) == ("starting", None)
    async with answering(redis_url, keys, "echo"):
        await aside(made.wait)
    assert (made.status, made.output) == ("succeeded", 1)


async def test_run_of_what_takes_longer_than_its_wait_gives_all_of_it(
    replicate: Client, redis_url: str, keys: Keys
) -> None:
    async with generating(redis_url, keys, parrot(tokens_per_s=20)):
        for ref in ("forebay/parrot", f"forebay/parrot:{PARROTS}"):

            def run(ref: str = ref) -> str:
                return "".join(replicate.run(ref, {"prompt": SAID}, wait=1))

            assert await aside(run) == SAID


async def test_what_is_asked_for_again_while_it_runs_is_starting_so_that_the_client_polls(
    hosted: httpx.AsyncClient, real_lanes: LaneServer
) -> None:
    worker = await join(real_lanes)
    headers = {"Idempotency-Key": "again"}
    first = (await hosted.post("/v1/predictions", json=ECHO, headers=headers)).json()
    (delivery,) = await read(worker, 1)
    assert (await hosted.get(first["urls"]["get"])).json()["status"] == "processing"
    headers["Prefer"] = "wait=1"
    again = (await hosted.post("/v1/predictions", json=ECHO, headers=headers)).json()
    assert (again["id"], again["status"]) == (first["id"], "starting")
    await worker.settle([settlement(delivery)])
    again = (await hosted.post("/v1/predictions", json=ECHO, headers=headers)).json()
    assert (again["id"], again["status"]) == (first["id"], "succeeded")


async def test_a_wait_ends_with_the_time_after_which_it_is_canceled(
    hosted: httpx.AsyncClient, redis_url: str, keys: Keys
) -> None:
    async def sweep() -> None:
        """What the background does."""
        redis = connect(redis_url, timeout_s=TIMEOUT_S)
        try:
            await eventually(lambda: expire_overdue(redis, keys.of("echo")))
        finally:
            await redis.aclose()

    headers = {"Prefer": "wait", "Cancel-After": "1s"}
    sweeping = asyncio.create_task(sweep())
    told = (await hosted.post("/v1/predictions", json=ECHO, headers=headers)).json()
    await asyncio.wait_for(sweeping, PATIENCE_S)
    assert (told["status"], told["output"]) == ("canceled", None)
    assert "before its deadline" in told["error"]
    assert (await hosted.get(told["urls"]["get"])).json()["status"] == "canceled"


async def test_a_gateway_that_is_restarted_loses_nothing_that_is_polled_for(
    gateway: Gateway, settings: Settings, redis_url: str, keys: Keys
) -> None:
    port = free_port()  # that nobody is given meanwhile
    async with running_gateway(settings, catalog=CATALOG, versions=Versions(), port=port) as first:
        replicate = client_of(first)
        made = await replicate.predictions.async_create("echo", {"value": 1})
        await made.async_reload()
    with pytest.raises(httpx.HTTPError):
        await made.async_reload()  # nobody is there
    async with running_gateway(settings, catalog=CATALOG, versions=Versions(), port=port):
        waiting = asyncio.create_task(made.async_wait())
        async with answering(redis_url, keys, "echo"):
            await asyncio.wait_for(waiting, PATIENCE_S)
    assert (made.status, made.output) == ("succeeded", 1)
    await hang_up(replicate)


async def test_polls_that_are_refused_while_redis_is_silent_are_sent_again(
    private_server: Server, key_prefix: str, keys: Keys
) -> None:
    settings = Settings(redis_url=private_server.url, key_prefix=key_prefix, redis_timeout_s=4)
    told = Told()
    async with running_gateway(settings, catalog=CATALOG, versions=Versions()) as running:
        replicate = client_of(running, transport=told)
        made = await replicate.predictions.async_create("echo", {"value": 1})
        private_server.pause()
        reading = asyncio.create_task(replicate.predictions.async_get(made.id))
        await eventually(lambda: 503 in told.statuses, what="it is refused")
        private_server.resume()
        assert (await asyncio.wait_for(reading, PATIENCE_S)).status == "starting"
        async with answering(private_server.url, keys, "echo"):
            await asyncio.wait_for(made.async_wait(), PATIENCE_S)
        assert made.output == 1
        await hang_up(replicate)


async def test_a_stream_that_its_gateway_has_to_leave_says_so_and_goes_on_at_another(
    gateway: Gateway, settings: Settings, replicate: Client, redis_url: str, keys: Keys
) -> None:
    async with (
        generating(redis_url, keys, parrot(tokens_per_s=20)),
        running_gateway(settings, catalog=CATALOG, versions=Versions()) as leaving,
    ):
        here = client_of(leaving)
        made = await here.predictions.async_create(
            model="forebay/parrot", input={"prompt": LONG}, stream=True
        )
        pieces: list[str] = []
        last = ""

        async def read() -> None:
            nonlocal last
            async for event in made.async_stream():
                pieces.append(str(event))
                last = event.id
                leaving.app.dispatch.abandon()

        with pytest.raises(RuntimeError, match="detail"):
            await read()
        assert last
        await hang_up(here)
        headers = {"Accept": "text/event-stream", "Last-Event-ID": last}
        path = f"/v1/predictions/{made.id}/stream"
        rest: list[str] = []
        async with replicate._async_client.stream("GET", path, headers=headers) as response:
            async for event in EventSource(replicate, response):
                rest.append(str(event))
                if len(rest) == 2:
                    await replicate.predictions.async_cancel(made.id)
    assert len(rest) > 2
    assert LONG.startswith("".join(pieces + rest))
    assert (event.event.value, event.data) == ("done", '{"reason":"canceled"}')
