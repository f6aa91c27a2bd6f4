"""The gRPC server: its port, its start, and a drain like HTTP's.

    drain ─▶ takes no new request ─▶ answers what is running ─▶ closed

It runs on the gateway's event loop, beside HTTP, and starts and stops with it.
"""

import asyncio
import logging
from typing import Final

import grpc

from forebay.gateway.dialects.oip.rpc.service import Service

log = logging.getLogger(__name__)

FRAME_BYTES: Final = 65_536
"""What a message is larger than its tensors, at most; the bound on bodies is about those."""


class RpcServer:
    """Serves gRPC.

    Args:
        service: what it serves.
        host: address to listen on; empty for all.
        port: likewise; 0 for any that is free.
        reuse_port: whether other gateways may listen there as well.
        max_body_bytes: larger requests are refused.
        drain_s: how long requests may still take once it drains, seconds.
    """

    def __init__(
        self,
        service: Service,
        *,
        host: str,
        port: int,
        reuse_port: bool,
        max_body_bytes: int,
        drain_s: float,
    ) -> None:
        self._service = service
        self._host = host
        self.port = port
        self._reuse_port = reuse_port
        self._max_body_bytes = max_body_bytes
        self._drain_s = drain_s
        self._server: grpc.aio.Server | None = None
        self._draining: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Listen; `port` is then the one that was found.

        Raises:
            RuntimeError: the address can't be had.
        """
        self._server = grpc.aio.server(
            options=[
                ("grpc.max_receive_message_length", self._max_body_bytes + FRAME_BYTES),
                ("grpc.max_send_message_length", -1),
                # Another process on this port gets half of the requests.
                ("grpc.so_reuseport", int(self._reuse_port)),
            ]
        )
        self._server.add_generic_rpc_handlers((self._service.handler(),))
        host = f"[{self._host}]" if ":" in self._host else self._host or "[::]"
        self.port = self._server.add_insecure_port(f"{host}:{self.port}")
        await self._server.start()
        log.info("the gateway speaks gRPC on %s port %s", self._host, self.port)

    def drain(self) -> None:
        """Take no new requests, and begin to end."""
        if self._server is not None and self._draining is None:
            self._draining = asyncio.ensure_future(self._server.stop(self._drain_s))

    async def aclose(self) -> None:
        """Drain, and wait until what runs has been answered."""
        self.drain()
        if self._draining is not None:
            await self._draining
