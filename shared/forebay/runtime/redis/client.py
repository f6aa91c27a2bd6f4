"""Clients: commands from many tasks, each on a connection of a pool."""

import asyncio
from collections.abc import Awaitable, Sequence
from typing import Any, Protocol, TypedDict, cast

from hiredis import pack_command
from redis.asyncio import Redis
from redis.asyncio.connection import SSLConnection
from redis.exceptions import RedisError, ResponseError

from forebay.runtime.redis.cluster import Cluster, Command
from forebay.runtime.redis.pools import cluster_of, pool_of
from forebay.runtime.redis.refusals import passing
from forebay.runtime.redis.urls import misunderstood, read_url

MAX_COMMANDS = 64
"""Commands a client has under way at once, each on a connection; more wait their turn. The pool
holds as many again for subscriptions and channels."""


class Commands(Protocol):
    """The one method of a Redis client that the lanes need."""

    def execute_command(self, *args: Any, **options: Any) -> Awaitable[Any]:
        """Send a command and wait for its raw answer."""
        ...


def connect(url: str, *, timeout_s: float) -> Redis:
    """A client whose commands fail after `timeout_s` and are never repeated behind our back.

    Args:
        url: as in `urls`.
        timeout_s: for connecting and for each answer, seconds.

    Raises:
        ConfigurationError: the URL can't be understood.
    """
    return _client(url, timeout_s, timeout_s)


def connect_blocking(url: str, *, timeout_s: float) -> Redis:
    """A client whose answers may take for ever: for subscriptions, and for channels.

    Args:
        url: as for `connect`.
        timeout_s: for connecting, seconds.
    """
    return _client(url, timeout_s, None)


def check_url(url: str) -> None:
    """Make sure that a URL can be understood, without asking whether anybody is there.

    Raises:
        ConfigurationError: it can't be.
    """
    connect(url, timeout_s=1.0)


def _client(url: str, connect_s: float, answer_s: float | None) -> Redis:
    place = read_url(url)
    times: _Times = {"connect_s": connect_s, "answer_s": answer_s, "most": 2 * MAX_COMMANDS}
    try:
        cluster = cluster_of(place, **times) if place.nodes else None
        pool = cluster.any_node if cluster else pool_of(place, **times)
        _check_options(pool)
    except (ValueError, TypeError, RedisError, OSError) as error:
        raise misunderstood(url, error) from error
    kind = _Client if cluster is None else ClusterClient
    client = cast(_Client, kind.from_pool(pool))
    client.response_callbacks.clear()
    client.turns = asyncio.Semaphore(MAX_COMMANDS)
    if cluster is not None:
        cast(ClusterClient, client).nodes = cluster
    return client


class _Times(TypedDict):
    connect_s: float
    answer_s: float | None
    most: int


def _check_options(pool: Any) -> None:
    """Look at what redis-py would look at when it connects, when it is too late to complain."""
    made = pool.make_connection()  # knows which options there are
    if isinstance(made, SSLConnection):
        made.ssl_context.get()  # reads certificates


class _Client(Redis):
    """A client whose commands wait for a connection, and that passes every cancellation on.

    With more commands at once than its pool has connections redis-py raises a connection error,
    as if the server were gone. And it sends through `asyncio.wait_for`, which on Python 3.11 drops
    a cancellation that comes when the sending is done: the task would live on, and whoever waits
    for its end would wait for ever.
    """

    turns: asyncio.Semaphore

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        task = asyncio.current_task()
        asked = task.cancelling() if task else 0
        async with self.turns:
            try:
                return await self._execute(*args, **options)
            except ResponseError as error:
                if (refusal := passing(error)) is None:
                    raise
                if refusal.demoted:
                    await self.connection_pool.disconnect(inuse_connections=False)
                raise refusal from error
            finally:
                if task and task.cancelling() > asked:
                    raise asyncio.CancelledError

    async def _execute(self, *args: Any, **options: Any) -> Any:
        return await super().execute_command(*args, **options)  # type: ignore[no-untyped-call]


class ClusterClient(_Client):
    """A client of a cluster, whose commands go to the node that holds their key.

    Its own pool has connections to any node: for subscriptions, and for what has no key.
    """

    nodes: Cluster

    async def aclose(self, close_connection_pool: bool | None = None) -> None:
        """Close all connections."""
        await super().aclose(close_connection_pool)
        await self.nodes.aclose()

    async def _execute(self, *args: Any, **_: Any) -> Any:
        return (await self.nodes.route([args], _send))[0]


async def _send(pool: Any, commands: Sequence[Command]) -> list[Any]:
    connection = await pool.get_connection()
    try:
        packed = b"".join(pack_command(tuple(command)) for command in commands)
        await connection.send_packed_command(packed, check_health=False)
        return await answers_of(connection, len(commands))
    except BaseException as error:
        if not isinstance(error, ResponseError):
            # An answer may still come; nobody may take it for their own.
            await connection.disconnect(nowait=True)
        raise
    finally:
        await pool.release(connection)


async def answers_of(connection: Any, count: int) -> list[Any]:
    """So many answers, all of them read.

    Raises:
        redis.exceptions.ResponseError: the first of them that is an error.
    """
    answers: list[Any] = []
    for _ in range(count):
        try:
            answers.append(await connection.read_response(disable_decoding=True))
        except ResponseError as error:
            answers.append(error)
    for answer in answers:
        if isinstance(answer, ResponseError):
            raise answer
    return answers
