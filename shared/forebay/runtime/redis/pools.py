"""Connections to the server of a URL; after a failover, to its successor."""

import asyncio
import socket
from typing import Any

import redis.connection as blocking
from redis.asyncio.connection import ConnectionPool
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel, SentinelConnectionPool
from redis.backoff import NoBackoff
from redis.retry import Retry as BlockingRetry
from redis.sentinel import Sentinel as BlockingSentinel
from redis.sentinel import SentinelConnectionPool as BlockingSentinelPool

from forebay.runtime.redis.cluster import BlockingCluster, Cluster
from forebay.runtime.redis.connections import (
    Connection,
    SentinelManagedConnection,
    SentinelManagedSSLConnection,
    SSLConnection,
    UnixDomainSocketConnection,
)
from forebay.runtime.redis.urls import Address, Place

KEEPALIVE_S = 5
"""A connection without traffic is probed after so long, so that a peer whose machine is gone is
found out: a subscription sends nothing by itself."""

SENTINEL_SHARE = 0.25
"""Share of a connection's time given to each sentinel: the next one is asked if it says nothing."""


def pool_of(place: Place, *, connect_s: float, answer_s: float | None, most: int) -> ConnectionPool:
    """A pool of connections that repeat nothing by themselves.

    Args:
        place: where to.
        connect_s: for connecting, seconds.
        answer_s: for each answer, seconds; None waits for ever.
        most: connections.
    """
    options = _pool_options(place, connect_s=connect_s, answer_s=answer_s, most=most)
    if place.sentinels:
        kind_of_primary = SentinelManagedSSLConnection if place.tls else SentinelManagedConnection
        options["connection_class"] = kind_of_primary
        sentinel = Sentinel(  # type: ignore[no-untyped-call]
            place.sentinels,
            sentinel_kwargs={**_sentinel_options(place, connect_s), "retry": Retry(NoBackoff(), 0)},
        )
        return _PrimaryPool(place.service, sentinel, **options)
    kind: type[Any] = Connection
    if place.unix:
        kind = UnixDomainSocketConnection
    elif place.tls:
        kind = SSLConnection
    return ConnectionPool(kind, **options)


def cluster_of(place: Place, *, connect_s: float, answer_s: float | None, most: int) -> Cluster:
    """The cluster of a place; the arguments are those of `pool_of`, for each node."""
    options = _pool_options(place, connect_s=connect_s, answer_s=answer_s, most=most)
    return Cluster(place.nodes, tls=place.tls, options=options, timeout_s=connect_s)


def blocking_cluster_of(place: Place, *, timeout_s: float) -> BlockingCluster:
    """Likewise for threads; the arguments are those of `blocking_pool_of`."""
    options = _blocking_options(place, timeout_s)
    return BlockingCluster(place.nodes, tls=place.tls, options=options)


def blocking_pool_of(place: Place, *, timeout_s: float) -> blocking.ConnectionPool:
    """A pool of connections that threads use.

    Args:
        place: where to.
        timeout_s: for connecting and for sending, seconds.
    """
    options = _blocking_options(place, timeout_s)
    if place.sentinels:
        options |= _tls(place)
        sentinel = BlockingSentinel(  # type: ignore[no-untyped-call]
            place.sentinels,
            sentinel_kwargs={
                **_sentinel_options(place, timeout_s),
                "retry": BlockingRetry(NoBackoff(), 0),
            },
        )
        return BlockingSentinelPool(place.service, sentinel, **options)  # type: ignore[no-untyped-call]
    kind: type[Any] = blocking.Connection
    if place.unix:
        kind = blocking.UnixDomainSocketConnection
    elif place.tls:
        kind = blocking.SSLConnection
    return blocking.ConnectionPool(kind, **options)


def _pool_options(
    place: Place, *, connect_s: float, answer_s: float | None, most: int
) -> dict[str, Any]:
    return {
        **_common_options(place),
        "socket_connect_timeout": connect_s,
        "socket_timeout": answer_s,
        "socket_read_size": 262_144,
        "retry": Retry(NoBackoff(), 0),
        "max_connections": most,
        **place.options,
    }


def _blocking_options(place: Place, timeout_s: float) -> dict[str, Any]:
    return {
        **_common_options(place),
        "socket_connect_timeout": timeout_s,
        "socket_timeout": timeout_s,
        "retry": BlockingRetry(NoBackoff(), 0),
        **place.options,
    }


def _sentinel_options(place: Place, connect_s: float) -> dict[str, Any]:
    return {
        **_common_options(place),
        **place.sentinel_options,
        **_tls(place),
        "socket_connect_timeout": connect_s * SENTINEL_SHARE,
        "socket_timeout": connect_s * SENTINEL_SHARE,
    }


def _tls(place: Place) -> dict[str, Any]:
    """How TLS is said where redis-py chooses the kind of connection."""
    return {"ssl": True} if place.tls else {}


def _common_options(place: Place) -> dict[str, Any]:
    """What holds for all connections, of clients that wait and of those that don't."""
    options: dict[str, Any] = {"protocol": 2}
    if not place.unix:
        options["socket_keepalive"] = True
        options["socket_keepalive_options"] = {
            getattr(socket, name): value
            for name, value in (
                ("TCP_KEEPIDLE", KEEPALIVE_S),
                ("TCP_KEEPINTVL", 2),
                ("TCP_KEEPCNT", 3),
            )
            if hasattr(socket, name)
        }
    return options


class _PrimaryPool(SentinelConnectionPool):
    """Connections to the primary that the sentinels name at that moment."""

    master_address: Address | None

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)  # type: ignore[no-untyped-call]
        self._asking = asyncio.Lock()

    async def get_master_address(self) -> Address:
        """Ask for the primary. If it is another than before, leave the old one altogether.

        redis-py leaves those connections that are in use. One of them may be a subscription to a
        server that is gone with its machine, or paused, and would wait for ever.
        """
        # One at a time: redis-py moves the sentinel that knew to the front, and two tasks that do
        # so at once may drop another from the list.
        async with self._asking:
            address: Address = await self.sentinel_manager.discover_master(self.service_name)
        before, self.master_address = self.master_address, address
        if before not in (None, address):
            await self.disconnect()
        return address

    async def aclose(self) -> None:
        """Close all connections, those to the sentinels too."""
        await super().aclose()
        await self.sentinel_manager.aclose()
