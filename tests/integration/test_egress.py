"""Calling out, to real servers of this machine, under real rules."""

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from forebay.egress.client import CallFailed, Client, TooLarge
from forebay.egress.rules import Refused, Rules
from tests.fixtures.certificates import authority_and_server
from tests.fixtures.receiving import receiver


@pytest.fixture
def resolves(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Lets the system's resolver answer as a test wants; returns what was asked."""

    def answer(**names: list[str]) -> list[str]:
        asked: list[str] = []

        def getaddrinfo(host: str, port: int, *_: Any, **__: Any) -> list[Any]:
            asked.append(host)
            return [
                (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))
                for address in names.get(host.split(".", maxsplit=1)[0], [host])
            ]

        monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
        return asked

    return answer


async def get(url: str, rules: Rules, *, max_bytes: int = 100, within_s: float = 20) -> bytes:
    """What is at a URL."""
    async with Client(rules) as client:
        return await client.get(url, within_s=within_s, max_bytes=max_bytes, param="image")


async def test_what_is_allowed_is_fetched() -> None:
    async with receiver() as server:
        url = f"http://127.0.0.1:{server.port}/a?b=c"
        assert await get(url, Rules(loopback=True)) == b"ok"
    (head,) = server.heads
    assert head.startswith("GET /a?b=c HTTP/1.1\r\n")
    assert f"host: 127.0.0.1:{server.port}\r\n" in head


async def test_a_name_that_leads_to_this_machine_is_not_connected_to(
    resolves: Callable[..., list[str]],
) -> None:
    async with receiver() as server:
        for addresses in (["127.0.0.1"], ["93.184.216.34", "127.0.0.1"]):
            resolves(hooks=addresses)
            with pytest.raises(Refused, match=r"leads to 127.0.0.1 \(hooks.example\)"):
                await get(f"http://hooks.example:{server.port}/", Rules())
        resolves(hooks=["169.254.169.254"])
        with pytest.raises(Refused, match=r"169\.254\.169\.254"):
            await get("http://hooks.example/latest/meta-data", Rules(loopback=True))
    assert server.heads == []


async def test_numbers_that_the_system_takes_for_an_address_are_no_way_around() -> None:
    async with receiver() as server:
        for host in ("2130706433", "0x7f000001", "127.1", "0177.0.0.1", "localhost"):
            with pytest.raises((Refused, CallFailed)) as caught:
                await get(f"http://{host}:{server.port}/", Rules())
            assert "leads to" in str(caught.value) or "resolved" in str(caught.value)
    assert server.heads == []


async def test_a_name_is_resolved_once_and_what_was_checked_is_connected_to(
    resolves: Callable[..., list[str]],
) -> None:
    async with receiver() as server:
        asked = resolves(hooks=["127.0.0.1"])
        rules = Rules(["hooks.example"])
        assert await get(f"http://hooks.example:{server.port}/", rules) == b"ok"
    assert asked == ["hooks.example"]
    assert f"host: hooks.example:{server.port}\r\n" in server.heads[0]


async def test_the_next_address_is_tried_where_one_does_not_answer(
    resolves: Callable[..., list[str]],
) -> None:
    async with receiver() as server:
        resolves(hooks=["127.0.0.9", "127.0.0.1"])  # nobody listens at the first
        assert await get(f"http://hooks.example:{server.port}/", Rules(loopback=True)) == b"ok"


async def test_a_redirect_is_not_followed() -> None:
    async with receiver() as server:
        server.answer = (
            b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n"
        )
        with pytest.raises(CallFailed, match=r"answered with 302. Redirects are not followed"):
            await get(f"http://127.0.0.1:{server.port}/", Rules(loopback=True))
    assert len(server.heads) == 1


async def test_too_much_is_not_read() -> None:
    async with receiver() as server:
        endless = b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 1000
        for answer in (
            b"HTTP/1.1 200 OK\r\ncontent-length: 101\r\n\r\n" + b"x" * 101,
            endless,  # says nothing of its length, and never ends
        ):
            server.answer = answer
            with pytest.raises(TooLarge, match="larger than 100 bytes"):
                await get(f"http://127.0.0.1:{server.port}/", Rules(loopback=True))
        async with Client(rules := Rules(loopback=True)) as client:
            place = rules.place(f"http://127.0.0.1:{server.port}/")
            cut = await client.call("POST", place, within_s=20, max_bytes=100, content=b"{}")
        assert cut.body == b"x" * 100


async def test_a_server_that_hangs_is_left() -> None:
    async with receiver() as server:
        server.pause.clear()
        with pytest.raises(CallFailed, match=r"did not answer within 0.2 s"):
            await get(f"http://127.0.0.1:{server.port}/", Rules(loopback=True), within_s=0.2)


async def test_what_does_not_answer_or_is_no_http_is_told_of() -> None:
    async with receiver() as server:
        server.answer = b"SSH-2.0-OpenSSH\r\n\r\n"
        with pytest.raises(CallFailed, match="doesn't speak HTTP"):
            await get(f"http://127.0.0.1:{server.port}/", Rules(loopback=True))
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))  # and does not listen
        with pytest.raises(CallFailed, match="can't be reached"):
            await get(f"http://127.0.0.1:{silent.getsockname()[1]}/", Rules(loopback=True))
    with pytest.raises(CallFailed, match="can't be resolved"):
        await get("http://nowhere.invalid/", Rules())


async def test_tls_checks_the_name_and_not_the_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, resolves: Callable[..., list[str]]
) -> None:
    authority, server_tls = authority_and_server(tmp_path, "hooks.example")
    monkeypatch.setenv("SSL_CERT_FILE", str(authority))
    resolves(hooks=["127.0.0.1"], other=["127.0.0.1"])
    rules = Rules(loopback=True)
    async with receiver(server_tls) as server:
        assert await get(f"https://hooks.example:{server.port}/", rules) == b"ok"
        for host in ("other.example", "127.0.0.1"):
            with pytest.raises(CallFailed, match="can't be reached"):
                await get(f"https://{host}:{server.port}/", rules)
