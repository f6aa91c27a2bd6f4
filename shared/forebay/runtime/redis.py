"""Redis clients as Forebay uses them, and the watch over whether the server is within reach.

redis-py retries commands and times out blocking ones by default; both are wrong here. A repeated
write must be a decision (the scripts are idempotent, so the caller may), and a blocking read has
a time of its own. Replies stay raw: the scripts' stubs know their shape.
"""

import asyncio
import logging
import re
import time
from collections.abc import Awaitable
from typing import Any, Protocol, cast

from hiredis import pack_command
from redis.asyncio import Redis
from redis.asyncio.connection import (
    AbstractConnection,
    SSLConnection,
    UnixDomainSocketConnection,
)
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import BusyLoadingError, RedisError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as AnswerTimeoutError

from forebay.contract.errors import ConfigurationError
from forebay.runtime.clock import Clock

log = logging.getLogger(__name__)

_UNKNOWN_OPTION = re.compile(r".*unexpected keyword argument ('\w+').*")
_PASSWORD_OPTION = re.compile(r"([?&]password=)[^&]*")

WATCH_S = 1.0
"""How often a healthy server is asked for the time."""

RETURN_S = 0.1
"""How often an absent server is asked."""


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
        url: `redis://`, `rediss://` or `unix://`.
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
    try:
        client = cast(
            _Client,
            _Client.from_url(
                url,
                protocol=2,
                retry=Retry(NoBackoff(), 0),
                retry_on_timeout=False,
                socket_connect_timeout=connect_s,
                socket_timeout=answer_s,
                socket_read_size=262_144,
                max_connections=2 * MAX_COMMANDS,
            ),
        )
        _check_address(client.connection_pool)
    except (ValueError, TypeError, RedisError, OSError) as error:
        why = _UNKNOWN_OPTION.sub(r"there is no option \1", str(error)).rstrip(".")
        if isinstance(error, OSError):
            why = f"its certificates can't be used: {why}"
        raise ConfigurationError(
            f"The Redis URL {mask(url)!r} can't be understood: {why}. "
            "Write it as redis://HOST:PORT/DB."
        ) from error
    client.response_callbacks.clear()
    client.turns = asyncio.Semaphore(MAX_COMMANDS)
    return client


def _check_address(pool: Any) -> None:
    """Look at what redis-py would look at when it connects, when it is too late to complain."""
    made = pool.make_connection()  # knows which options there are
    if issubclass(pool.connection_class, SSLConnection):
        made.ssl_context.get()  # reads certificates
    address = pool.connection_kwargs
    if issubclass(pool.connection_class, UnixDomainSocketConnection) and "path" not in address:
        raise ValueError("it names no path")
    str(address.get("host", "")).encode("idna")


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
            finally:
                if task and task.cancelling() > asked:
                    raise asyncio.CancelledError


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

    def __init__(self, redis: Redis, *, timeout_s: float, link: "Link | None" = None) -> None:
        self._pool: Any = redis.connection_pool
        self._timeout_s = timeout_s
        self._link = link
        self._connection: AbstractConnection | None = None
        self._turn = asyncio.Lock()

    async def execute_command(self, *args: Any, **_: Any) -> Any:
        """Send a command and wait for its raw answer.

        Raises:
            redis.exceptions.ResponseError: the server refused it.
            redis.exceptions.ConnectionError: the connection broke, and the command may have run;
                or the link is down, and it was not sent.
            redis.exceptions.TimeoutError: there was no answer in time; likewise.
        """
        async with self._turn:
            if self._link is not None and not self._link.up:
                raise RedisConnectionError("redis is known to be out of reach")
            try:
                async with asyncio.timeout(self._timeout_s):
                    connection = await self._connected()
                    await connection.send_packed_command(pack_command(args), check_health=False)
                    return await connection.read_response(disable_decoding=True)
            except TimeoutError as error:
                if self._connection is not None:
                    await self._connection.disconnect(nowait=True)
                raise AnswerTimeoutError(f"no answer within {self._timeout_s} s") from error

    async def _connected(self) -> AbstractConnection:
        connection = self._connection
        if connection is None or not connection.is_connected:
            await self.aclose()
            connection = self._connection = await self._pool.get_connection()
        return connection

    async def aclose(self) -> None:
        """Give the connection back."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await self._pool.release(connection)


def mask(url: str) -> str:
    """The URL without its password, fit for logs and errors."""
    url = _PASSWORD_OPTION.sub(r"\1***", url)
    scheme, separator, rest = url.partition("://")
    credentials, at, host = rest.rpartition("@")
    if not at:
        return url
    user = credentials.partition(":")[0]
    return f"{scheme}{separator}{user}:***@{host}"


class Link:
    """Watches one Redis server: whether it answers, and what time it is there.

    Args:
        redis: client with a timeout.
        clock: follows the server's time.
    """

    def __init__(self, redis: Redis, clock: Clock) -> None:
        self._redis = redis
        self._commands: Commands = redis
        self._clock = clock
        self._up = True
        self._changed_at = time.monotonic()
        self._returned = asyncio.Event()
        self._returned.set()
        self._look = asyncio.Event()
        self.outages = 0

    @property
    def up(self) -> bool:
        """False while the server is known to be out of reach."""
        return self._up

    @property
    def down_s(self) -> float:
        """For how long the server has been out of reach, seconds."""
        return 0.0 if self._up else time.monotonic() - self._changed_at

    def suspect(self, error: Exception) -> None:
        """Report a failed command: the link counts as down until the server answers again."""
        self._set(False, error)
        self._look.set()

    async def returned(self) -> None:
        """Wait until the server is within reach."""
        await self._returned.wait()

    async def run(self) -> None:
        """Watch until cancelled."""
        while True:
            await self.check()
            try:
                async with asyncio.timeout(WATCH_S if self._up else RETURN_S):
                    await self._look.wait()
            except TimeoutError:
                pass
            self._look.clear()

    async def check(self) -> None:
        """Ask the server whether it takes commands, and for the time, once."""
        try:
            # TIME is answered even while a server loads its data and refuses all else.
            await self._commands.execute_command("PING")
            sent = time.monotonic()
            seconds, micros = await self._commands.execute_command("TIME")
        except (RedisError, OSError) as error:
            self._set(False, error)
            if not isinstance(error, BusyLoadingError):
                # A connection that failed may still be in the pool; the next try takes a new one.
                await self._redis.connection_pool.disconnect(inuse_connections=False)
            return
        self._clock.follow(int(seconds) * 1_000_000 + int(micros), sent, time.monotonic())
        self._set(True, None)

    def _set(self, up: bool, error: Exception | None) -> None:
        if up == self._up:
            return
        self._up = up
        self._changed_at = time.monotonic()
        if up:
            self._returned.set()
            log.info("redis is within reach again")
        else:
            self.outages += 1
            self._returned.clear()
            log.warning("redis is out of reach: %s", error)
