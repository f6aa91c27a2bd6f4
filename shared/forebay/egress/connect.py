"""Connects to what a name resolves to, if the rules allow it.

A name is resolved once, each of its addresses is checked, and one of those is connected to: there
is no second look-up that could answer otherwise. TLS still checks the name.
"""

import asyncio
import contextlib
import ipaddress
import socket
from collections.abc import Iterable
from typing import Any, Final, cast

import httpcore2

from forebay.egress.rules import Rules, refused

RESOLVE_S: Final = 10.0
"""Longest that a name may take to be resolved, where a request sets no shorter bound."""


class CheckedBackend(httpcore2.AsyncNetworkBackend):
    """Where `httpcore2` gets its connections from.

    Args:
        rules: what may be connected to.
    """

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        # Defined one way or another by what is installed, which pyright can't follow.
        self._inner = cast("httpcore2.AsyncNetworkBackend", httpcore2.AnyIOBackend())

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """Connect to the first of a name's addresses that answers.

        Raises:
            Refused: one of its addresses may not be connected to. A name that is half public is
                not trusted with the other half.
            httpcore2.ConnectError: none answers, or the name has none.
        """
        addresses = await self._resolve(host, port, timeout)
        for address in addresses:
            parsed = ipaddress.ip_address(address.partition("%")[0])
            if not self._rules.allows(parsed, host=host):
                raise refused(host, parsed)
        error: Exception = httpcore2.ConnectError("its name has no address")
        for address in addresses:
            try:
                return await self._inner.connect_tcp(
                    address, port, timeout, local_address, socket_options
                )
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as failed:
                error = failed
        raise error

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """Refuse: no URL leads to a socket of this machine."""
        raise httpcore2.ConnectError("Unix sockets are not called out to")

    async def sleep(self, seconds: float) -> None:
        """Wait, between the attempts that `httpcore2` may be asked to make."""
        await asyncio.sleep(seconds)

    async def _resolve(self, host: str, port: int, within_s: float | None) -> list[str]:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(within_s or RESOLVE_S):
                found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except TimeoutError:
            raise httpcore2.ConnectTimeout("its name was not resolved in time") from None
        except (OSError, UnicodeError) as error:
            raise httpcore2.ConnectError(f"its name can't be resolved: {_said(error)}") from error
        return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def _said(error: Exception) -> str:
    with contextlib.suppress(IndexError):
        return str(error.args[-1])
    return type(error).__name__
