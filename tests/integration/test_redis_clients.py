"""Clients, channels and the link on a real server."""

import asyncio
import contextlib
import logging
import random
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from typing import Protocol

import pytest
import redis as redis_sync
from redis.exceptions import ConnectionError as NotConnectedError
from redis.exceptions import NoScriptError, RedisError, ResponseError
from redis.exceptions import TimeoutError as AnswerTimeoutError

from forebay.runtime.clock import Clock
from forebay.runtime.redis import Channel, Commands, Link, connect, connect_blocking
from forebay.runtime.redis import link as runtime_link
from tests.fixtures.servers import Server, server_binary
from tests.fixtures.waiting import PATIENCE_S, eventually, eventually_sync


class Open(Protocol):
    """Opens whatever sends commands."""

    def __call__(self, url: str, timeout_s: float = ...) -> Commands: ...


@pytest.fixture(params=["client", "channel"])
async def open_(request: pytest.FixtureRequest) -> AsyncIterator[Open]:
    """Opens whatever sends commands: a client of a pool, or a channel."""
    async with contextlib.AsyncExitStack() as stack:

        def opened(url: str, timeout_s: float = 5.0) -> Commands:
            if request.param == "client":
                client = connect(url, timeout_s=timeout_s)
                stack.push_async_callback(client.aclose)
                return client
            client = connect_blocking(url, timeout_s=timeout_s)
            stack.push_async_callback(client.aclose)
            channel = Channel(client, timeout_s=timeout_s)
            stack.push_async_callback(channel.aclose)
            return channel

        yield opened


async def test_whatever_is_cut_at_any_moment_is_a_connection_error(
    redis_url: str, key_prefix: str
) -> None:
    """As after a failover: what is in use is cut, too, and what is being connected."""
    client = connect(redis_url, timeout_s=PATIENCE_S)
    blocking = connect_blocking(redis_url, timeout_s=PATIENCE_S)
    channels = [Channel(blocking, timeout_s=PATIENCE_S) for _ in range(3)]
    raised: list[Exception] = []
    over = asyncio.Event()

    async def use(redis: Commands) -> None:
        while not over.is_set():
            try:
                await redis.execute_command("SET", key_prefix, b"x" * 10_000)
            except RedisError as error:
                raised.append(error)
            await asyncio.sleep(0)

    all_of_them: list[Commands] = [client, client, *channels]
    users = [asyncio.create_task(use(one)) for one in all_of_them]
    for _ in range(300):
        for _ in range(random.randrange(20)):
            await asyncio.sleep(0)
        await client.connection_pool.disconnect()
        await blocking.connection_pool.disconnect()
    over.set()
    await asyncio.gather(*users)  # whatever else is raised
    assert raised
    for channel in channels:
        await channel.aclose()
    await client.aclose()
    await blocking.aclose()


async def test_answers_and_refusals_come_as_they_are(
    open_: Open, redis_url: str, key_prefix: str
) -> None:
    redis = open_(redis_url)
    assert await redis.execute_command("SET", key_prefix, b"\xff") == b"OK"
    assert await redis.execute_command("GET", key_prefix) == b"\xff"
    assert await redis.execute_command("GET", f"{key_prefix}:none") is None
    assert await redis.execute_command("ZADD", f"{key_prefix}:z", 1, "a") == 1
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        await redis.execute_command("HGETALL", key_prefix)
    with pytest.raises(NoScriptError):
        await redis.execute_command("EVALSHA", "0" * 40, 0)
    assert await redis.execute_command("PING") == b"PONG"


async def test_commands_of_many_tasks_get_their_own_answers(open_: Open, redis_url: str) -> None:
    redis = open_(redis_url)
    answers = await asyncio.gather(*(redis.execute_command("ECHO", n) for n in range(200)))
    assert answers == [b"%d" % n for n in range(200)]


async def test_a_cancelled_command_ends_its_task_and_mixes_up_no_answers(
    open_: Open, redis_url: str
) -> None:
    """Whenever it is cancelled: before it is sent, while it is under way, when it is answered."""
    redis = open_(redis_url)

    async def asked(text: int) -> object:
        return await redis.execute_command("ECHO", text)

    for ticks in range(15):
        for turn in range(10):
            task = asyncio.create_task(asked(turn))
            for _ in range(ticks):
                await asyncio.sleep(0)
            if not task.done():
                task.cancel()
                await asyncio.wait({task}, timeout=PATIENCE_S)
                assert task.cancelled(), f"cancelled after {ticks} ticks, and went on"
            assert await asked(1_000 + turn) == b"%d" % (1_000 + turn)


async def test_a_command_may_be_sent_while_a_cancelled_task_tidies_up(
    open_: Open, redis_url: str
) -> None:
    redis = open_(redis_url)
    answers = []

    async def tidy_up() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            answers.append(await redis.execute_command("PING"))

    task = asyncio.create_task(tidy_up())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait({task}, timeout=PATIENCE_S)
    assert task.cancelled()
    assert answers == [b"PONG"]


async def test_a_silent_server_is_an_error_after_the_timeout_and_no_answer_comes_late(
    open_: Open, private_server: Server
) -> None:
    redis = open_(private_server.url, timeout_s=2.0)
    await redis.execute_command("SET", "a", 1)
    private_server.pause()
    with pytest.raises(AnswerTimeoutError):
        await redis.execute_command("GET", "a")
    private_server.resume()
    assert await redis.execute_command("ECHO", "b") == b"b"


