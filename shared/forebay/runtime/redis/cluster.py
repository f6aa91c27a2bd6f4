"""Redis Cluster: which node holds a key, and how a command gets there.

    command ─▶ first key ─▶ slot ─▶ node ─▶ a connection to it
                              ▲              │ MOVED: learn the map anew, try again
                              └──────────────┘ ASK: the other node, this once

All keys of a command share a slot (their hash tag), so the first one tells. What has no key goes
to any node, as a subscription does: a classic PUBLISH reaches them all.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

import redis.connection as blocking
from redis.asyncio.connection import ConnectionPool
from redis.crc import key_slot
from redis.exceptions import AskError, MovedError, RedisError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as AnswerTimeoutError

from forebay.runtime.redis.connections import Connection, SSLConnection
from forebay.runtime.redis.urls import Address

log = logging.getLogger(__name__)

Command = Sequence[Any]

Send = Callable[[ConnectionPool, Sequence[Command]], Awaitable[list[Any]]]
"""Sends commands in one go on a connection of a pool; raises the first error among the answers."""

MAX_REDIRECTS = 5
"""Nodes a command is sent to before it has failed: more says that they do not agree yet."""

_KEY_AT = {"EVAL": 3, "EVALSHA": 3, "XGROUP": 2, "XINFO": 2}
"""Where the first key is, if not right after the command."""

_KEYLESS = frozenset({"CLIENT", "CLUSTER", "ECHO", "INFO", "PING", "PUBLISH", "SCRIPT", "TIME"})


class Cluster:
    """The nodes as one client knows them.

    Args:
        seeds: nodes to ask first.
        tls: whether connections are behind TLS.
        options: of every connection and pool.
        timeout_s: for asking for the map, seconds.
    """

    def __init__(
        self, seeds: Sequence[Address], *, tls: bool, options: dict[str, Any], timeout_s: float
    ) -> None:
        self._seeds = tuple(seeds)
        self._kind = SSLConnection if tls else Connection
        self._options = options
        self._timeout_s = timeout_s
        self._slots = SlotMap(())
        self._stale = True
        self._nodes: dict[Address, ConnectionPool] = {}
        self._learning = asyncio.Lock()
        kind = _AnyTlsNode if tls else _AnyNode
        self.any_node = ConnectionPool(kind, cluster=self, **options)

    @property
    def addresses(self) -> list[Address]:
        """Nodes to try, in no order: those that hold slots, or the seeds while none is known."""
        known = list(self._slots.primaries) or list(self._seeds)
        random.shuffle(known)
        # Where all that were known are gone, the seeds may know more.
        return [*known, *(seed for seed in self._seeds if seed not in known)]

    async def route(self, commands: Sequence[Command], send: Send) -> list[Any]:
        """Send commands, whose keys share a slot, to the node that holds it.

        Raises:
            redis.exceptions.RedisError: whatever the last node, or the connection, raised.
        """
        key = first_key(commands[0])
        if key is None:
            return await send(self.any_node, commands)
        pool = await self._pool_for(key)
        try:
            for _ in range(MAX_REDIRECTS):
                try:
                    return await send(pool, commands)
                except MovedError:
                    self._stale = True
                    pool = await self._pool_for(key)
                except AskError as error:
                    return await self._ask(error.node_addr, commands, send)
        except (RedisConnectionError, AnswerTimeoutError, OSError):
            # Its replica may be about to take over.
            self._stale = True
            raise
        raise RedisConnectionError("the nodes of the cluster do not agree who holds a slot")

    async def aclose(self) -> None:
        """Close all connections."""
        for pool in (self.any_node, *self._nodes.values()):
            await pool.aclose()

    async def _ask(self, address: Address, commands: Sequence[Command], send: Send) -> list[Any]:
        """A slot that is moving: this key has gone already. ASKING holds for one command."""
        asking = [word for command in commands for word in (("ASKING",), command)]
        return (await send(self._node(address), asking))[1::2]

    async def _pool_for(self, key: bytes) -> ConnectionPool:
        if self._stale:
            async with self._learning:
                if self._stale:
                    await self._learn()
        address = self._slots.node(key)
        if address is None:
            self._stale = True
            raise RedisConnectionError(f"no node of the cluster holds the slot of {key!r}")
        return self._node(address)

    def _node(self, address: Address) -> ConnectionPool:
        pool = self._nodes.get(address)
        if pool is None:
            host, port = address
            options: dict[str, Any] = {**self._options, "host": host, "port": port}
            pool = self._nodes[address] = ConnectionPool(self._kind, **options)
        return pool

    async def _learn(self) -> None:
        pool: Any = self.any_node
        try:
            async with asyncio.timeout(self._timeout_s):
                connection = await pool.get_connection()
                try:
                    await connection.send_command("CLUSTER", "SLOTS")
                    told = await connection.read_response()
                except BaseException:
                    await connection.disconnect(nowait=True)
                    raise
                finally:
                    await pool.release(connection)
        except TimeoutError as error:
            raise RedisConnectionError("no node of the cluster answers") from error
        before, self._slots = self._slots, SlotMap(told, asked=connection.host)
        self._stale = False
        if before.primaries and before.primaries != self._slots.primaries:
            log.info("the cluster's primaries are now %s", sorted(self._slots.primaries))
            await self._leave(before.primaries - self._slots.primaries)

    async def _leave(self, gone: Iterable[Address]) -> None:
        """Cut what is connected to nodes that are primaries no more.

        One of these may be a subscription to a node that is gone with its machine, or paused, and
        would wait for ever.
        """
        for address in gone:
            # The pool stays: who has been given it may still use it, and it has to be closed.
            if pool := self._nodes.get(address):
                await pool.disconnect()
        busy: Any = self.any_node
        for connection in [*busy._available_connections, *busy._in_use_connections]:
            if (connection.host, connection.port) not in self._slots.primaries:
                await connection.disconnect(nowait=True)


class SlotMap:
    """Which node holds which slot.

    Args:
        told: the answer to `CLUSTER SLOTS`.
        asked: host of the node that gave it; it leaves out its own where it doesn't know better.
    """

    def __init__(self, told: Iterable[Any], *, asked: str = "") -> None:
        self._ranges = [
            (first, last, ((primary[0] or b"").decode() or asked, int(primary[1])))
            for first, last, primary, *_ in told
        ]
        self.primaries = frozenset(address for _, _, address in self._ranges)

    def node(self, key: bytes) -> Address | None:
        """The node that holds a key; None if there is none."""
        slot = key_slot(key)
        return next(
            (address for first, last, address in self._ranges if first <= slot <= last), None
        )


def first_key(command: Command) -> bytes | None:
    """The key that says where a command belongs; None if it has none."""
    name = str(command[0]).upper()
    if name in _KEYLESS:
        return None
    at = _KEY_AT.get(name, 1)
    if name in ("XREAD", "XREADGROUP"):
        at = [str(word).upper() for word in command].index("STREAMS") + 1
    key = command[at] if at < len(command) else None
    return key.encode() if isinstance(key, str) else key


class BlockingCluster:
    """Finds nodes for threads, which ask each time they connect.

    Args:
        seeds: nodes to ask.
        tls: whether connections are behind TLS.
        options: of every connection.
    """

    def __init__(self, seeds: Sequence[Address], *, tls: bool, options: dict[str, Any]) -> None:
        self._seeds = list(seeds)
        self._kind: type[Any] = blocking.SSLConnection if tls else blocking.Connection
        self._options = options

    def connect(self, key: bytes) -> Any:
        """A connection to the node that holds a key.

        Raises:
            redis.exceptions.RedisError: nobody knows it, or it is out of reach.
        """
        error: Exception = RedisConnectionError(f"no node of the cluster knows of {key!r}")
        for address in list(self._seeds):
            try:
                slots = self._learn(address)
            except (RedisError, OSError) as failed:
                error = failed
                continue
            if (found := slots.node(key)) is not None:
                others = [one for one in self._seeds if one not in slots.primaries]
                self._seeds = [*slots.primaries, *others]
                return self._open(found)
        raise error

    def _learn(self, address: Address) -> SlotMap:
        connection = self._open(address)
        try:
            connection.send_command("CLUSTER", "SLOTS")
            return SlotMap(connection.read_response(), asked=address[0])
        finally:
            connection.disconnect()

    def _open(self, address: Address) -> Any:
        host, port = address
        options: dict[str, Any] = {**self._options, "host": host, "port": port}
        connection = self._kind(**options)
        connection.connect()
        return connection


class _AnyNode(Connection):
    """A connection to whichever node can be reached."""

    def __init__(self, *, cluster: Cluster, **options: Any) -> None:
        super().__init__(**options)
        self._cluster = cluster

    async def _connect(self) -> None:
        error: Exception | None = None
        for self.host, self.port in self._cluster.addresses:  # noqa: B020
            try:
                await super()._connect()  # type: ignore[no-untyped-call]
            except (OSError, TimeoutError) as failed:
                error = failed
            else:
                return
        raise error or OSError("no node is known")


class _AnyTlsNode(_AnyNode, SSLConnection):
    """The same behind TLS."""
