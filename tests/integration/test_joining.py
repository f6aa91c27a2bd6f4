"""Who asks, at any gateway, for what somebody else has under way: it is run once, for all."""

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest

from forebay.contract.prediction import Lane
from forebay.lanes.depth import counters, depth
from forebay.lanes.keys import Keys
from forebay.runtime.redis import Commands, connect
from forebay.runtime.settings import Settings
from tests.fixtures.answering import answering
from tests.fixtures.gateway import running_gateway
from tests.fixtures.servers import TIMEOUT_S
from tests.fixtures.waiting import PATIENCE_S, eventually

MINILM = "minilm"
WAIT = {"Prefer": "wait"}

Clients = tuple[httpx.AsyncClient, httpx.AsyncClient]


@pytest.fixture
async def clients(redis_url: str, key_prefix: str) -> AsyncIterator[Clients]:
    settings = Settings(redis_url=redis_url, key_prefix=key_prefix)
    async with (
        running_gateway(settings) as one,
        running_gateway(settings) as other,
        httpx.AsyncClient(base_url=one.url, timeout=PATIENCE_S) as first,
        httpx.AsyncClient(base_url=other.url, timeout=PATIENCE_S) as second,
    ):
        yield first, second


@pytest.fixture
async def commands(redis_url: str) -> AsyncIterator[Commands]:
    redis = connect(redis_url, timeout_s=TIMEOUT_S)
    yield redis
    await redis.aclose()


def embedding(text: str = "the same") -> dict[str, object]:
    return {"model": MINILM, "input": text}


def prediction(text: str = "the same") -> dict[str, object]:
    return {"version": MINILM, "input": {"text": text}}


async def joined(commands: Commands, keys: Keys, count: int) -> None:
    async def have() -> bool:
        return (await counters(commands, keys.of(MINILM))).get("joined", 0) == count

    await eventually(have, what=lambda: f"{count} have joined")


async def demand(commands: Commands, keys: Keys) -> tuple[int, int]:
    told = await depth(commands, keys.of(MINILM), now_ms=0)
    return told.realtime, told.bulk


async def test_many_who_ask_at_once_are_answered_by_one_run(
    clients: Clients, redis_url: str, keys: Keys, commands: Commands
) -> None:
    asked = [
        asyncio.create_task(client.post("/v1/embeddings", json=embedding()))
        for client in clients
        for _ in range(10)
    ]
    await joined(commands, keys, 19)
    async with answering(redis_url, keys, MINILM) as delivered:
        answers = [await task for task in asked]
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.text for answer in answers}) == 1
    assert len(delivered) == 1


async def test_what_differs_in_anything_is_run_by_itself(
    clients: Clients, redis_url: str, keys: Keys, commands: Commands
) -> None:
    bodies = [
        embedding("a"),
        embedding("b"),
        {"model": MINILM, "input": ["a", "a"]},
        {"model": MINILM, "input": "a", "truncate": True},
        {"model": MINILM, "input": [1, 2]},
    ]
    asked = [
        asyncio.create_task(clients[number % 2].post("/v1/embeddings", json=body))
        for number, body in enumerate(bodies)
    ]

    async def all_there() -> bool:
        return await demand(commands, keys) == (6, 0)

    await eventually(all_there)
    async with answering(redis_url, keys, MINILM) as delivered:
        assert {(await task).status_code for task in asked} == {200}
    assert len(delivered) == 5


async def test_a_client_that_leaves_takes_nothing_from_who_joined_it(
    clients: Clients, redis_url: str, keys: Keys, commands: Commands
) -> None:
    one, other = clients
    first = asyncio.create_task(one.post("/v1/embeddings", json=embedding()))

    async def is_there() -> bool:
        return await demand(commands, keys) == (1, 0)

    await eventually(is_there)
    second = asyncio.create_task(other.post("/v1/embeddings", json=embedding()))
    await joined(commands, keys, 1)
    first.cancel()

    async def has_left() -> bool:
        return (await counters(commands, keys.of(MINILM))).get("canceled", 0) == 1

    await eventually(has_left)
    async with answering(redis_url, keys, MINILM) as delivered:
        assert (await second).status_code == 200
    assert len(delivered) == 1


async def test_somebody_who_waits_brings_what_nobody_waited_for_forward(
    clients: Clients, redis_url: str, keys: Keys, commands: Commands
) -> None:
    one, other = clients
    for number in range(3):
        await one.post("/v1/predictions", json=prediction(f"patient {number}"))
    made = (await one.post("/v1/predictions", json=prediction())).json()
    assert await demand(commands, keys) == (0, 4)
    waits = asyncio.create_task(other.post("/v1/predictions", json=prediction(), headers=WAIT))
    await joined(commands, keys, 1)
    assert await demand(commands, keys) == (1, 3)
    async with answering(redis_url, keys, MINILM) as delivered:
        answer = (await waits).json()
        assert answer["status"] == "succeeded"
        seen = (await one.get(f"/v1/predictions/{made['id']}")).json()
        assert (seen["status"], seen["output"]) == ("succeeded", answer["output"])
        assert seen["id"] != answer["id"]
        await eventually(lambda: len(delivered) == 4)
    lanes = [d.lane for d in delivered if d.computation and "the same" in str(d.computation.rows)]
    assert lanes == [Lane.REALTIME]


async def test_a_failure_is_told_to_all(
    clients: Clients, redis_url: str, keys: Keys, commands: Commands
) -> None:
    body = embedding("much too long " * 20)
    asked = [asyncio.create_task(client.post("/v1/embeddings", json=body)) for client in clients]
    await joined(commands, keys, 1)
    async with answering(redis_url, keys, MINILM) as delivered:
        answers = [await task for task in asked]
    assert {answer.status_code for answer in answers} == {400}
    assert len(delivered) == 1
