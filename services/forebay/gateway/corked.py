"""One system call a response: the head waits for the body.

uvicorn writes a response's head and its body apart, and uvloop sends each at once. A system call
is the dearest thing on the hot path, and the client would wake up twice; so what is written in
one turn of the event loop is held back and sent together at its end (decision 0003).
"""

import asyncio
from typing import Any, Final, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HELD_BYTES: Final = 65_536
"""More than this is sent at once: flow control sees only what has reached the transport."""


class CorkedTransport:
    """A transport that sends at the end of the loop's turn what was written during it.

    Everything but writing is the inner transport's own.

    Args:
        inner: does the work.
        loop: whose turns count.
    """

    __slots__ = ("_held", "_inner", "_loop", "_size")

    def __init__(self, inner: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._inner = inner
        self._loop = loop
        self._held: list[bytes] = []
        self._size = 0

    def write(self, data: bytes) -> None:
        """Send this, now or soon."""
        if not self._held:
            self._loop.call_soon(self.flush)
        self._held.append(data)
        self._size += len(data)
        if self._size > MAX_HELD_BYTES:
            self.flush()

    def flush(self) -> None:
        """Send what is held."""
        if self._held:
            held, self._held = self._held, []
            self._size = 0
            self._inner.writelines(held)

    def close(self) -> None:
        """Send what is held, and close."""
        self.flush()
        self._inner.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class CorkedProtocol(HttpToolsProtocol):
    """uvicorn's HTTP/1.1 protocol on a corked transport."""

    def connection_made(  # type: ignore[override]
        self, transport: asyncio.Transport
    ) -> None:
        """Take a connection."""
        super().connection_made(cast(asyncio.Transport, CorkedTransport(transport, self.loop)))
