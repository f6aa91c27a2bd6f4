"""The connection that only talks."""

import threading

import pytest

from forebay.contract.errors import ConfigurationError
from forebay.local.server import free_port
from forebay.runtime.redis import Commands, connect
from forebay.runtime.wire import Wire
from tests.fixtures.servers import TIMEOUT_S, Server
from tests.fixtures.waiting import eventually


async def number(redis: Commands, key: str) -> int:
    return int(await redis.execute_command("GET", key) or 0)


async def test_what_is_posted_from_any_thread_arrives(redis_url: str, key_prefix: str) -> None:
    wire = Wire(redis_url, timeout_s=2)
    key = f"{key_prefix}:posted"

    def talk() -> None:
        for _ in range(200):
            assert wire.post("INCR", key)

    threads = [threading.Thread(target=talk) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    redis = connect(redis_url, timeout_s=TIMEOUT_S)
    await eventually(lambda: _is(redis, key, 800), what="800 increments")
    wire.close()
    await redis.aclose()


async def _is(redis: Commands, key: str, wanted: int) -> bool:
    return await number(redis, key) == wanted


async def test_a_server_that_went_and_came_back_gets_the_next_word(private_server: Server) -> None:
    wire = Wire(private_server.url, timeout_s=2)
    assert wire.post("INCR", "k")
    private_server.kill()
    assert not wire.post("INCR", "k")
    private_server.start()
    assert wire.post("SET", "k", 7)
    redis = connect(private_server.url, timeout_s=TIMEOUT_S)
    await eventually(lambda: _is(redis, "k", 7))
    wire.close()
    await redis.aclose()


def test_nobody_listening_is_no_error() -> None:
    assert not Wire(f"redis://127.0.0.1:{free_port()}", timeout_s=1).post("PING")


def test_a_url_that_means_nothing_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="URL"):
        Wire("http://127.0.0.1", timeout_s=1)
