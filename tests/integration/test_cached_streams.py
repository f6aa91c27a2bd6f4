"""Streams and the cache: what is told bit by bit is generated, what is kept is told at once."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from forebay.contract.caching import CacheOptions
from forebay.contract.generation import Finish
from forebay.contract.model import BackendName, ModelSpec
from forebay.contract.rows import Generated, Options, Output, Row, Task
from forebay.gateway.versions import Serving
from forebay.lanes.keys import Keys
from forebay.runtime.catalog import Catalog
from forebay.runtime.settings import Settings
from tests.fixtures.answering import VERSION, answer_with, answering
from tests.fixtures.gateway import running_gateway
from tests.fixtures.waiting import PATIENCE_S

CATALOG = Catalog(
    {
        "writer": ModelSpec(
            Task.GENERATION,
            BackendName.ONNX,
            source="package:none",
            name="writer",
            cache=CacheOptions(enabled=True),
        ),
    }
)
ONLY = {"cache-control": "only-if-cached"}
ASKED = {"model": "writer", "temperature": 0}
STREAMS = {
    "/v1/chat/completions": ASKED | {"messages": [{"role": "user", "content": "Hi"}]},
    "/v1/completions": ASKED | {"prompt": "Hi"},
    "/v1/responses": ASKED | {"input": "Hi"},
}


class Versions:
    """The same serves always, as this suite's worker tells it."""

    def serving(self, spec: ModelSpec) -> Serving | None:
        return Serving(VERSION + "0" * 52)


@pytest.fixture
async def client(redis_url: str, key_prefix: str) -> AsyncIterator[httpx.AsyncClient]:
    settings = Settings(redis_url=redis_url, key_prefix=key_prefix)
    async with (
        running_gateway(settings, catalog=CATALOG, versions=Versions()) as gateway,
        httpx.AsyncClient(base_url=gateway.url, timeout=PATIENCE_S) as client,
    ):
        yield client


def write(row: Row, options: Options) -> Output:
    return Generated("Hello.", Finish.STOP, 9, 5)


@pytest.mark.parametrize("path", STREAMS)
async def test_a_stream_is_generated_or_refused_whatever_is_cached(
    client: httpx.AsyncClient, redis_url: str, keys: Keys, path: str
) -> None:
    body = STREAMS[path]
    streamed = body | {"stream": True}
    async with answering(redis_url, keys, "writer", answer=answer_with(write)) as ran:
        assert (await client.post(path, json=body)).is_success
        hit = await client.post(path, json=body, headers=ONLY)
        assert hit.headers["cache-status"].startswith("forebay; hit")
        refused = await client.post(path, json=streamed, headers=ONLY)
        assert len(ran) == 1
        # Its name is free again: nothing was made of it.
        named = {"Idempotency-Key": "mine"}
        assert (await client.post(path, json=streamed, headers=ONLY | named)).status_code == 504
        answer = await client.post(path, json=streamed, headers=named)
        assert len(ran) == 2
    assert refused.status_code == 504
    assert refused.headers["content-type"] == "application/json"
    assert refused.headers["cache-status"] == 'forebay; detail="only-if-cached"'
    assert refused.json()["error"]["param"] == "cache-control"
    assert "A stream is always generated" in refused.json()["error"]["message"]
    assert answer.status_code == 200
    detail = 'detail="a stream is always generated"'
    assert answer.headers["cache-status"] == f"forebay; fwd=bypass; {detail}"


def prediction() -> tuple[str, dict[str, Any]]:
    return "/v1/predictions", {"version": "writer", "input": {"prompt": "Hi", "temperature": 0}}


def response() -> tuple[str, dict[str, Any]]:
    return "/v1/responses", STREAMS["/v1/responses"] | {"background": True}


@pytest.mark.parametrize("make", [prediction, response])
async def test_what_has_an_id_is_answered_from_the_cache_and_its_stream_tells_it_at_once(
    client: httpx.AsyncClient, redis_url: str, keys: Keys, make: Any
) -> None:
    path, body = make()
    streamed = body | {"stream": True}
    refused = await client.post(path, json=streamed, headers=ONLY)
    assert refused.status_code == 504
    assert refused.headers["cache-status"] == 'forebay; detail="only-if-cached"'
    async with answering(redis_url, keys, "writer", answer=answer_with(write)) as ran:
        path_of, plain = (path, body) if make is prediction else (path, STREAMS[path])
        wait = {"Prefer": "wait"}
        assert (await client.post(path_of, json=plain, headers=wait)).is_success
        answer = await client.post(path, json=streamed, headers=ONLY)
        assert answer.headers["cache-status"].startswith("forebay; hit")
        if make is prediction:
            made = answer.json()
            assert made["status"] == "succeeded"
            told = await client.get(made["urls"]["stream"], headers={"accept": "text/event-stream"})
        else:
            told = answer
        assert "Hello." in told.text
    assert len(ran) == 1
