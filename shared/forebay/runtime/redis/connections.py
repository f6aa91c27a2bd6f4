"""Connections that may be closed while others use them.

After a failover all connections to the server before are cut, those in use too (`pools`,
`cluster`). redis-py raises an `AttributeError` in a task that is about to write on one at that
moment, often in the middle of a new connection's greeting. Nobody expects that of a server that is
gone: it is a connection error here, as any other loss of the connection is.
"""

from collections.abc import Iterable

from redis.asyncio import connection, sentinel
from redis.exceptions import ConnectionError as RedisConnectionError


class _Cut(connection.AbstractConnection):
    """Tells by a connection error that it was closed."""

    async def send_packed_command(
        self, command: bytes | str | Iterable[bytes], check_health: bool = True
    ) -> None:
        try:
            await super().send_packed_command(command, check_health)
        except AttributeError as error:
            if self.is_connected:
                raise
            raise RedisConnectionError("The connection was closed before it was used.") from error


class Connection(_Cut, connection.Connection):
    """Over TCP."""


class SSLConnection(_Cut, connection.SSLConnection):
    """Over TLS."""


class UnixDomainSocketConnection(_Cut, connection.UnixDomainSocketConnection):
    """Over a socket of this machine."""


class SentinelManagedConnection(_Cut, sentinel.SentinelManagedConnection):
    """To the server that sentinels name."""


class SentinelManagedSSLConnection(_Cut, sentinel.SentinelManagedSSLConnection):
    """Likewise over TLS."""
