"""A server behind TLS that wants to see certificates."""

import asyncio
from pathlib import Path

import httpx
import pytest
from redis.exceptions import ConnectionError as NotConnectedError
from redis.exceptions import RedisError

from forebay.contract.errors import ConfigurationError
from forebay.runtime.redis import Channel, check_url, connect, connect_blocking
from forebay.runtime.wire import Wire
from tests.fixtures.fleet import fleet
from tests.fixtures.shapes import TlsServer
from tests.fixtures.waiting import PATIENCE_S, eventually


async def test_clients_channels_and_wires_show_their_certificate(tls_server: TlsServer) -> None:
    client, blocking = (open_(tls_server.url, timeout_s=5) for open_ in (connect, connect_blocking))
    channel = Channel(blocking, timeout_s=5)
    wire = Wire(tls_server.url, timeout_s=5)
    try:
        assert await channel.execute_command("SET", "key", "of a channel") == b"OK"
        assert await client.execute_command("GET", "key") == b"of a channel"  # type: ignore[no-untyped-call]
        assert await asyncio.to_thread(wire.post, "SET", "key", "of a wire")

        async def posted() -> bool:
            return bool(await channel.execute_command("GET", "key") == b"of a wire")

        await eventually(posted)
    finally:
        wire.close()
        await channel.aclose()
        await client.aclose()
        await blocking.aclose()


@pytest.mark.parametrize("who", ["bare_url", "anonymous_url"])
async def test_who_does_not_know_the_authority_or_shows_no_certificate_stays_outside(
    tls_server: TlsServer, who: str
) -> None:
    client = connect(getattr(tls_server, who), timeout_s=5)
    with pytest.raises((NotConnectedError, RedisError, OSError)):
        await client.execute_command("PING")  # type: ignore[no-untyped-call]
    await client.aclose()


async def test_every_process_works_behind_tls(
    tls_server: TlsServer, key_prefix: str, tmp_path: Path
) -> None:
    with fleet(tmp_path, key_prefix=key_prefix, redis_url=tls_server.url) as running:
        for verb in (("gateway",), ("worker", "echo"), ("background",), ("background", "--beat")):
            running.start(*verb)
        await running.ready()
        async with httpx.AsyncClient(base_url=running.url, timeout=PATIENCE_S) as client:
            body = {"version": "echo", "input": {"value": 1}}
            answer = await client.post("/v1/predictions", json=body, headers={"Prefer": "wait"})
            assert answer.json()["output"] == 1
            idle = {**body, "version": "idle"}
            answer = await client.post("/v1/predictions", json=idle, headers={"Cancel-After": "5s"})
            waiting = f"/v1/predictions/{answer.json()['id']}"

            async def ended() -> bool:
                return bool((await client.get(waiting)).json()["completed_at"])

            await eventually(ended, what=lambda: running.said)
        assert running.stop() == [0, 0, 0, 0]


def test_a_certificate_that_is_not_there_is_an_error_before_anybody_connects(
    tmp_path: Path,
) -> None:
    with pytest.raises(ConfigurationError, match=r"certificates can't be used: .*No such"):
        check_url(f"rediss://:secret@host?ssl_ca_certs={tmp_path / 'none.crt'}")
    (tmp_path / "no.crt").write_text("no certificate")
    with pytest.raises(ConfigurationError, match="can't be understood") as caught:
        check_url(f"rediss://:secret@host?ssl_ca_certs={tmp_path / 'no.crt'}")
    assert "secret" not in caught.value.message
