"""Serving an app: the listening socket, uvicorn as it suits us, and a clean end.

    SIGTERM ─▶ stop listening ─▶ close idle connections ─▶ answer what is running ─▶ lifespan ends

Exit status is 0 after a drain. A second Ctrl-C ends it without waiting.
"""

import asyncio
import contextlib
import errno
import logging
import math
import os
import signal
import socket
import threading
from collections.abc import Callable, Generator
from typing import Final

import uvicorn
from starlette.types import ASGIApp

from forebay.contract.errors import ConfigurationError
from forebay.gateway.protocol import Protocol
from forebay.runtime.memory import keep_what_is_there
from forebay.runtime.ports import share

log = logging.getLogger(__name__)

KEEP_ALIVE_S: Final = 75
"""Idle connections live longer than those in the clients' pools, so that no client finds a
connection closed under the request that it sends."""

BACKLOG: Final = 2048

ABANDON_SHARE: Final = 0.9
"""Share of a drain's grace after which requests that still wait are told so."""


def run(
    app: ASGIApp,
    listener: socket.socket,
    *,
    drain_s: float,
    abandon: Callable[[], None],
    drain: Callable[[], None],
) -> None:
    """Serve until SIGTERM or SIGINT, then drain.

    Args:
        app: to serve; its lifespan is run.
        listener: a bound socket, closed in the end.
        drain_s: how long requests may still take after the signal, at most.
        abandon: called shortly before that is over, to have what still waits answered.
        drain: called at the signal, to have others stop listening that listen beside HTTP.
    """
    keep_what_is_there()
    host, port = listener.getsockname()[:2]
    log.info("the gateway listens on %s port %s", host, port)
    server(app, drain_s=drain_s, abandon=abandon, drain=drain).run(sockets=[listener])


def server(
    app: ASGIApp, *, drain_s: float, abandon: Callable[[], None], drain: Callable[[], None]
) -> uvicorn.Server:
    """Uvicorn as it suits us; the arguments are those of `run`."""
    config = uvicorn.Config(
        app,
        loop="uvloop",
        http=Protocol,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=math.ceil(drain_s),
    )
    return _Server(config, abandon_after_s=drain_s * ABANDON_SHARE, abandon=abandon, drain=drain)


def listen(
    host: str, port: int, *, setting: str = "port", reuse_port: bool = False
) -> socket.socket:
    """A socket that listens on an address.

    Made here rather than by uvicorn, so that an address which can't be had is one clear line.

    Args:
        host: the address.
        port: likewise.
        setting: the one that says which port.
        reuse_port: let others listen there that do the same: the system shares connections out.

    Raises:
        ConfigurationError: says which address and why not.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (OSError, UnicodeError) as error:
        why = getattr(error, "strerror", None) or error
        raise ConfigurationError(
            f"The host {host!r} can't be resolved: {why}. Set FOREBAY_HOST to another."
        ) from error
    option, variable = setting.replace("_", "-"), f"FOREBAY_{setting.upper()}"
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            share(sock)
        sock.bind(address)
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        if error.errno == errno.EADDRINUSE:
            raise ConfigurationError(
                f"Port {port} on {host} is taken. Stop what listens there, or choose another "
                f"with --{option} or {variable}."
            ) from error
        why = os.strerror(error.errno) if error.errno else str(error)
        raise ConfigurationError(
            f"Can't listen on {host} port {port}: {why}. Choose another with --host and "
            f"--{option}, or FOREBAY_HOST and {variable}."
        ) from error
    return sock


class _Server(uvicorn.Server):
    """uvicorn's server, which ends with an answer for everybody and without killing itself.

    uvicorn cancels what is left when the grace is over, and raises the signal that it has handled
    again once it is done. Here what is left is told shortly before, and the exit status is 0.

    Args:
        config: uvicorn's.
        abandon_after_s: when to call `abandon`, counted from the signal.
        abandon: has waiting requests answered.
        drain: has others stop listening.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        *,
        abandon_after_s: float,
        abandon: Callable[[], None],
        drain: Callable[[], None],
    ) -> None:
        super().__init__(config)
        self._abandon_after_s = abandon_after_s
        self._abandon = abandon
        self._drain = drain

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop listening, let requests finish, end the lifespan."""
        self._drain()
        timer = asyncio.get_running_loop().call_later(self._abandon_after_s, self._abandon)
        await super().shutdown(sockets)
        timer.cancel()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Handle signals until the block ends; the exit status tells of nothing but the drain."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {
            number: signal.signal(number, self.handle_exit)
            for number in (signal.SIGINT, signal.SIGTERM)
        }
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
