"""What takes work from elsewhere and asks a gateway for it, on a loop and a thread of its own.

    Service ─▶ Asking ─▶ lanes ─▶ … ─▶ outcome ─▶ Service ─▶ where the work came from

Celery's threads are left to Celery: a service that waits for a lane keeps no sweep waiting.
"""

import asyncio
import logging
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Protocol

import uvloop

from forebay.contract.asking import Asking
from forebay.lanes.producer import kept_going

log = logging.getLogger(__name__)


class Service(Protocol):
    """One way in which work comes."""

    @property
    def name(self) -> str:
        """What logs call it."""
        ...

    async def run(self, asking: Asking) -> None:
        """Take work until cancelled.

        What is cancelled, or killed, has lost nothing: its work is kept where it came from until
        the outcome is told.
        """
        ...


class Gateway(Asking, Protocol):
    """A gateway to ask, that can be told to let go."""

    def abandon(self) -> None:
        """End all waits: this process stops."""
        ...


OpenGateway = Callable[[], AbstractAsyncContextManager[Gateway]]
"""Connects a gateway; whoever composes the process knows one."""


class Intake:
    """Runs services from `start` to `stop`.

    Args:
        open_gateway: what they ask; entered on their loop.
        services: started in order. One that crashes is started again.
        drain_s: how long they may take to end.
    """

    def __init__(
        self, open_gateway: OpenGateway, services: Sequence[Service], *, drain_s: float
    ) -> None:
        self._open = open_gateway
        self._services = services
        self._drain_s = drain_s
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="intake", daemon=True)

    def start(self) -> None:
        """Start the thread; returns at once."""
        if self._services:
            self._loop = uvloop.new_event_loop()
            self._thread.start()

    def stop(self) -> None:
        """Cancel the services, and wait until they have ended."""
        if self._loop is None:
            return
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(self._drain_s)
        if self._thread.is_alive():
            log.warning("some of what was asked for is left to whoever starts next")

    def _run(self) -> None:
        assert self._loop is not None
        try:
            self._loop.run_until_complete(self._serve())
        except Exception:
            log.exception("nothing is taken in any more")
        finally:
            self._loop.close()

    async def _serve(self) -> None:
        async with self._open() as gateway, AsyncExitStack() as stack:
            for service in self._services:

                async def run(service: Service = service) -> None:
                    await service.run(gateway)

                await stack.enter_async_context(kept_going(service.name, run))
            log.info("taking work from %s", ", ".join(one.name for one in self._services))
            await self._stop.wait()
            gateway.abandon()
