"""Clients: commands from many tasks, each on a connection of a pool."""

import asyncio
from collections.abc import Awaitable
from typing import Any, Protocol, cast

from redis.asyncio import Redis
from redis.asyncio.connection import SSLConnection
from redis.exceptions import RedisError, ResponseError

from forebay.runtime.redis.pools import pool_of
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
    try:
        pool = pool_of(place, connect_s=connect_s, answer_s=answer_s, most=2 * MAX_COMMANDS)
        _check_options(pool)
    except (ValueError, TypeError, RedisError, OSError) as error:
        raise misunderstood(url, error) from error
    client = cast(_Client, _Client.from_pool(pool))
    client.response_callbacks.clear()
    client.turns = asyncio.Semaphore(MAX_COMMANDS)
    return client


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
                return await super().execute_command(*args, **options)  # type: ignore[no-untyped-call]
            except ResponseError as error:
                if (refusal := passing(error)) is None:
                    raise
                if refusal.demoted:
                    await self.connection_pool.disconnect(inuse_connections=False)
                raise refusal from error
            finally:
                if task and task.cancelling() > asked:
                    raise asyncio.CancelledError
