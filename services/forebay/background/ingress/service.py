"""Takes tasks of Celery apps in, and has their outcomes told: a service of the intake."""

import asyncio
import contextlib
import logging
import os
import secrets
import socket
from collections.abc import Awaitable, Callable
from typing import Final

from redis.exceptions import RedisError

from forebay.background.ingress.apps import Apps, home_of, read
from forebay.background.ingress.flights import Flights
from forebay.background.ingress.letters import Letters, base_of
from forebay.background.ingress.remote import Remote
from forebay.background.ingress.revocations import Revocations, Revoked
from forebay.background.ingress.serving import Serving
from forebay.background.ingress.source import Source
from forebay.background.ingress.telling import Telling
from forebay.background.taking.place import Place
from forebay.contract.asking import Asking
from forebay.lanes.producer import kept_going
from forebay.runtime.catalog import Catalog
from forebay.runtime.redis import connect
from forebay.runtime.settings import Settings

log = logging.getLogger(__name__)

MOST: Final = 512
"""Tasks of each queue that are under way at once: enough for several micro-batches of any model."""

POLL_S: Final = 0.02
"""How often the queues are looked at while they are empty."""

RETRY_S: Final = 1.0
"""Pause before Redis is tried again."""


class CeleryIngress:
    """Takes tasks from the queues of Celery apps.

    Args:
        settings: `celery_broker_url` must be set.
        catalog: the models that there are.

    Raises:
        ConfigurationError: what is said of the apps can't be.
    """

    name = "celery"

    def __init__(self, settings: Settings, catalog: Catalog) -> None:
        self._settings = settings
        self._catalog = catalog
        self._apps: Apps = read(settings, catalog)
        self._apps.check()

    async def run(self, asking: Asking) -> None:
        """Take tasks until cancelled; what was taken and not told is left to others."""
        settings, apps = self._settings, self._apps
        async with contextlib.AsyncExitStack() as stack:
            redis = connect(home_of(settings), timeout_s=settings.redis_timeout_s)
            stack.push_async_callback(redis.aclose)
            place = Place(
                redis,
                base_of(settings.key_prefix),
                taker=secrets.token_hex(8),
                lease_s=settings.lease_s,
            )
            letters = Letters(redis, settings.key_prefix)
            revoked = Revoked(redis, settings.key_prefix)
            telling = Telling(apps)
            stack.push_async_callback(telling.aclose)
            source = Source(apps, place, letters, lease_s=settings.lease_s, most=MOST)
            stack.push_async_callback(_leave, source)
            revocations = Revocations()
            serving = Serving(
                asking,
                source,
                telling,
                apps=apps,
                catalog=self._catalog,
                revocations=revocations,
                most_letters=settings.dead_letter_max,
                most_body=settings.max_body_bytes,
            )
            flights = Flights(
                serving, asking, source, telling, apps=apps, revocations=revocations, most=MOST
            )
            stack.push_async_callback(flights.end)
            await stack.enter_async_context(kept_going("celery outcomes", flights.run))
            remote = self._remote(flights, revoked)
            stack.callback(remote.stop)
            await _until_reached(lambda: _revoked(flights, revoked))
            remote.start()
            source.start()
            while True:
                await _turn(source, flights)

    def _remote(self, flights: Flights, revoked: Revoked) -> Remote:
        loop = asyncio.get_running_loop()

        def revoke(ids: list[str], terminate: bool) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: this process ends
                asyncio.run_coroutine_threadsafe(_revoke(flights, revoked, ids), loop)

        return Remote(
            self._apps.celery(""),
            f"forebay-{os.getpid()}@{socket.gethostname()}",
            revoke=revoke,
            active=flights.active,
            queues=self._apps.queues,
        )


async def _turn(source: Source, flights: Flights) -> None:
    """Take once, and pause if there was nothing."""
    flights.freed.clear()
    try:
        batch = await source.take(flights.room)
    except (RedisError, OSError) as error:
        log.warning("no tasks are taken: %s", error)
        await asyncio.sleep(RETRY_S)
        return
    if batch.lost:
        log.warning("others have taken over what was under way: this was not heard of for too long")
        flights.drop()
    for taken in batch.messages:
        flights.begin(taken)
    if not batch.messages:
        woken = flights.freed if flights.full else source.arrived
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(POLL_S):
                await woken.wait()


async def _revoke(flights: Flights, revoked: Revoked, ids: list[str]) -> None:
    flights.revoke(ids)
    try:
        await revoked.add(ids)
    except (RedisError, OSError) as error:
        log.warning("what was revoked is not remembered for the next process: %s", error)


async def _revoked(flights: Flights, revoked: Revoked) -> None:
    flights.revoke(await revoked.newest())


async def _until_reached(ask: Callable[[], Awaitable[None]]) -> None:
    while True:
        try:
            return await ask()
        except (RedisError, OSError) as error:
            log.warning("no tasks are taken: %s", error)
            await asyncio.sleep(RETRY_S)


async def _leave(source: Source) -> None:
    try:
        await source.leave()
    except (RedisError, OSError) as error:
        log.warning("what is under way is left to others once its lease has ended: %s", error)
