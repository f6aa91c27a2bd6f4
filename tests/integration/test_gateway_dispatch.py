"""Rows to lanes and back: parts, outputs beside the record, bounds, deadlines, health."""

import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from forebay.contract.prediction import MAX_PART_BYTES, MAX_PART_ROWS, Lane
from forebay.contract.rows import TextRow
from forebay.lanes.keys import Keys
from forebay.runtime.redis import Commands, connect
from forebay.runtime.settings import Settings
from tests.fixtures.answering import answering, spill, vector_of
from tests.fixtures.gateway import Gateway, running_gateway
from tests.fixtures.lanes import fill_lane
from tests.fixtures.servers import TIMEOUT_S
from tests.fixtures.waiting import PATIENCE_S, eventually

WAIT = {"Prefer": "wait"}


@pytest.fixture
async def gateway(redis_url: str, key_prefix: str) -> AsyncIterator[Gateway]:
    async with running_gateway(Settings(redis_url=redis_url, key_prefix=key_prefix)) as running:
        yield running


@pytest.fixture
async def client(gateway: Gateway) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=gateway.url, timeout=PATIENCE_S) as client:
        yield client


async def test_many_rows_travel_in_parts_and_come_back_in_order(
    client: httpx.AsyncClient, redis_url: str, keys: Keys
) -> None:
    texts = [f"text {number}" for number in range(2 * MAX_PART_ROWS + 5)]
    async with answering(redis_url, keys, "minilm") as delivered:
        answer = await client.post(
            "/v1/predictions", json={"version": "minilm", "input": {"text": texts}}, headers=WAIT
        )
    computations = [delivery.computation for delivery in delivered]
    assert [(len(c.rows), c.first_row) for c in computations if c] == [
        (MAX_PART_ROWS, 0),
        (MAX_PART_ROWS, MAX_PART_ROWS),
        (5, 2 * MAX_PART_ROWS),
    ]
    assert len(answer.json()["output"]) == len(texts)


