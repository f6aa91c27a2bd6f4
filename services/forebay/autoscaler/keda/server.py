"""The port that KEDA asks at."""

import contextlib
import logging
from collections.abc import AsyncGenerator

import grpc

from forebay.autoscaler.keda.service import Service
from forebay.contract.errors import ConfigurationError

log = logging.getLogger(__name__)

GRACE_S = 1.0
"""So long what is being answered may take at the end; streams are cut then, and KEDA asks again."""


@contextlib.asynccontextmanager
async def listening(service: Service, *, host: str, port: int) -> AsyncGenerator[int]:
    """Serve until the block ends; yields the port.

    Args:
        service: what is served.
        host: address to listen on.
        port: likewise; 0 for any that is free.

    Raises:
        ConfigurationError: the address can't be had.
    """
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    server.add_generic_rpc_handlers((service.handler(),))
    place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        bound = server.add_insecure_port(place)
    except RuntimeError as error:
        raise ConfigurationError(
            f"KEDA can't be answered on {place} (keda_port): {error}. Is something else there?"
        ) from error
    await server.start()
    log.info("answering KEDA on %s port %d", host, bound)
    try:
        yield bound
    finally:
        await server.stop(GRACE_S)
