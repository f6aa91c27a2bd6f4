"""Images by their address: fetched by the gateway, under the rules for calling out."""

import base64
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from forebay.contract.model import BackendName, ModelSpec
from forebay.contract.rows import Task
from forebay.lanes.keys import Keys
from forebay.runtime.catalog import Catalog
from forebay.runtime.settings import Settings
from tests.fixtures.answering import answering, weigh
from tests.fixtures.gateway import running_gateway
from tests.fixtures.lanes import rows_on_lanes
from tests.fixtures.receiving import Receiver, receiver
from tests.fixtures.waiting import PATIENCE_S

SPEC = ModelSpec(Task.IMAGE_CLASSIFICATION, BackendName.ONNX, source="package:none", name="weigher")
MODELS = Catalog({"weigher": SPEC})


@pytest.fixture
async def server() -> AsyncIterator[Receiver]:
    async with receiver() as running:
        yield running


@pytest.fixture(params=[True])
async def client(
    request: pytest.FixtureRequest, redis_url: str, key_prefix: str
) -> AsyncIterator[httpx.AsyncClient]:
    settings = Settings(
        redis_url=redis_url,
        key_prefix=key_prefix,
        egress_loopback=request.param,
        max_body_bytes=1000,
    )
    async with (
        running_gateway(settings, catalog=MODELS) as gateway,
        httpx.AsyncClient(base_url=gateway.url, timeout=PATIENCE_S) as made,
    ):
        yield made


@pytest.fixture
async def worker(redis_url: str, keys: Keys) -> AsyncIterator[None]:
    async with answering(redis_url, keys, "weigher", answer=weigh):
        yield


async def ask(client: httpx.AsyncClient, image: str | list[str]) -> httpx.Response:
    body: dict[str, Any] = {"version": "weigher", "input": {"image": image}}
    return await client.post("/v1/predictions", json=body, headers={"Prefer": "wait=20"})


async def test_what_is_at_an_address_is_classified(
    client: httpx.AsyncClient, server: Receiver, worker: None
) -> None:
    url = f"http://127.0.0.1:{server.port}/line.png"
    made = (await ask(client, url)).json()
    assert made["output"] == [{"label": "bytes", "score": 2.0}]
    assert made["input"] == {"image": url}
    inline = base64.b64encode(b"abcde").decode()
    several = (await ask(client, [url, inline, url + "?again"])).json()
    assert [one[0]["score"] for one in several["output"]] == [2.0, 5.0, 2.0]
    assert len(server.heads) == 3


@pytest.mark.parametrize("client", [False], indirect=True)
async def test_an_address_inside_is_refused_and_nothing_is_sent(
    client: httpx.AsyncClient, server: Receiver, redis_url: str, keys: Keys
) -> None:
    for url in (
        f"http://127.0.0.1:{server.port}/",
        f"http://localhost:{server.port}/",
        "http://169.254.169.254/latest/meta-data",
        "http://[::ffff:10.0.0.1]/",
    ):
        answer = await ask(client, url)
        assert answer.status_code == 422, answer.text
        problem = answer.json()
        assert "not a public address" in problem["detail"]
        assert "egress_allow" in problem["detail"]
        assert problem["detail"].startswith("input.image leads to")
    assert server.heads == []
    assert await rows_on_lanes(redis_url, keys, "weigher") == 0


async def test_what_can_not_be_fetched_is_told_of_by_its_field(
    client: httpx.AsyncClient, server: Receiver
) -> None:
    url = f"http://127.0.0.1:{server.port}/"
    for answer, told in (
        (b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n", "answered with 404"),
        (b"HTTP/1.1 302 Found\r\nlocation: /\r\ncontent-length: 0\r\n\r\n", "not followed"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", "nothing"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 1001\r\n\r\n" + b"x" * 1001, "1000 bytes"),
    ):
        server.answer = answer
        refused = await ask(client, ["data:image/png;base64,AAAA", url])
        assert refused.status_code == 422, refused.text
        assert told in refused.json()["detail"]
        assert refused.json()["param"] == "input.image[1]"
    server.answer = b"HTTP/1.1 200 OK\r\ncontent-length: 600\r\n\r\n" + b"x" * 600
    refused = await ask(client, [url, url + "2"])
    assert refused.status_code == 422
    assert "1000 bytes together" in refused.json()["detail"]
    refused = await ask(client, "http://nowhere.invalid/x.png")
    assert "can't be resolved" in refused.json()["detail"]