async def test_long_rows_travel_in_smaller_parts_and_one_enormous_row_by_itself(
    client: httpx.AsyncClient, redis_url: str, keys: Keys
) -> None:
    third = "x" * (MAX_PART_BYTES // 3)
    texts = [third, third, third, "y", "z" * (2 * MAX_PART_BYTES), "y"]
    body = {"version": "minilm", "input": {"text": texts, "truncate": True}}
    async with answering(redis_url, keys, "minilm") as delivered:
        answer = await client.post("/v1/predictions", json=body, headers=WAIT)
    computations = [delivery.computation for delivery in delivered]
    assert [(len(c.rows), c.first_row) for c in computations if c] == [
        (4, 0),
        (1, 4),
        (1, 5),
    ]
    assert len(answer.json()["output"]) == len(texts)


async def test_a_bad_row_in_a_later_part_is_named_by_its_index_in_the_request(
    client: httpx.AsyncClient, redis_url: str, keys: Keys
) -> None:
    texts = ["short"] * MAX_PART_ROWS + ["much too long " * 20]
    async with answering(redis_url, keys, "minilm"):
        answer = await client.post("/v1/embeddings", json={"model": "minilm", "input": texts})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == f"input[{MAX_PART_ROWS}]"


async def test_outputs_beside_the_record_are_fetched(
    client: httpx.AsyncClient, redis_url: str, keys: Keys
) -> None:
    texts = [f"text {number}" for number in range(MAX_PART_ROWS + 1)]
    async with answering(redis_url, keys, "minilm", answer=spill(keys, "minilm")):
        embedded = await client.post(
            "/v1/embeddings",
            json={"model": "minilm", "input": texts, "encoding_format": "float"},
        )
        made = await client.post(
            "/v1/predictions", json={"version": "minilm", "input": {"text": texts}}, headers=WAIT
        )
    vectors = [item["embedding"] for item in embedded.json()["data"]]
    assert len(vectors) == len(texts)
    assert made.json()["output"] == vectors
    read = await client.get(f"/v1/predictions/{made.json()['id']}")
    assert read.json()["output"] == vectors


async def test_outputs_beside_the_record_that_are_gone_are_an_error_with_words(
    client: httpx.AsyncClient, redis_url: str, keys: Keys
) -> None:
    store = spill(keys, "minilm")

    def lose(delivery: Any) -> Any:
        whole = store(delivery)
        return type(whole)(whole.delivery, whole.reply, None)

    async with answering(redis_url, keys, "minilm", answer=lose):
        embedded = await client.post("/v1/embeddings", json={"model": "minilm", "input": "a"})
        made = await client.post(
            "/v1/predictions", json={"version": "minilm", "input": {"text": "a"}}, headers=WAIT
        )
    assert embedded.status_code == 500
    assert "gone" in embedded.json()["error"]["message"]
    assert made.json()["status"] == "failed"
    assert "gone" in made.json()["error"]


async def test_who_waits_takes_the_realtime_lane_and_who_does_not_the_bulk_lane(
    client: httpx.AsyncClient, redis_url: str, keys: Keys
) -> None:
    body = {"version": "echo", "input": {"value": 1}}
    async with answering(redis_url, keys, "echo") as delivered:
        await client.post("/v1/predictions", json=body, headers=WAIT)
        made = (await client.post("/v1/predictions", json=body)).json()
        await eventually(lambda: len(delivered) == 2)
    assert [delivery.lane for delivery in delivered] == [Lane.REALTIME, Lane.BULK]
    assert delivered[1].prediction == made["id"]


async def test_truncate_reaches_the_worker(
    client: httpx.AsyncClient, redis_url: str, keys: Keys
) -> None:
    async with answering(redis_url, keys, "minilm") as delivered:
        for truncate in (True, False):
            await client.post(
                "/v1/embeddings", json={"model": "minilm", "input": "a", "truncate": truncate}
            )
    assert [d.computation.truncate for d in delivered if d.computation] == [True, False]


async def test_a_full_lane_is_a_429_that_says_when_to_come_back(
    client: httpx.AsyncClient, redis_url: str, keys: Keys
) -> None:
    await fill_lane(redis_url, keys, "narrow", 2)
    answer = await client.post("/v1/embeddings", json={"model": "narrow", "input": "b"})
    assert answer.status_code == 429
    assert answer.headers["retry-after"] == "1"
    assert answer.json()["error"]["code"] == "rate_limit_exceeded"
    answer = await client.post(
        "/v1/predictions", json={"version": "narrow", "input": {"text": "b"}}, headers=WAIT
    )
    assert answer.status_code == 429
    assert answer.json()["type"] == "urn:forebay:problem:lane_full"


async def test_what_can_never_fit_onto_its_lane_is_a_400(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/embeddings", json={"model": "narrow", "input": ["a"] * 3})
    assert answer.status_code == 400
    assert "never holds more than 2: send fewer" in answer.json()["error"]["message"]
    assert "retry-after" not in answer.headers


async def test_an_embedding_that_is_not_done_in_time_is_a_504(
    redis_url: str, key_prefix: str
) -> None:
    settings = Settings(redis_url=redis_url, key_prefix=key_prefix, sync_wait_s=0.2)
    async with (
        running_gateway(settings) as gateway,
        httpx.AsyncClient(base_url=gateway.url, timeout=PATIENCE_S) as client,
    ):
        since = time.monotonic()
        answer = await client.post("/v1/embeddings", json={"model": "minilm", "input": "a"})
    assert answer.status_code == 504
    assert answer.json()["error"]["code"] == "deadline_exceeded"
    assert 0.1 < time.monotonic() - since < 20, "long before its deadline"


async def test_input_is_kept_only_where_the_client_has_the_id(
    client: httpx.AsyncClient, redis_url: str, keys: Keys
) -> None:
    async with answering(redis_url, keys, "minilm") as delivered:
        await client.post("/v1/embeddings", json={"model": "minilm", "input": "a"})
        await client.post(
            "/v1/predictions", json={"version": "minilm", "input": {"text": "a"}}, headers=WAIT
        )
    unseen, seen = (keys.of("minilm").record(delivery.prediction) for delivery in delivered)
    redis = connect(redis_url, timeout_s=TIMEOUT_S)
    commands: Commands = redis
    try:
        assert await commands.execute_command("HGET", unseen, "in") is None
        assert await commands.execute_command("HGET", seen, "in") == b'{"text":"a"}'
        assert 0 < await commands.execute_command("PTTL", unseen) <= 60_000
        assert 86_000_000 < await commands.execute_command("PTTL", seen) <= 86_400_000
    finally:
        await redis.aclose()


async def test_ready_tells_each_models_replicas_and_demand(
    client: httpx.AsyncClient, redis_url: str, keys: Keys
) -> None:
    await client.post("/v1/predictions", json={"version": "minilm", "input": {"text": ["a", "b"]}})
    answer = await client.get("/health/ready")
    assert answer.status_code == 200
    told = answer.json()
    assert (told["status"], told["missing"]) == ("ready", [])
    assert told["models"]["minilm"] == {"replicas": 0, "demand": {"realtime": 0, "bulk": 2}}
    async with answering(redis_url, keys, "echo"):
        told = (await client.get("/health/ready")).json()
        assert told["models"]["echo"]["replicas"] == 1


async def test_live_is_live_and_the_front_page_shows_the_way(client: httpx.AsyncClient) -> None:
    assert (await client.get("/health/live")).json() == {"status": "live"}
    told = (await client.get("/")).json()
    assert "POST /v1/embeddings" in told["endpoints"]
    assert told["clients"]["openai"] == f"{client.base_url}/v1"


@pytest.mark.parametrize("path", ["/nothing", "/v2x", "/health", "/v1/predictionsx/y", "/%2e%2e/x"])
async def test_a_path_that_belongs_to_no_dialect_is_a_problem(
    client: httpx.AsyncClient, path: str
) -> None:
    answer = await client.get(path)
    assert answer.status_code == 404
    assert answer.headers["x-request-id"]
    if not path.startswith("/v1/"):
        assert answer.headers["content-type"] == "application/problem+json"


async def test_head_answers_like_get_without_a_body(client: httpx.AsyncClient) -> None:
    answer = await client.head("/health/live")
    assert (answer.status_code, answer.content) == (200, b"")


async def test_a_vector_comes_back_bit_for_bit(
    client: httpx.AsyncClient, redis_url: str, keys: Keys
) -> None:
    import struct

    async with answering(redis_url, keys, "minilm"):
        answer = await client.post(
            "/v1/predictions", json={"version": "minilm", "input": {"text": "a"}}, headers=WAIT
        )
    assert struct.pack("<8f", *answer.json()["output"]) == vector_of(TextRow("a"))
