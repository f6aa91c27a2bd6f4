"""What becomes of one message: what its task comes to, and how that is told.

taken ─▶ opened ─┬─ not yet due ──▶ put off
                 ├─ nothing can be made of it ──▶ failed, if its id is known; put aside
                 ├─ revoked, or expired ───────────────┐
                 └─▶ asked for ─▶ outcome ─────────────┴─▶ told, or left to be told in bulk
"""

import asyncio
import hashlib
import logging
import time
from typing import Final

from redis.exceptions import RedisError

from forebay.background.ingress.apps import Apps
from forebay.background.ingress.calls import Call, call_of, lane_of
from forebay.background.ingress.flight import Finished, Flight
from forebay.background.ingress.inputs import input_of
from forebay.background.ingress.letters import Letter
from forebay.background.ingress.messages import (
    Message,
    Unreadable,
    opened,
    time_ms,
    whole,
)
from forebay.background.ingress.outcomes import (
    Ended,
    Limits,
    ended_of,
    error_of,
    expired,
    limits_of,
    revoked,
)
from forebay.background.ingress.results import Told
from forebay.background.ingress.revocations import Revocations
from forebay.background.ingress.source import Source
from forebay.background.ingress.telling import Telling
from forebay.background.taking.place import Taken
from forebay.contract.asking import Asking
from forebay.contract.errors import ForebayError, LaneFull, Unavailable
from forebay.contract.prediction import Lane
from forebay.contract.rows import Task
from forebay.runtime.catalog import Catalog

log = logging.getLogger(__name__)

RETRY_S: Final = 1.0
"""Pause before something is tried again, where nobody says how long."""

LONGEST_RETRY_S: Final = 5.0


