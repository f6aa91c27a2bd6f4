"""Redis goes away while the gateway serves, and comes back."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from forebay.lanes import replies
from forebay.lanes.keys import Keys
from forebay.runtime.settings import Settings
from tests.fixtures.answering import answering
from tests.fixtures.gateway import Gateway, running_gateway
from tests.fixtures.servers import Server
from tests.fixtures.waiting import PATIENCE_S, eventually

ECHO: dict[str, Any] = {"version": "echo", "input": {"value": 1}}
EMBED = {"model": "minilm", "input": "a"}
WAIT = {"Prefer": "wait"}

TIMEOUT_S = 4.0
"""Of the gateway's commands: a slow machine may take half of it for a request that needs none."""

SOON_S = 20.0
"""Long before a request for a result would be told that there is none yet."""


@pytest.fixture
async def gateway(private_server: Server, key_prefix: str) -> AsyncIterator[Gateway]:
    settings = Settings(
        redis_url=private_server.url, key_prefix=key_prefix, redis_timeout_s=TIMEOUT_S, drain_s=3
    )
    async with running_gateway(settings) as running:
        yield running


@pytest.fixture
async def client(gateway: Gateway) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=gateway.url, timeout=PATIENCE_S) as client:
        yield client


async def is_ready(client: httpx.AsyncClient) -> bool:
    return (await client.get("/health/ready")).status_code == 200


async def unready(client: httpx.AsyncClient) -> bool:
    return not await is_ready(client)


async def test_without_redis_every_request_is_a_503_at_once_and_later_all_works_again(
    client: httpx.AsyncClient, private_server: Server, keys: Keys
) -> None:
    async with answering(private_server.url, keys, "echo"):
        assert (await client.post("/v1/predictions", json=ECHO, headers=WAIT)).json()["output"] == 1
        private_server.kill()
        await eventually(lambda: unready(client))
        for path, body in (
            ("/v1/predictions", ECHO),
            ("/v1/embeddings", EMBED),
            ("/v1/predictions/echo-0-" + "0" * 20, None),
        ):
            since = time.monotonic()
            method = "POST" if body else "GET"
            answer = await client.request(method, path, json=body, headers=WAIT)
            assert time.monotonic() - since < SOON_S
            assert answer.status_code == 503, path
            assert answer.headers["retry-after"] == "1"
        assert (await client.get("/health/live")).status_code == 200
        assert (await client.get("/v1/models")).status_code == 200

        private_server.start()
        await eventually(lambda: is_ready(client))
        assert (await client.post("/v1/predictions", json=ECHO, headers=WAIT)).json()["output"] == 1


async def test_the_first_request_after_redis_has_died_is_a_503_too(
    client: httpx.AsyncClient, private_server: Server
) -> None:
    await eventually(lambda: is_ready(client))
    private_server.kill()
    answer = await client.post("/v1/predictions", json=ECHO, headers=WAIT)
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "1"


async def test_who_waits_while_redis_dies_is_told_soon(
    client: httpx.AsyncClient, private_server: Server
) -> None:
    asked = asyncio.create_task(client.post("/v1/predictions", json=ECHO, headers=WAIT))

    async def enqueued() -> bool:
        told = (await client.get("/health/ready")).json()
        return bool(told["models"]["echo"]["demand"]["realtime"])

    await eventually(enqueued)
    private_server.kill()
    since = time.monotonic()
    answer = await asked
    assert answer.status_code == 503
    assert time.monotonic() - since < SOON_S


async def test_who_waits_survives_a_short_restart_of_a_durable_redis(
    durable_server: Server, key_prefix: str, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replies, "OUTAGE_GRACE_S", 30.0)  # short by a slow machine's measure
    settings = Settings(
        redis_url=durable_server.url, key_prefix=key_prefix, redis_timeout_s=TIMEOUT_S
    )
    async with (
        running_gateway(settings) as gateway,
        httpx.AsyncClient(base_url=gateway.url, timeout=PATIENCE_S) as client,
    ):
        asked = asyncio.create_task(client.post("/v1/predictions", json=ECHO, headers=WAIT))

        async def enqueued() -> bool:
            told = (await client.get("/health/ready")).json()
            return bool(told["models"]["echo"]["demand"]["realtime"])

        await eventually(enqueued)
        await asyncio.to_thread(durable_server.restart)
        async with answering(durable_server.url, keys, "echo"):
            assert (await asked).json()["output"] == 1


