"""Requests that come again: one prediction, however often, wherever and whenever they come."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from forebay.contract.prediction import PredictionId
from forebay.contract.rows import MAX_TEXT_CHARACTERS
from forebay.lanes.claims import Claims
from forebay.lanes.depth import depth
from forebay.lanes.keys import Keys
from forebay.runtime.redis import Commands, connect
from forebay.runtime.settings import Settings
from tests.fixtures.answering import answering
from tests.fixtures.gateway import Gateway, running_gateway
from tests.fixtures.lanes import fill_lane, ttl_ms
from tests.fixtures.servers import TIMEOUT_S, LaneServer
from tests.fixtures.waiting import PATIENCE_S, eventually

KEY = {"Idempotency-Key": "order 7"}
WAIT = {"Prefer": "wait"}
FINGERPRINT = "f" * 32


@pytest.fixture
async def gateways(redis_url: str, key_prefix: str) -> AsyncIterator[tuple[Gateway, Gateway]]:
    settings = Settings(redis_url=redis_url, key_prefix=key_prefix, drain_s=1)
    async with running_gateway(settings) as one, running_gateway(settings) as other:
        yield one, other


@pytest.fixture
async def clients(
    gateways: tuple[Gateway, Gateway],
) -> AsyncIterator[tuple[httpx.AsyncClient, httpx.AsyncClient]]:
    one, other = gateways
    async with (
        httpx.AsyncClient(base_url=one.url, timeout=PATIENCE_S) as first,
        httpx.AsyncClient(base_url=other.url, timeout=PATIENCE_S) as second,
    ):
        yield first, second


@pytest.fixture
async def commands(redis_url: str) -> AsyncIterator[Commands]:
    redis = connect(redis_url, timeout_s=TIMEOUT_S)
    yield redis
    await redis.aclose()


def echo(value: Any) -> dict[str, Any]:
    return {"version": "echo", "input": {"value": value}}


async def rows(commands: Commands, keys: Keys, model: str = "echo") -> int:
    told = await depth(commands, keys.of(model), now_ms=0)
    return told.realtime + told.bulk


async def test_a_name_is_claimed_once_and_stands_for_the_first_to_come(lanes: LaneServer) -> None:
    claims = Claims(lanes.redis, lanes.keys)
    first, second = PredictionId.new("echo"), PredictionId.new("echo")
    assert await claims.find("a") is None
    fresh = await claims.claim("a", first, FINGERPRINT, ttl_ms=60_000)
    taken = await claims.claim("a", second, "e" * 32, ttl_ms=60_000)
    assert (fresh.id, fresh.fresh) == (first, True)
    assert (taken.id, taken.fingerprint, taken.fresh) == (first, FINGERPRINT, False)
    assert await claims.find("a") == first
    assert await claims.find("b") is None
    assert 0 < await ttl_ms(lanes.redis, lanes.keys.claim("a")) <= 60_000


async def test_the_same_key_gives_the_same_prediction_at_any_gateway(
    clients: tuple[httpx.AsyncClient, httpx.AsyncClient], commands: Commands, keys: Keys
) -> None:
    one, other = clients
    answers = [
        await client.post("/v1/predictions", json=echo(1), headers=KEY)
        for client in (one, other, one)
    ]
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert await rows(commands, keys) == 1


async def test_many_at_once_enqueue_one_and_all_get_its_result(
    clients: tuple[httpx.AsyncClient, httpx.AsyncClient], redis_url: str, keys: Keys
) -> None:
    asked = [
        asyncio.create_task(
            client.post("/v1/predictions", json=echo("once"), headers={**KEY, **WAIT})
        )
        for client in clients
        for _ in range(10)
    ]
    async with answering(redis_url, keys, "echo") as delivered:
        told = [(await task).json() for task in asked]
    assert len(delivered) == 1
    assert {(one["id"], one["output"], one["status"]) for one in told} == {
        (told[0]["id"], "once", "succeeded")
    }


async def test_a_key_that_comes_with_another_body_is_refused(
    clients: tuple[httpx.AsyncClient, httpx.AsyncClient], commands: Commands, keys: Keys
) -> None:
    one, other = clients
    await one.post("/v1/predictions", json=echo(1), headers=KEY)
    for path, body in (
        ("/v1/predictions", echo(2)),
        ("/v1/embeddings", {"model": "minilm", "input": "a"}),
    ):
        answer = await other.post(path, json=body, headers=KEY)
        assert answer.status_code == 422
        assert "Idempotency-Key" in answer.text
    assert await rows(commands, keys) == 1
    assert await rows(commands, keys, "minilm") == 0


async def test_embeddings_come_again_without_being_made_again(
    clients: tuple[httpx.AsyncClient, httpx.AsyncClient], redis_url: str, keys: Keys
) -> None:
    body = {"model": "minilm", "input": ["a", "b"]}
    async with answering(redis_url, keys, "minilm") as delivered:
        answers = [
            await client.post("/v1/embeddings", json=body, headers=KEY)
            for client in (*clients, *clients)
        ]
        assert len(delivered) == 1
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.text for answer in answers}) == 1


async def test_a_name_whose_request_was_refused_is_free_again(
    clients: tuple[httpx.AsyncClient, httpx.AsyncClient],
    commands: Commands,
    redis_url: str,
    keys: Keys,
) -> None:
    one, other = clients
    await fill_lane(redis_url, keys, "narrow", 2)
    body = {"model": "narrow", "input": "c"}
    refused = await one.post("/v1/embeddings", json=body, headers=KEY)
    assert refused.status_code == 429
    assert await Claims(commands, keys).find("key:" + KEY["Idempotency-Key"]) is None
    made = await other.post("/v1/predictions", json=echo(1), headers=KEY)
    assert made.status_code == 201


@pytest.mark.parametrize(
    "body",
    [
        {"model": "narrow", "input": ["a", "b", "c"]},
        {"model": "minilm", "input": "a" * (MAX_TEXT_CHARACTERS + 1)},
    ],
    ids=["never fits", "too long"],
)
async def test_so_is_the_name_of_what_could_never_be_enqueued(
    clients: tuple[httpx.AsyncClient, httpx.AsyncClient], body: dict[str, Any]
) -> None:
    one, other = clients
    assert (await one.post("/v1/embeddings", json=body, headers=KEY)).status_code == 400
    made = await other.post("/v1/predictions", json=echo(1), headers=KEY)
    assert made.status_code == 201


async def test_an_id_of_forebays_own_form_is_not_taken(
    clients: tuple[httpx.AsyncClient, httpx.AsyncClient],
) -> None:
    answer = await clients[0].put(f"/v1/predictions/{PredictionId.new('echo').text}", json=echo(1))
    assert answer.status_code in (400, 422)
    assert "Forebay's own" in answer.text


async def test_a_failure_comes_again_as_it_was(
    clients: tuple[httpx.AsyncClient, httpx.AsyncClient], redis_url: str, keys: Keys
) -> None:
    body = {"model": "minilm", "input": "much too long " * 20}
    async with answering(redis_url, keys, "minilm") as delivered:
        answers = [
            await client.post("/v1/embeddings", json=body, headers=KEY) for client in clients
        ]
    assert len(delivered) == 1
    assert [answer.status_code for answer in answers] == [400, 400]
    messages = [answer.json()["error"]["message"] for answer in answers]
    assert messages[0] == messages[1]


async def test_who_claimed_a_name_and_died_before_enqueueing_is_stood_in_for(
    clients: tuple[httpx.AsyncClient, httpx.AsyncClient],
    redis_url: str,
    keys: Keys,
    commands: Commands,
) -> None:
    one, _ = clients
    # The name is claimed as a gateway would, and nothing is enqueued.
    first = await one.post("/v1/predictions", json=echo(1), headers=KEY)
    id_ = first.json()["id"]
    await one.post(f"/v1/predictions/{id_}/cancel")
    await commands.execute_command("DEL", keys.of("echo").record(id_))
    async with answering(redis_url, keys, "echo"):
        again = await one.post("/v1/predictions", json=echo(1), headers={**KEY, **WAIT})
    assert (again.json()["id"], again.json()["status"]) == (id_, "succeeded")


async def test_a_client_that_may_come_again_does_not_take_its_request_away(
    gateways: tuple[Gateway, Gateway], commands: Commands, keys: Keys
) -> None:
    async with httpx.AsyncClient(base_url=gateways[0].url, timeout=PATIENCE_S) as client:
        asked = asyncio.create_task(
            client.post("/v1/predictions", json=echo(1), headers={**KEY, **WAIT})
        )
        await eventually(lambda: _one(commands, keys))
        asked.cancel()
        await asyncio.wait([asked])
    await eventually(lambda: not gateways[0].connected, what="the gateway has noticed")
    assert await rows(commands, keys) == 1


async def _one(commands: Commands, keys: Keys) -> bool:
    return await rows(commands, keys) == 1


async def test_a_client_may_make_the_id_and_put_it_as_often_as_it_likes(
    clients: tuple[httpx.AsyncClient, httpx.AsyncClient],
    redis_url: str,
    keys: Keys,
    commands: Commands,
) -> None:
    one, other = clients
    made = await one.put("/v1/predictions/order-7", json=echo(1))
    again = await other.put("/v1/predictions/order-7", json=echo(1))
    assert (made.status_code, made.json()["id"]) == (201, "order-7")
    assert made.json()["urls"]["get"].endswith("/v1/predictions/order-7")
    assert again.json()["id"] == "order-7"
    assert await rows(commands, keys) == 1
    async with answering(redis_url, keys, "echo"):
        done = await other.put("/v1/predictions/order-7", json=echo(1), headers=WAIT)
    assert (done.json()["id"], done.json()["output"]) == ("order-7", 1)
    shown = await one.get("/v1/predictions/order-7")
    assert (shown.json()["id"], shown.json()["output"]) == ("order-7", 1)
    reused = await one.put("/v1/predictions/order-7", json=echo(2))
    assert reused.status_code == 422


async def test_a_prediction_with_an_id_of_the_clients_own_can_be_canceled_by_it(
    clients: tuple[httpx.AsyncClient, httpx.AsyncClient],
) -> None:
    one, other = clients
    await one.put("/v1/predictions/mine", json=echo(1))
    canceled = await other.post("/v1/predictions/mine/cancel")
    assert (canceled.json()["id"], canceled.json()["status"]) == ("mine", "canceled")


@pytest.mark.parametrize("id_", ["-x", ".x", "a%20b", "x" * 129, "a,b"])
async def test_what_can_be_no_id_is_refused_by_name(
    clients: tuple[httpx.AsyncClient, httpx.AsyncClient], id_: str
) -> None:
    answer = await clients[0].put(f"/v1/predictions/{id_}", json=echo(1))
    assert answer.status_code == 422
    assert "128" in answer.text
    assert (await clients[0].get(f"/v1/predictions/{id_}")).status_code == 404


@pytest.mark.parametrize("key", ["x" * 256, "caf\xe9"])
async def test_what_can_be_no_key_is_refused_by_name(
    clients: tuple[httpx.AsyncClient, httpx.AsyncClient], key: str
) -> None:
    headers = {b"Idempotency-Key": key.encode("latin-1")}
    answer = await clients[0].post("/v1/predictions", json=echo(1), headers=headers)
    assert answer.status_code == 422
    assert "255" in answer.text
