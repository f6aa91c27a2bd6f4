"""Channels: one connection each, for a task that sends one command at a time."""

import asyncio
from collections.abc import Sequence
from typing import Any

from hiredis import pack_command
from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as AnswerTimeoutError

from forebay.runtime.redis.link import Link
from forebay.runtime.redis.refusals import NotServingError, passing

Command = tuple[Any, ...]


class Channel:
    """One connection of its own, for a task that sends one command at a time.

    A client borrows a connection from its pool, and times sending and reading apart, for every
    command; on the hot path that is most of a command's cost. A channel keeps its connection
    and sets one timeout. Commands of several tasks wait for one another.

    Args:
        redis: made by `connect_blocking`, so that the connection has no timeout of its own.
        timeout_s: a command without an answer for this long has failed, seconds.
        link: where it is given, a command whose turn comes while the server is known to be out of
            reach fails at once. Else those that wait behind one that gets no answer would each
            take the timeout, one after the other.
    """

    def __init__(self, redis: Redis, *, timeout_s: float, link: Link | None = None) -> None:
        self._pool: Any = redis.connection_pool
        self._timeout_s = timeout_s
        self._link = link
        self._connection: AbstractConnection | None = None
        self._turn = asyncio.Lock()

    @property
    def timeout_s(self) -> float:
        """After which a command without an answer has failed, seconds."""
        return self._timeout_s

    async def execute_command(self, *args: Any, **_: Any) -> Any:
        """Send a command and wait for its raw answer.

        Raises:
            redis.exceptions.ResponseError: the server refused it.
            redis.exceptions.ConnectionError: the connection broke, and the command may have run;
                or the link is down, and it was not sent; or the server can't serve just now.
            redis.exceptions.TimeoutError: there was no answer in time; likewise.
        """
        async with self._turn:
            self._look_at_link()
            try:
                async with asyncio.timeout(self._timeout_s):
                    connection = await self._connected()
                    await connection.send_packed_command(pack_command(args), check_health=False)
                    return await connection.read_response(disable_decoding=True)
            except TimeoutError as error:
                raise await self._late() from error
            except ResponseError as error:
                if (refusal := passing(error)) is None:
                    raise
                await self._leave(refusal)
                raise refusal from error

    async def execute_together(self, *commands: Command) -> list[Any]:
        """Send commands in one go, all on the same connection; their raw answers.

        Raises:
            redis.exceptions.RedisError: as for `execute_command`, for the first that failed. Those
                after it were sent, too.
        """
        async with self._turn:
            self._look_at_link()
            packed = b"".join(pack_command(command) for command in commands)
            try:
                async with asyncio.timeout(self._timeout_s):
                    connection = await self._connected()
                    await connection.send_packed_command(packed, check_health=False)
                    answers = [await _answer(connection) for _ in commands]
            except TimeoutError as error:
                raise await self._late() from error
            return await self._checked(answers)

    async def aclose(self) -> None:
        """Give the connection back."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await self._pool.release(connection)

    async def _checked(self, answers: Sequence[Any]) -> list[Any]:
        for answer in answers:
            if isinstance(answer, ResponseError):
                refusal = passing(answer)
                if refusal is None:
                    raise answer
                await self._leave(refusal)
                raise refusal from answer
        return list(answers)

    def _look_at_link(self) -> None:
        if self._link is not None and not self._link.up:
            raise RedisConnectionError("redis is known to be out of reach")

    async def _late(self) -> AnswerTimeoutError:
        if self._connection is not None:
            await self._connection.disconnect(nowait=True)
        return AnswerTimeoutError(f"no answer within {self._timeout_s} s")

    async def _leave(self, refusal: NotServingError) -> None:
        """The next command goes to whichever server is the right one then."""
        if refusal.demoted and self._connection is not None:
            await self._connection.disconnect(nowait=True)

    async def _connected(self) -> AbstractConnection:
        connection = self._connection
        if connection is None or not connection.is_connected:
            await self.aclose()
            connection = self._connection = await self._pool.get_connection()
        return connection


async def _answer(connection: AbstractConnection) -> Any:
    """An answer, or the error that it is."""
    try:
        return await connection.read_response(disable_decoding=True)
    except ResponseError as error:
        return error
