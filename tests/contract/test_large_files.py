"""Files as large as they may be and larger, cut short or announced wrongly: a real gateway."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import psutil
import pytest

from forebay.runtime.settings import Settings
from tests.fixtures.gateway import Gateway
from tests.fixtures.waiting import PATIENCE_S, eventually

LIMIT = 200_000_000
CHUNK = b"x" * 1_000_000
HELD = LIMIT // 2
"""What the process may grow by meanwhile, its client included, bytes."""

FORM = {"content-type": "multipart/form-data; boundary=b"}
HEAD = (
    b'--b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
    b'--b\r\nContent-Disposition: form-data; name="file"; filename="f.jsonl"\r\n\r\n'
)
END = b"\r\n--b--\r\n"


@pytest.fixture
def settings(redis_url: str, key_prefix: str, tmp_path: Path) -> Settings:
    return Settings(redis_url=redis_url, key_prefix=key_prefix, home=str(tmp_path))


def left(settings: Settings) -> list[int]:
    """Sizes of what lies in the store, whole or not."""
    folder = Path(settings.home, "files", "contents")
    return [path.stat().st_size for path in folder.iterdir()] if folder.exists() else []


class Growth:
    """How much this process grows by while a form of some megabytes is sent from it.

    Args:
        size: of the file, in `CHUNK`s.
        halfway: done once half of it is on its way.
    """

    def __init__(self, size: int, halfway: Callable[[], Awaitable[None]]) -> None:
        self._size = size
        self._halfway = halfway
        self._process = psutil.Process()
        self._before = self._process.memory_info().rss
        self.bytes = 0

    async def form(self) -> AsyncIterator[bytes]:
        """The form, piece by piece."""
        yield HEAD
        for number in range(self._size):
            if number == self._size // 2:
                await self._halfway()
            yield CHUNK
            self.bytes = max(self.bytes, self._process.memory_info().rss - self._before)
        yield END


async def test_a_file_of_all_that_it_may_have_passes_through_and_one_of_more_is_refused(
    web: httpx.AsyncClient, settings: Settings
) -> None:
    async def others_go_on() -> None:
        assert (await web.get("/v1/files")).status_code == 200

    for size, status, kept in ((200, 200, [LIMIT]), (201, 413, [])):
        growth = Growth(size, others_go_on)
        answer = await web.post("/v1/files", content=growth.form(), headers=FORM)
        assert answer.status_code == status, answer.text
        await eventually(lambda kept=kept: left(settings) == kept, what=f"{kept} is left")  # type: ignore[misc]
        assert growth.bytes < HELD
        if status == 200:
            made = answer.json()
            assert made["bytes"] == LIMIT
            await web.delete(f"/v1/files/{made['id']}")
        else:
            assert "200,000,000 bytes" in answer.json()["error"]["message"]


async def test_a_body_that_is_announced_as_too_large_is_refused_before_it_is_sent(
    gateway: Gateway, settings: Settings
) -> None:
    answer = await by_hand(gateway, HEAD, length=LIMIT + 2_000_000)
    assert answer.startswith(b"HTTP/1.1 413 ")
    await eventually(lambda: not left(settings), what="nothing is left")


async def test_a_form_that_is_cut_short_is_refused(gateway: Gateway, settings: Settings) -> None:
    answer = await by_hand(gateway, HEAD + b"x" * 20, length=len(HEAD) + 20)
    assert answer.startswith(b"HTTP/1.1 400 ")
    await eventually(lambda: not left(settings), what="nothing is left")


async def test_a_body_that_is_longer_than_announced_is_cut_there(
    gateway: Gateway, settings: Settings
) -> None:
    answer = await by_hand(gateway, HEAD + b"x" * 20 + END, length=len(HEAD) + 10)
    assert answer.startswith(b"HTTP/1.1 400 ")
    await eventually(lambda: not left(settings), what="nothing is left")


@pytest.mark.parametrize("length", [len(HEAD) + 10_000_000, None], ids=["announced", "in chunks"])
async def test_an_upload_that_is_cut_leaves_nothing(
    gateway: Gateway, settings: Settings, length: int | None
) -> None:
    reader, writer = await opened(gateway)
    writer.write(head_of(length) + piece(HEAD, length) + piece(CHUNK, length))
    await writer.drain()
    await eventually(lambda: left(settings), what="a part of it is there")
    writer.close()
    await eventually(lambda: not left(settings) and not gateway.busy, what="nothing is left")
    assert await reader.read() == b""


async def by_hand(gateway: Gateway, body: bytes, *, length: int) -> bytes:
    """The head of what is answered to a body of that announced length."""
    reader, writer = await opened(gateway)
    writer.write(head_of(length) + body)
    try:
        async with asyncio.timeout(PATIENCE_S):
            return await reader.readuntil(b"\r\n\r\n")
    finally:
        writer.close()


async def opened(gateway: Gateway) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    address = urlsplit(gateway.url)
    assert address.hostname is not None
    return await asyncio.open_connection(address.hostname, address.port)


def head_of(length: int | None) -> bytes:
    """The head of a request; without a length, of one in chunks."""
    how = "transfer-encoding: chunked" if length is None else f"content-length: {length}"
    lines = ("POST /v1/files HTTP/1.1", "host: here", f"content-type: {FORM['content-type']}", how)
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def piece(data: bytes, length: int | None) -> bytes:
    """Some of the body; without a length, a chunk."""
    return data if length is not None else b"%x\r\n%s\r\n" % (len(data), data)
