"""`/metrics` of a process that has no HTTP of its own: a small server on `metrics_port`."""

import asyncio
import contextlib
import errno
import logging
from collections.abc import AsyncIterator
from typing import Final

from forebay.contract.errors import ConfigurationError
from forebay.runtime.metrics.exposition import CONTENT_TYPE, text_of
from forebay.runtime.metrics.instruments import Registry

log = logging.getLogger(__name__)

PORTS: Final = 64
"""Processes of one machine that may share one `metrics_port`: each takes the first that is free."""

HEAD_S: Final = 5.0
"""Who asks has so long to do it."""


@contextlib.asynccontextmanager
async def exposed(registry: Registry, host: str, port: int) -> AsyncIterator[int]:
    """Answer `GET /metrics` until the block ends; gives the port.

    Args:
        registry: what is told.
        host: address to listen on.
        port: where to listen, or the first of `PORTS` of which one is to be taken.

    Raises:
        ConfigurationError: none of them can be had.
    """

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError, ValueError):
            async with asyncio.timeout(HEAD_S):
                head = await reader.readuntil(b"\r\n\r\n")
                writer.write(_answer(head, registry))
                await writer.drain()
        writer.close()

    server, taken = await _listen(answer, host, port)
    log.info("metrics are at http://%s:%d/metrics", host, taken)
    async with server:
        yield taken


async def _listen(
    answer: "asyncio.streams._ClientConnectedCallback",  # pyright: ignore[reportPrivateUsage]
    host: str,
    port: int,
) -> tuple[asyncio.Server, int]:
    for taken in range(port, min(port + PORTS, 65_536)):
        try:
            return await asyncio.start_server(answer, host, taken), taken
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise ConfigurationError(
                    f"Metrics can't be told at {host} port {taken}: {error.strerror or error}. Set "
                    "FOREBAY_METRICS_PORT to another."
                ) from error
    raise ConfigurationError(
        f"No port from {port} on is free for metrics. Set FOREBAY_METRICS_PORT to another."
    )


def _answer(head: bytes, registry: Registry) -> bytes:
    method, _, rest = head.partition(b" ")
    path = rest.partition(b" ")[0].partition(b"?")[0]
    if path != b"/metrics":
        return b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
    if method not in (b"GET", b"HEAD"):
        return (
            b"HTTP/1.1 405 Method Not Allowed\r\nallow: GET\r\ncontent-length: 0\r\n"
            b"connection: close\r\n\r\n"
        )
    body = text_of(registry)
    told = b"HTTP/1.1 200 OK\r\ncontent-type: %s\r\ncontent-length: %d\r\nconnection: close\r\n\r\n"
    return told % (CONTENT_TYPE.encode(), len(body)) + (b"" if method == b"HEAD" else body)