async def test_what_waits_behind_a_command_without_an_answer_fails_as_soon_as_that_is_known(
    private_server: Server,
) -> None:
    async with contextlib.AsyncExitStack() as stack:
        timeout_s = 4.0
        client = connect_blocking(private_server.url, timeout_s=timeout_s)
        stack.push_async_callback(client.aclose)
        link = Link(client, Clock())
        channel = Channel(client, timeout_s=timeout_s, link=link)
        stack.push_async_callback(channel.aclose)
        assert await channel.execute_command("PING") == b"PONG"

        async def ask() -> tuple[Exception, float]:
            try:
                await channel.execute_command("PING")
            except RedisError as error:
                link.suspect(error)
                return error, time.monotonic()
            raise AssertionError("there was an answer")

        private_server.pause()
        since = time.monotonic()
        first, *others = await asyncio.gather(*(ask() for _ in range(5)))
        assert isinstance(first[0], AnswerTimeoutError)
        assert all(isinstance(error, NotConnectedError) for error, _ in others)
        assert max(ended for _, ended in others) - since < 2 * timeout_s - 0.2, (
            "one timeout, not two"
        )
        private_server.resume()


async def test_a_broken_connection_is_an_error_once_and_then_replaced(
    open_: Open, private_server: Server
) -> None:
    redis = open_(private_server.url)
    await redis.execute_command("PING")
    private_server.restart()
    with contextlib.suppress(NotConnectedError):
        await redis.execute_command("PING")
    assert await redis.execute_command("PING") == b"PONG"
    private_server.kill()
    for _ in range(2):
        with pytest.raises(NotConnectedError):
            await redis.execute_command("PING")
    private_server.start()
    assert await redis.execute_command("PING") == b"PONG"


@contextlib.asynccontextmanager
async def watching(url: str) -> AsyncIterator[tuple[Link, Clock]]:
    client = connect(url, timeout_s=4)
    clock = Clock()
    link = Link(client, clock)
    task = asyncio.create_task(link.run())
    try:
        yield link, clock
        assert not task.done()
    finally:
        task.cancel()
        await asyncio.wait({task}, timeout=PATIENCE_S)
        assert task.cancelled()
        await client.aclose()


@pytest.mark.parametrize("how", ["paused", "killed"])
async def test_a_link_notices_by_itself_that_the_server_is_gone_and_that_it_is_back(
    private_server: Server, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setattr(runtime_link, "WATCH_S", 0.05)
    async with watching(private_server.url) as (link, _):
        assert link.up
        assert link.down_s == 0
        if how == "paused":
            private_server.pause()
        else:
            private_server.kill()
        await eventually(lambda: not link.up)
        returned = asyncio.create_task(link.returned())
        await eventually(lambda: link.down_s > 0.1)
        assert not returned.done()
        if how == "paused":
            private_server.resume()
        else:
            private_server.start()
        await asyncio.wait_for(returned, PATIENCE_S)
        assert (link.up, link.down_s, link.outages) == (True, 0, 1)


async def test_a_suspected_server_that_answers_is_up_again_without_waiting_for_the_watch(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime_link, "WATCH_S", 1_000.0)
    async with watching(redis_url) as (link, _):
        await eventually(lambda: link.up)
        link.suspect(ConnectionError("broken"))
        assert not link.up
        await asyncio.wait_for(link.returned(), PATIENCE_S)
        assert link.outages == 1


LOADED_KEYS = 2_000


@contextlib.contextmanager
def loading(server: Server) -> Iterator[None]:
    """Start a server again that takes a second or two to load what it holds."""
    with contextlib.closing(redis_sync.Redis(port=server.port)) as client:
        client.mset({f"key{number}": b"x" * 100 for number in range(LOADED_KEYS)})
        client.bgrewriteaof()
        eventually_sync(lambda: client.info("persistence")["aof_rewrite_in_progress"] == 0)
    server.stop()
    options = {
        "port": str(server.port),
        "bind": "127.0.0.1",
        "dir": str(server.folder),
        "save": "",
        "appendonly": "yes",
        "key-load-delay": "1000",  # µs
        "loading-process-events-interval-bytes": "1024",
    }
    process = subprocess.Popen(
        [
            server_binary(),
            *(word for name, value in options.items() for word in (f"--{name}", value)),
        ],
        stdout=subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        process.kill()
        process.wait(PATIENCE_S)


async def test_a_server_that_loads_its_data_is_out_of_reach_until_it_has(
    durable_server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    """It refuses all but a few commands then, so that whoever sends others would suspect it."""
    caplog.set_level(logging.INFO, logger=runtime_link.__name__)
    client = connect(durable_server.url, timeout_s=5)
    link = Link(client, Clock())
    refused = 0
    watch = None
    try:
        with loading(durable_server):
            link.suspect(ConnectionError("restarted"))
            watch = asyncio.create_task(link.run())
            answered = False
            while not answered:
                # As gateways and workers do: who fails says so, and waits until it is back.
                try:
                    await client.execute_command("GET", "key1")  # type: ignore[no-untyped-call]
                    answered = True
                except RedisError as error:
                    refused += "loading" in str(error).lower()
                    link.suspect(error)
                    await asyncio.wait({asyncio.ensure_future(link.returned())}, timeout=0.2)
            await asyncio.wait_for(link.returned(), PATIENCE_S)
    finally:
        if watch is not None:
            watch.cancel()
            await asyncio.wait({watch})
        await client.aclose()
    assert refused > 0
    assert link.outages == 1
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]


async def test_a_link_keeps_the_clock_on_the_servers_time(redis_url: str) -> None:
    async with watching(redis_url) as (_, clock):
        clock.follow(0, 0, 0)
        assert clock.now() < 10**9
        await eventually(lambda: clock.now() > 10**9)
