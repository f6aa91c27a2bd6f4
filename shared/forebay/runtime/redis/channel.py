"""Channels: one connection each, for a task that sends one command at a time."""

import asyncio
from collections.abc import Sequence
from typing import Any

from hiredis import pack_command
from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection, ConnectionPool
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as AnswerTimeoutError

from forebay.runtime.redis.client import ClusterClient, answers_of
from forebay.runtime.redis.cluster import Command
from forebay.runtime.redis.link import Link
from forebay.runtime.redis.refusals import passing


class Channel:
    """One connection of its own, for a task that sends one command at a time.

    A client borrows a connection from its pool, and times sending and reading apart, for every
    command; on the hot path that is most of a command's cost. A channel keeps its connection
    and sets one timeout. Commands of several tasks wait for one another. In a cluster it is one
    connection to each node.

    Args:
        redis: made by `connect_blocking`, so that the connection has no timeout of its own.
        timeout_s: a command without an answer for this long has failed, seconds.
        link: where it is given, a command whose turn comes while the server is known to be out of
            reach fails at once. Else those that wait behind one that gets no answer would each
            take the timeout, one after the other.
    """

    def __init__(self, redis: Redis, *, timeout_s: float, link: Link | None = None) -> None:
        self.timeout_s = timeout_s
        self._link = link
        self._cluster = redis.nodes if isinstance(redis, ClusterClient) else None
        self._lines: dict[ConnectionPool, _Line] = {}
        self._line = self._line_of(redis.connection_pool)

    async def execute_command(self, *args: Any, **_: Any) -> Any:
        """Send a command and wait for its raw answer.

        Raises:
            redis.exceptions.ResponseError: the server refused it.
            redis.exceptions.ConnectionError: the connection broke, and the command may have run;
                or the link is down, and it was not sent; or the server can't serve just now.
            redis.exceptions.TimeoutError: there was no answer in time; likewise.
        """
        return (await self.execute_together(args))[0]

    async def execute_together(self, *commands: Command) -> list[Any]:
        """Send commands in one go, all on the same connection; their raw answers.

        Args:
            commands: in a cluster, the first has a key, and all keys share its slot.

        Raises:
            redis.exceptions.RedisError: as for `execute_command`, for the first that failed. Those
                after it were sent, too.
        """
        if self._cluster is None:
            return await self._line.send(commands)
        return await self._cluster.route(commands, self._send)

    async def aclose(self) -> None:
        """Give the connections back."""
        for line in self._lines.values():
            await line.aclose()

    async def _send(self, pool: ConnectionPool, commands: Sequence[Command]) -> list[Any]:
        return await self._line_of(pool).send(commands)

    def _line_of(self, pool: ConnectionPool) -> "_Line":
        line = self._lines.get(pool)
        if line is None:
            line = self._lines[pool] = _Line(pool, self.timeout_s, self._link)
        return line


class _Line:
    """One connection of a pool; the arguments are a channel's."""

    def __init__(self, pool: Any, timeout_s: float, link: Link | None) -> None:
        self._pool = pool
        self._timeout_s = timeout_s
        self._link = link
        self._connection: AbstractConnection | None = None
        self._turn = asyncio.Lock()

    async def send(self, commands: Sequence[Command]) -> list[Any]:
        async with self._turn:
            if self._link is not None and not self._link.up:
                raise RedisConnectionError("redis is known to be out of reach")
            try:
                async with asyncio.timeout(self._timeout_s):
                    connection = await self._connected()
                    packed = b"".join(pack_command(tuple(command)) for command in commands)
                    await connection.send_packed_command(packed, check_health=False)
                    return await answers_of(connection, len(commands))
            except TimeoutError as error:
                await self._hang_up()
                raise AnswerTimeoutError(f"no answer within {self._timeout_s} s") from error
            except ResponseError as error:
                if (refusal := passing(error)) is None:
                    raise
                if refusal.demoted:
                    # The next command goes to whichever server is the right one then.
                    await self._hang_up()
                raise refusal from error

    async def aclose(self) -> None:
        """Give the connection back."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await self._pool.release(connection)

    async def _hang_up(self) -> None:
        if self._connection is not None:
            await self._connection.disconnect(nowait=True)

    async def _connected(self) -> AbstractConnection:
        connection = self._connection
        if connection is None or not connection.is_connected:
            await self.aclose()
            connection = self._connection = await self._pool.get_connection()
        return connection
