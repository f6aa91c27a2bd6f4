"""What a background worker runs for webhooks, on an event loop of its own."""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Final

from forebay.background.loop import LoopThread
from forebay.background.webhooks.bodies import Bodies, Render
from forebay.background.webhooks.caller import Caller
from forebay.background.webhooks.relay import Relay
from forebay.background.webhooks.sender import MOST_AT_ONCE, Sender
from forebay.egress.client import Client
from forebay.egress.rules import Rules
from forebay.lanes.keys import Keys
from forebay.records.deliveries import Deliveries
from forebay.records.signing import SecretStore
from forebay.runtime.catalog import Catalog
from forebay.runtime.redis import connect, connect_blocking
from forebay.runtime.settings import Settings

log = logging.getLogger(__name__)

END_S: Final = 5.0
"""How long attempts may go on once the process is to end."""

PATIENCE: Final = 1.25
"""By how much longer than its schedule a delivery may take, as its host is not called at times."""

MARGIN_S: Final = 3_600.0

Post = Callable[[Sequence[tuple[str, str]]], None]
"""Sends a message for each delivery, blocking: ids, each with its receiver's host."""


class Hooks:
    """The relay and the sender of one process.

    Args:
        settings: where Redis is, what may be called, and how often.
        catalog: the models whose outboxes are moved.
        render: shows predictions.
    """

    def __init__(self, settings: Settings, catalog: Catalog, render: Render) -> None:
        self._settings = settings
        self._models = tuple(catalog.served)
        self._render = render
        self._rules = Rules(settings.egress_allowed, loopback=settings.egress_loopback)
        self._loop = LoopThread()
        self._sender: Sender | None = None
        self._work: Future[None] | None = None

    def start(self, post: Post) -> None:
        """Begin.

        Args:
            post: has a delivery sent by whichever process takes its message.
        """
        self._work = self._loop.begin(self._run(post))

    def deliver(self, delivery: str, host: str) -> None:
        """Have a delivery tried, and don't wait for it. Called from any thread."""

        async def offer() -> None:
            # A message that comes before we are ready, or while we end, is due again by itself.
            if self._sender is not None:
                self._sender.offer(delivery, host)

        self._loop.begin(offer())

    def close(self) -> None:
        """End: let attempts finish, for a moment."""
        if self._work is not None:
            self._work.cancel()
            self._loop.run(self._ended())
        self._loop.close()

    async def _ended(self) -> None:
        """Wait until what `_run` leaves behind is done."""
        others = asyncio.all_tasks() - {asyncio.current_task()}
        await asyncio.gather(*others, return_exceptions=True)

    async def _run(self, post: Post) -> None:
        settings, keys = self._settings, Keys(self._settings.key_prefix)
        timeout_s = settings.redis_timeout_s

        async def send(deliveries: Sequence[tuple[str, str]]) -> None:
            if deliveries:
                await asyncio.to_thread(post, deliveries)

        async with contextlib.AsyncExitStack() as stack:
            redis = connect(settings.redis_url, timeout_s=timeout_s)
            stack.push_async_callback(redis.aclose)
            listening = connect_blocking(settings.redis_url, timeout_s=timeout_s)
            stack.push_async_callback(listening.aclose)
            client = Client(self._rules, max_connections=MOST_AT_ONCE)
            stack.push_async_callback(client.aclose)
            deliveries = Deliveries(redis, keys)
            schedule, keep_s = settings.webhook_retries, settings.webhook_retention_s
            self._sender = Sender(
                deliveries,
                Caller(SecretStore(redis, keys), client, timeout_s=settings.webhook_timeout_s),
                schedule=schedule,
                keep_s=keep_s,
            )
            stack.push_async_callback(self._stop_sending)
            relay = Relay(
                redis,
                listening,
                keys,
                self._models,
                deliveries=deliveries,
                bodies=Bodies(redis, keys, self._render, settings.webhook_format),
                send=send,
                longest_s=PATIENCE * sum(schedule) + MARGIN_S,
                keep_s=keep_s,
            )
            while True:
                try:
                    await relay.run()
                except Exception:
                    log.exception("the relay of webhooks has crashed and starts again")
                    await asyncio.sleep(1.0)

    async def _stop_sending(self) -> None:
        sender, self._sender = self._sender, None
        if sender is not None:
            await sender.aclose(within_s=END_S)
