"""A primary that is lost, paused or demoted: clients go to its successor."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest
from redis.exceptions import ConnectionError as NotConnectedError
from redis.exceptions import RedisError

from forebay.contract.errors import Unavailable
from forebay.lanes.keys import Keys
from forebay.lanes.lane import LaneWriter
from forebay.runtime.redis import (
    Commands,
    CopiedWrites,
    NotCopiedError,
    NotServingError,
)
from forebay.runtime.settings import Durability, Settings
from tests.fixtures.answering import answering
from tests.fixtures.ends import ends_of
from tests.fixtures.gateway import running_gateway
from tests.fixtures.gateway_end import echo_spec, gateway_end
from tests.fixtures.lanes import submission
from tests.fixtures.servers import Server
from tests.fixtures.shapes import Group
from tests.fixtures.waiting import PATIENCE_S, eventually

TIMEOUT_S = 2.0


async def kill(group: Group) -> None:
    group.primary.kill()


async def pause(group: Group) -> None:
    group.primary.pause()


async def demote(group: Group) -> None:
    await asyncio.to_thread(group.fail_over)


async def answered(commands: Commands, *words: Any) -> Any:
    """An answer, however long it takes; errors on the way are such as callers expect."""

    async def ask() -> tuple[Any] | None:
        try:
            return (await commands.execute_command(*words),)
        except (RedisError, OSError):
            return None

    told = await eventually(ask, what=f"an answer to {words}")
    assert told is not None
    return told[0]


@pytest.mark.slow
@pytest.mark.parametrize("fate", [kill, pause, demote])
async def test_whatever_becomes_of_the_primary_clients_find_its_successor(
    group: Group, fate: Callable[[Group], Awaitable[None]]
) -> None:
    before = group.primary
    async with ends_of(group.url, timeout_s=TIMEOUT_S) as ends:
        for commands in (ends.client, ends.channel):
            assert await commands.execute_command("SET", "key", "before") == b"OK"
        assert ends.wire.post("SET", "posted", "before")
        assert await ends.channel.execute_command("WAIT", 2, 5_000) == 2
        await fate(group)
        await asyncio.to_thread(group.until_promoted, before)
        for commands in (ends.client, ends.channel):

            async def written(commands: Commands = commands) -> bool:
                # What the old primary takes until it steps down is lost; that is not the point.
                await answered(commands, "SET", "key", str(commands))
                with group.primary.client as client:
                    return bool(client.get("key") == str(commands).encode())

            await eventually(written)

        async def posted() -> bool:
            await asyncio.to_thread(ends.wire.post, "SET", "posted", "after")
            return bool(await answered(ends.client, "GET", "posted") == b"after")

        await eventually(posted)


@pytest.mark.slow
@pytest.mark.parametrize("fate", [kill, pause, demote])
async def test_who_waits_for_a_reply_and_who_works_go_on_with_the_successor(
    group: Group, keys: Keys, fate: Callable[[Group], Awaitable[None]]
) -> None:
    before = group.primary
    settings = Settings(
        redis_url=group.url,
        key_prefix=keys.prefix,
        redis_timeout_s=TIMEOUT_S,
        durability=Durability.REPLICATED,
        drain_s=3,
    )
    async with (
        running_gateway(settings) as gateway,
        httpx.AsyncClient(base_url=gateway.url, timeout=PATIENCE_S) as client,
        answering(group.url, keys, "echo"),
    ):

        async def echo(value: int) -> bool:
            """Whether it is answered at once: by its message, not by its overdue record."""
            since = time.monotonic()
            body = {"version": "echo", "input": {"value": value}}
            answer = await client.post("/v1/predictions", json=body, headers={"Prefer": "wait"})
            if answer.status_code == 503:
                assert answer.headers["retry-after"]
                return False
            return bool(answer.json()["output"] == value) and time.monotonic() - since < 1

        await eventually(lambda: echo(1))
        await fate(group)
        await asyncio.to_thread(group.until_promoted, before)
        await eventually(lambda: echo(2))


async def test_a_sentinel_that_is_gone_is_not_missed(group: Group) -> None:
    group.sentinels[0].kill()
    async with ends_of(group.url, timeout_s=TIMEOUT_S) as ends:
        assert await ends.channel.execute_command("PING") == b"PONG"
        assert await ends.client.execute_command("PING") == b"PONG"
        assert ends.wire.post("PING")


async def test_a_server_that_became_a_replica_is_an_outage_and_not_a_refusal(
    private_server: Server,
) -> None:
    """Callers retry outages, and take refusals for bugs."""
    async with ends_of(private_server.url, timeout_s=TIMEOUT_S) as ends:
        for commands in (ends.client, ends.channel):
            await commands.execute_command("SET", "key", 1)
        await ends.client.execute_command("REPLICAOF", "127.0.0.1", 1)
        for commands in (ends.client, ends.channel):
            with pytest.raises(NotServingError):
                await commands.execute_command("SET", "key", 2)
            script = "return redis.call('SET', KEYS[1], 2)"
            with pytest.raises(NotServingError):
                await commands.execute_command("EVAL", script, 1, "key")
        with pytest.raises(NotServingError):
            await ends.channel.execute_together(("PING",), ("SET", "key", 2), ("PING",))
        await ends.client.execute_command("REPLICAOF", "NO", "ONE")
        for commands in (ends.client, ends.channel):
            assert await commands.execute_command("SET", "key", 3) == b"OK"


async def test_a_blocking_read_on_a_primary_that_is_demoted_is_an_outage(
    private_server: Server,
) -> None:
    async with ends_of(private_server.url, timeout_s=PATIENCE_S) as ends:
        await ends.client.execute_command("XGROUP", "CREATE", "lane", "g", "0", "MKSTREAM")
        words = ("XREADGROUP", "GROUP", "g", "c", "BLOCK", 60_000, "STREAMS", "lane", ">")
        reading = asyncio.ensure_future(ends.channel.execute_command(*words))

        async def blocked() -> bool:
            told: Any = await ends.client.execute_command("INFO", "clients")
            return b"blocked_clients:1" in told

        await eventually(blocked)
        await ends.client.execute_command("REPLICAOF", "127.0.0.1", 1)
        with pytest.raises(NotConnectedError):
            await reading


async def test_a_write_counts_only_once_a_replica_has_it(group: Group) -> None:
    async with ends_of(group.url, timeout_s=TIMEOUT_S) as ends:
        copied = CopiedWrites(ends.channel, ("HINCRBY", "mark", "field", 0))
        assert await copied.execute_command("SET", "key", 1) == b"OK"
        replicas = [server for server in group.servers if server is not group.primary]
        for replica in replicas:
            replica.pause()
        with pytest.raises(NotCopiedError):
            await copied.execute_command("SET", "key", 2)
        # A new connection has written nothing yet: what another one wrote is not confirmed either.
        async with ends_of(group.url, timeout_s=TIMEOUT_S) as others:
            again = CopiedWrites(others.channel, ("HINCRBY", "mark", "field", 0))
            with pytest.raises(NotCopiedError):
                await again.execute_command("EXISTS", "key")
        replicas[0].resume()
        assert await answered(copied, "SET", "key", 3) == b"OK"


async def test_a_client_of_a_lane_that_no_replica_follows_is_told_to_come_again(
    group: Group, keys: Keys
) -> None:
    async with (
        gateway_end(group.url, keys) as gateway,
        ends_of(group.url, timeout_s=TIMEOUT_S) as ends,
    ):
        writer = LaneWriter(
            ends.channel, keys, {"echo": echo_spec()}, gateway.link, replicated=ends.channel
        )
        running = asyncio.create_task(writer.run())
        await writer.enqueue(submission())
        for server in group.servers:
            if server is not group.primary:
                server.pause()
        with pytest.raises(Unavailable, match="No replica"):
            await writer.enqueue(submission())
        assert gateway.link.up
        running.cancel()
        await asyncio.wait([running])
