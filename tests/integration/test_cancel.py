"""Predictions that nobody wants any more: they end at once, and what has not begun never runs."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

import httpx
import pytest

from forebay.contract.model import BatchLimits
from forebay.contract.prediction import Lane, PredictionId, Status
from forebay.lanes.depth import depth
from forebay.lanes.keys import Keys
from forebay.runtime.redis import Commands, connect
from forebay.runtime.settings import Settings
from tests.fixtures.answering import answering
from tests.fixtures.gateway import Gateway, running_gateway
from tests.fixtures.gateway_end import GatewayEnd, gateway_end, values
from tests.fixtures.lanes import enqueue, finish, join, read, submission
from tests.fixtures.servers import TIMEOUT_S, LaneServer
from tests.fixtures.stages import Shout, stages
from tests.fixtures.waiting import PATIENCE_S, eventually

ONE_BY_ONE = BatchLimits(max_rows=1)


@pytest.fixture
async def gateway(redis_url: str, key_prefix: str) -> AsyncIterator[Gateway]:
    async with running_gateway(Settings(redis_url=redis_url, key_prefix=key_prefix)) as running:
        yield running


@pytest.fixture
async def client(gateway: Gateway) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=gateway.url, timeout=PATIENCE_S) as client:
        yield client


@pytest.fixture
async def end(redis_url: str, keys: Keys) -> AsyncIterator[GatewayEnd]:
    async with gateway_end(redis_url, keys) as made:
        yield made


@pytest.fixture
async def commands(redis_url: str) -> AsyncIterator[Commands]:
    redis = connect(redis_url, timeout_s=TIMEOUT_S)
    yield redis
    await redis.aclose()


async def create(client: httpx.AsyncClient, value: Any, **headers: str) -> dict[str, Any]:
    body = {"version": "echo", "input": {"value": value}}
    answer = await client.post("/v1/predictions", json=body, headers=headers)
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


async def rows(commands: Commands, keys: Keys, model: str = "echo") -> int:
    told = await depth(commands, keys.of(model), now_ms=0)
    return told.realtime + told.bulk


async def test_workers_are_told_what_ended_of_what_they_hold_and_of_nothing_else(
    lanes: LaneServer,
) -> None:
    queued, held, bulk = submission(), submission(1, 1), submission(lane=Lane.BULK)
    await enqueue(lanes, held, bulk, queued)
    worker = await join(lanes)
    leases = {d.lease for d in await read(worker, 2)}
    async with lanes.client(blocking=True).pubsub() as pubsub:
        await pubsub.subscribe(lanes.echo.endings)
        await pubsub.get_message(timeout=PATIENCE_S)
        for one in (queued, bulk, held):
            await finish(lanes, one.id)
        message = await pubsub.get_message(timeout=PATIENCE_S)
        assert message is not None
        told = message["data"].decode().split()
        assert sorted(told) == sorted(f"{lane.value}:{entry.decode()}" for lane, entry in leases)
        assert await pubsub.get_message(timeout=0.05) is None


async def test_a_queued_prediction_is_canceled_and_leaves_its_lane(
    client: httpx.AsyncClient, commands: Commands, keys: Keys
) -> None:
    made = await create(client, 1)
    assert made["urls"]["cancel"].endswith(f"/v1/predictions/{made['id']}/cancel")
    answer = await client.post(f"/v1/predictions/{made['id']}/cancel")
    assert answer.status_code == 200
    assert answer.json()["status"] == "canceled"
    assert answer.json()["completed_at"] is not None
    assert await rows(commands, keys) == 0
    again = await client.post(f"/v1/predictions/{made['id']}/cancel")
    assert again.json() == answer.json()


async def test_canceling_what_has_ended_changes_nothing_and_what_never_was_is_404(
    client: httpx.AsyncClient, redis_url: str, keys: Keys
) -> None:
    async with answering(redis_url, keys, "echo"):
        made = await create(client, 1, Prefer="wait")
    assert made["status"] == "succeeded"
    answer = await client.post(f"/v1/predictions/{made['id']}/cancel")
    assert (answer.status_code, answer.json()["status"]) == (200, "succeeded")
    for unknown in (PredictionId.new("echo").text, "nonsense"):
        answer = await client.post(f"/v1/predictions/{unknown}/cancel")
        assert answer.status_code == 404


async def test_who_waits_for_a_canceled_prediction_is_told(
    client: httpx.AsyncClient, commands: Commands, keys: Keys
) -> None:
    waiting = asyncio.create_task(create(client, 1, Prefer="wait=30"))
    (id_,) = await eventually(lambda: _predictions(commands, keys))
    await client.post(f"/v1/predictions/{id_}/cancel")
    told = await asyncio.wait_for(waiting, PATIENCE_S)
    assert told["status"] == "canceled"


async def _predictions(commands: Commands, keys: Keys) -> list[str]:
    found = await commands.execute_command("ZRANGE", keys.of("echo").deadlines, 0, -1)
    return [raw.decode() for raw in found]


async def test_what_runs_is_canceled_and_its_result_is_dropped(
    client: httpx.AsyncClient, redis_url: str, keys: Keys, commands: Commands
) -> None:
    backend = Shout()
    backend.free.clear()
    async with stages(redis_url, keys, backend) as working:
        made = await create(client, "running")
        await eventually(lambda: backend.batches)
        canceled = (await client.post(f"/v1/predictions/{made['id']}/cancel")).json()
        await eventually(lambda: not working.held)
        backend.free.set()
    shown = (await client.get(f"/v1/predictions/{made['id']}")).json()
    assert (canceled["status"], shown["status"], shown["output"]) == ("canceled", "canceled", None)
    assert await rows(commands, keys) == 0


async def test_what_a_worker_holds_but_has_not_begun_never_runs_once_canceled(
    redis_url: str, keys: Keys, end: GatewayEnd, client: httpx.AsyncClient
) -> None:
    backend = Shout()
    backend.free.clear()
    async with stages(redis_url, keys, backend, limits=ONE_BY_ONE) as working:
        plugs = [end.send(values(b'"plug"')) for _ in range(2)]
        await eventually(lambda: backend.batches)
        held = [end.send(values(b'"unwanted"')) for _ in range(20)]
        await eventually(lambda: len(working.held) == 22)
        for waiter in held:
            await client.post(f"/v1/predictions/{waiter.id.text}/cancel")
            assert (await waiter.future)[0].status is Status.CANCELED
        await eventually(lambda: len(working.held) == 2)
        backend.free.set()
        for plug in plugs:
            await plug.future
    assert backend.batches == [[b'"plug"'], [b'"plug"']]


async def test_a_worker_that_hears_of_the_end_before_it_has_the_lease_does_not_run_it(
    redis_url: str, keys: Keys, end: GatewayEnd
) -> None:
    unwanted, wanted = end.send(values(b'"unwanted"')), end.send(values(b'"wanted"'))
    await eventually(lambda: wanted.enqueued)
    record = await end.records.record(unwanted.id)
    assert record is not None
    backend = Shout()
    async with stages(redis_url, keys, backend, limits=ONE_BY_ONE) as working:
        # Nothing is leased yet.
        working.drop({(Lane.REALTIME, entry.encode()) for entry in record.entries})
        await wanted.future
        await eventually(lambda: not working.held)
    assert backend.batches == [[b'"wanted"']]


async def test_a_worker_that_missed_the_word_finds_out_when_it_listens_again(
    redis_url: str, keys: Keys, end: GatewayEnd, client: httpx.AsyncClient, commands: Commands
) -> None:
    backend = Shout()
    backend.free.clear()
    async with stages(redis_url, keys, backend, limits=ONE_BY_ONE) as working:
        plugs = [end.send(values(b'"plug"')) for _ in range(2)]
        await eventually(lambda: backend.batches)
        unwanted = end.send(values(b'"unwanted"'))
        await eventually(lambda: len(working.held) == 3)
        # End it behind the worker's back, then break its subscription.
        lane = keys.of("echo").lane(Lane.REALTIME)
        record = await end.records.record(unwanted.id)
        assert record is not None
        await commands.execute_command("XACK", lane, "workers", *record.entries)
        await commands.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
        await eventually(lambda: len(working.held) == 2)
        backend.free.set()
        for plug in plugs:
            await plug.future
    assert [b'"unwanted"'] not in backend.batches


@pytest.mark.parametrize("path", ["/v1/predictions", "/v1/embeddings"])
async def test_a_client_that_goes_away_takes_its_request_with_it(
    gateway: Gateway, commands: Commands, keys: Keys, path: str
) -> None:
    model = "echo" if path == "/v1/predictions" else "minilm"
    connections = [await send(gateway, path, number) for number in range(50)]
    await eventually(lambda: _holds(commands, keys, model, 50))
    for writer in connections:
        writer.close()
    await eventually(lambda: _holds(commands, keys, model, 0))


async def _holds(commands: Commands, keys: Keys, model: str, count: int) -> bool:
    return await rows(commands, keys, model) == count


async def test_a_client_that_goes_away_at_once_is_noticed_too(
    gateway: Gateway, client: httpx.AsyncClient, commands: Commands, keys: Keys, redis_url: str
) -> None:
    """Its request may be on its way to Redis at that moment."""
    for number in range(50):
        (await send(gateway, "/v1/predictions", number)).close()
    # Who comes after them is answered after they were heard.
    assert (await client.get("/health/live")).status_code == 200
    await eventually(lambda: not gateway.busy)
    await eventually(lambda: _holds(commands, keys, "echo", 0))
    backend = Shout()
    async with stages(redis_url, keys, backend):
        await create(client, "last", Prefer="wait")
    assert backend.batches == [[b'"last"']]


async def test_a_prediction_whose_client_has_its_id_goes_on_without_it(
    gateway: Gateway, client: httpx.AsyncClient, commands: Commands, keys: Keys
) -> None:
    made = await create(client, 1)
    await client.aclose()
    await eventually(lambda: not gateway.connected, what="the gateway has noticed")
    assert await rows(commands, keys) == 1
    async with httpx.AsyncClient(base_url=gateway.url, timeout=PATIENCE_S) as other:
        shown = (await other.get(f"/v1/predictions/{made['id']}")).json()
    assert shown["status"] == "starting"


async def test_cancel_after_is_the_deadline_if_it_is_sooner(client: httpx.AsyncClient) -> None:
    soon = await create(client, 1, **{"Cancel-After": "90s"})
    late = await create(client, 1, **{"Cancel-After": "1000h"})
    plain = await create(client, 1)
    assert seconds_of(soon) == pytest.approx(90, abs=0.01)
    assert seconds_of(late) == seconds_of(plain)
    refused = await client.post(
        "/v1/predictions",
        json={"version": "echo", "input": {"value": 1}},
        headers={"Cancel-After": "soon"},
    )
    assert refused.status_code == 422
    assert "1h30m" in refused.text


def seconds_of(prediction: dict[str, Any]) -> float:
    created, deadline = (
        datetime.fromisoformat(prediction[name]) for name in ("created_at", "deadline")
    )
    return (deadline - created).total_seconds()


async def send(gateway: Gateway, path: str, number: int) -> asyncio.StreamWriter:
    """Send a request that waits, and leave the answer unread."""
    body: dict[str, Any] = {"version": "echo", "input": {"value": number}}
    if path == "/v1/embeddings":
        body = {"model": "minilm", "input": f"text {number}"}
    data = json.dumps(body).encode()
    host, port = gateway.url.removeprefix("http://").split(":")
    _, writer = await asyncio.open_connection(host, int(port))
    writer.write(
        b"POST %s HTTP/1.1\r\nHost: x\r\nPrefer: wait\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n%s" % (path.encode(), len(data), data)
    )
    await writer.drain()
    return writer