async def test_a_frozen_redis_is_a_503_within_its_timeout_and_thaws_without_a_restart(
    client: httpx.AsyncClient, private_server: Server, keys: Keys
) -> None:
    async with answering(private_server.url, keys, "echo"):
        assert (await client.post("/v1/predictions", json=ECHO, headers=WAIT)).json()["output"] == 1
        private_server.pause()
        try:
            since = time.monotonic()
            answer = await client.post("/v1/predictions", json=ECHO, headers=WAIT)
            assert answer.status_code == 503
            assert time.monotonic() - since < 2 * TIMEOUT_S
        finally:
            private_server.resume()
        await eventually(lambda: is_ready(client))

        async def works() -> bool:
            told = await client.post("/v1/predictions", json=ECHO, headers=WAIT)
            return told.status_code == 201 and told.json()["output"] == 1

        await eventually(works)


@pytest.mark.parametrize("ask", ["wait", "no wait", "read"])
async def test_whenever_a_request_comes_after_redis_has_frozen_its_503_takes_one_timeout(
    private_server: Server, key_prefix: str, keys: Keys, ask: str
) -> None:
    """What waits behind a command without an answer doesn't wait for another one after it."""
    settings = Settings(
        redis_url=private_server.url, key_prefix=key_prefix, redis_timeout_s=TIMEOUT_S, drain_s=3
    )
    async with (
        running_gateway(settings) as gateway,
        httpx.AsyncClient(base_url=gateway.url, timeout=PATIENCE_S) as client,
        answering(private_server.url, keys, "echo"),
    ):
        made = (await client.post("/v1/predictions", json=ECHO, headers=WAIT)).json()

        async def seconds(delay_s: float) -> float:
            await asyncio.sleep(delay_s)
            since = time.monotonic()
            if ask == "read":
                answer = await client.get(f"/v1/predictions/{made['id']}")
            else:
                headers = WAIT if ask == "wait" else {}
                answer = await client.post("/v1/predictions", json=ECHO, headers=headers)
            assert answer.status_code == 503
            return time.monotonic() - since

        private_server.pause()
        try:
            # More at once than the gateway reads, and some while the first write is under way.
            delays = [0.0] * 70 if ask == "read" else [0.0, 0.1, 0.1, 0.2]
            took = await asyncio.gather(*(seconds(delay_s) for delay_s in delays))
        finally:
            private_server.resume()
        assert max(took) < 2 * TIMEOUT_S


async def test_nobody_gets_the_id_of_a_prediction_that_may_not_have_been_written(
    private_server: Server, key_prefix: str, keys: Keys
) -> None:
    settings = Settings(
        redis_url=private_server.url, key_prefix=key_prefix, redis_timeout_s=TIMEOUT_S, drain_s=3
    )
    async with (
        running_gateway(settings) as gateway,
        httpx.AsyncClient(base_url=gateway.url, timeout=PATIENCE_S) as client,
        answering(private_server.url, keys, "echo"),
    ):
        assert (await client.post("/v1/predictions", json=ECHO, headers=WAIT)).json()["output"] == 1
        private_server.pause()
        try:
            answer = await client.post("/v1/predictions", json=ECHO, headers={"Prefer": "wait=1"})
        finally:
            private_server.resume()
        assert answer.status_code == 503


async def test_a_gateway_that_starts_before_redis_becomes_ready_when_it_comes(
    private_server: Server, key_prefix: str
) -> None:
    private_server.kill()
    settings = Settings(
        redis_url=private_server.url, key_prefix=key_prefix, redis_timeout_s=TIMEOUT_S
    )
    async with (
        running_gateway(settings) as gateway,
        httpx.AsyncClient(base_url=gateway.url, timeout=PATIENCE_S) as client,
    ):
        answer = await client.get("/health/ready")
        assert answer.status_code == 503
        assert "inbox" in answer.json()["missing"]
        private_server.start()
        await eventually(lambda: is_ready(client))