class Serving:
    """Serves messages, one at a time or many at once.

    Args:
        asking: runs models.
        source: where messages are.
        telling: tells outcomes.
        apps: what is known of those who wait for them.
        catalog: the models that there are.
        revocations: tasks that are to end.
        most_letters: messages kept that were put aside.
        most_body: largest body of a message, bytes.
    """

    def __init__(
        self,
        asking: Asking,
        source: Source,
        telling: Telling,
        *,
        apps: Apps,
        catalog: Catalog,
        revocations: Revocations,
        most_letters: int,
        most_body: int,
    ) -> None:
        self._asking = asking
        self._source = source
        self._telling = telling
        self._apps = apps
        self._catalog = catalog
        self._revocations = revocations
        self._most_letters = most_letters
        self._most_body = most_body

    async def serve(self, flight: Flight) -> Finished | None:
        """Serve one message, until that is done; None if there is nothing more to tell."""
        served = self._served
        while True:
            try:
                return await served(flight)
            except (RedisError, OSError) as error:
                log.warning("a task of Celery's waits for Redis: %s", error)
                await asyncio.sleep(RETRY_S)
            except Exception:
                log.exception("a message on %s has met a fault of Forebay's", flight.taken.queue)
                served = self._given_up

    async def _given_up(self, flight: Flight) -> None:
        """Put a message aside that can't be served."""
        reason = "It has met a fault of Forebay's; see the log."
        await self._refuse(flight, reason, RuntimeError)

    async def _served(self, flight: Flight) -> Finished | None:
        """Serve one message; None if there is nothing to tell, and it is in another place.

        Raises:
            redis.exceptions.RedisError: it could not be put there.
        """
        taken = flight.taken
        try:
            message = opened(taken.message)
        except Unreadable as error:
            flight.id = error.id
            await self._refuse(flight, error.reason)
            return None
        flight.id, flight.kept = message.headers.id, not message.headers.ignore_result
        try:
            eta, expires = message.headers.eta, message.headers.expires
            due_ms = time_ms(eta) if eta else 0
            expires_ms = time_ms(expires) if expires else None
            message = whole(message, most_bytes=self._most_body)
            call: Call | ForebayError
            try:
                call = call_of(message, most_bytes=self._most_body)
            except ForebayError as error:
                call = error
        except Unreadable as error:
            await self._refuse(flight, error.reason)
            return None
        now_ms = time.time_ns() // 1_000_000
        if due_ms > now_ms and flight.id not in self._revocations:
            await self._source.put_off(taken, due_ms)
            return None
        if isinstance(call, ForebayError):
            ended = Ended(error=error_of(call.info()))
            plain = False
        else:
            ended = await self._ended(flight, message, call, expires_ms, now_ms)
            plain = call.plain
        if self._telling.in_bulk(taken.queue, plain=plain):
            return Finished(flight, ended, Told(message, ended))
        try:
            await self._telling.tell(taken.queue, message, ended)
        except Exception as error:
            log.exception("what follows from task %s can't be done", flight.id)
            await self._refuse(
                flight, f"What follows from it can't be done: {error}.", RuntimeError
            )
            return None
        return Finished(flight, ended)

    async def _ended(
        self, flight: Flight, message: Message, call: Call, expires_ms: int | None, now_ms: int
    ) -> Ended:
        if flight.id in self._revocations:
            return Ended(error=revoked())
        if expires_ms is not None and expires_ms <= now_ms:
            return Ended(error=expired())
        queue = self._apps.queues.get(flight.taken.queue)
        model = call.arguments.model or (queue.model if queue else "")
        limits = limits_of(message.headers, expires_ms, now_ms)
        try:
            input_json = input_of(call, self._task(model))
            lane = lane_of(call, message, by_priority=self._apps.redis is None)
            flight.model, flight.key = model, _key(flight.taken, message)
            return await self._asked(flight, input_json, lane, limits)
        except ForebayError as error:
            return Ended(error=error_of(error.info()))
        except Exception:
            log.exception("task %s has met a fault of Forebay's", flight.id)
            return Ended(error=RuntimeError(f"Something went wrong; the log tells of {flight.id}."))

    async def _asked(self, flight: Flight, input_json: bytes, lane: Lane, limits: Limits) -> Ended:
        """Ask until there is an outcome, or its time is over.

        Raises:
            ForebayError: it is refused.
        """
        until = None if limits.within_s is None else time.monotonic() + limits.within_s
        while True:
            within_s = None if until is None else until - time.monotonic()
            if within_s is not None and within_s <= 0:
                return Ended(error=limits.error)
            if flight.id in self._revocations:
                return Ended(error=revoked())
            try:
                told = await self._asking.predict(
                    flight.model,
                    input_json,
                    key=flight.key,
                    lane=lane,
                    within_s=within_s,
                    behalf=f"queue {flight.taken.queue}",
                )
            except (LaneFull, Unavailable) as error:
                wait_s = min(error.retry_after_s or RETRY_S, LONGEST_RETRY_S)
                await asyncio.sleep(wait_s if within_s is None else min(wait_s, within_s))
                continue
            return ended_of(told, Limits() if flight.id in self._revocations else limits)

    def _task(self, model: str) -> Task | None:
        spec = self._catalog.models.get(model.partition(":")[0])
        return None if spec is None else spec.task

    async def _refuse(
        self, flight: Flight, reason: str, kind: type[Exception] = ValueError
    ) -> None:
        """Fail a task of which nothing can be made, if its id is known; put its message aside."""
        taken = flight.taken
        if flight.id and flight.kept:
            try:
                await self._telling.fail(taken.queue, flight.id, kind(reason))
            except Exception:
                log.exception("task %s can't be failed", flight.id)
        log.warning("a message on %s is put aside: %s", taken.queue, reason)
        now_ms = time.time_ns() // 1_000_000
        letter = Letter(taken.queue, reason, now_ms, taken.message, flight.id)
        await self._source.bury(taken, letter, most=self._most_letters)


def _key(taken: Taken, message: Message) -> str:
    """What a message is known by, the same whoever takes it again, and no other's."""
    headers = message.headers
    if taken.numbered:
        return f"celery:{headers.id}:{taken.place}"
    digest = hashlib.sha256(message.body).hexdigest()
    return f"celery:{headers.id}:{headers.retries}:{digest}"
