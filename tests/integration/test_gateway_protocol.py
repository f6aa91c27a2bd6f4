"""What the HTTP parser refuses is answered as every other error is."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from forebay.runtime.settings import Settings
from tests.fixtures.gateway import Gateway, running_gateway
from tests.fixtures.waiting import PATIENCE_S


@pytest.fixture
async def gateway(redis_url: str, key_prefix: str) -> AsyncIterator[Gateway]:
    async with running_gateway(Settings(redis_url=redis_url, key_prefix=key_prefix)) as running:
        yield running


class Told:
    """An answer as it came over the wire, until the server closed the connection."""

    def __init__(self, raw: bytes) -> None:
        head, _, body = raw.partition(b"\r\n\r\n")
        status, *headers = head.decode().split("\r\n")
        self.status = int(status.split()[1])
        self.headers = dict(line.lower().split(": ", 1) for line in headers)
        self.body: Any = json.loads(body)


async def tell(gateway: Gateway, *pieces: bytes) -> Told:
    """Send these bytes and read until the connection ends."""
    host, _, port = gateway.url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        return Told(await asyncio.wait_for(reader.read(), PATIENCE_S))
    finally:
        writer.close()


def request(line: str, body: bytes = b"") -> bytes:
    return f"{line} HTTP/1.1\r\nHost: h\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


@pytest.mark.parametrize(
    ("line", "allow"),
    [
        ("BREW /v1/embeddings", "post"),
        ("BREW /v1/models/minilm", "get, head"),
        ("get /v1/models?limit=1", "get, head"),
    ],
)
async def test_an_unknown_method_is_a_405_in_the_words_of_openai(
    gateway: Gateway, line: str, allow: str
) -> None:
    told = await tell(gateway, request(line, b'{"model": "minilm"}'))
    assert (told.status, told.headers["allow"]) == (405, allow)
    assert told.headers["content-type"] == "application/json"
    assert told.body["error"]["type"] == "invalid_request_error"
    assert told.headers["x-request-id"].startswith("req_")
    assert told.headers["connection"] == "close"


@pytest.mark.parametrize(
    ("line", "status"),
    [("BREW /v1/predictions", 405), ("BREW /health/live", 405), ("BREW /tea", 404)],
)
async def test_an_unknown_method_is_a_problem_elsewhere(
    gateway: Gateway, line: str, status: int
) -> None:
    told = await tell(gateway, request(line))
    assert (told.status, told.body["status"]) == (status, status)
    assert told.headers["content-type"] == "application/problem+json"
    assert ("allow" in told.headers) == (status == 405)


@pytest.mark.parametrize(
    "raw",
    [
        b"hello\r\n\r\n",
        b"GET nowhere HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nbad header\r\n\r\n",
        b"CONNECT h:1 HTTP/1.1\r\nHost: h\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
)
async def test_what_is_no_http_is_a_problem_too(gateway: Gateway, raw: bytes) -> None:
    told = await tell(gateway, raw)
    assert (told.status, told.body["status"]) == (400, 400)
    assert told.headers["content-type"] == "application/problem+json"
    assert told.body["instance"].endswith(told.headers["x-request-id"])


async def test_an_unknown_method_does_not_jump_the_queue_of_its_connection(
    gateway: Gateway,
) -> None:
    """Where another request is being answered, what follows it can only end the connection."""
    waits = b'{"version": "echo", "input": {"value": 1}}'
    head = b"POST /v1/predictions HTTP/1.1\r\nHost: h\r\nPrefer: wait=1\r\n"
    slow = head + b"Content-Length: %d\r\n\r\n" % len(waits) + waits
    told = await tell(gateway, slow + request("BREW /v1/models"))
    assert told.status == 400


async def test_the_connection_before_a_refusal_is_used_as_usual(gateway: Gateway) -> None:
    host, _, port = gateway.url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(request("GET /health/live"))
        assert await reader.readuntil(b'"live"}') != b""
        writer.write(request("BREW /v1/models"))
        assert Told(await asyncio.wait_for(reader.read(), PATIENCE_S)).status == 405
    finally:
        writer.close()
