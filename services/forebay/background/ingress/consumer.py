"""Messages of a broker that is no Redis, by kombu, on a thread of its own.

They are acknowledged once their outcome is told; a broker that loses the connection delivers them
again. Each queue has a channel, and so a bound on what it holds, of its own.
"""

import base64
import collections
import functools
import itertools
import json
import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import msgspec
from celery import Celery
from kombu import Consumer as KombuConsumer
from kombu.message import Message

from forebay.background.taking.packing import leave_packed
from forebay.background.taking.place import MARK, Taken

log = logging.getLogger(__name__)

DRAIN_S: Final = 0.05
"""How long the thread waits for messages before it looks what is to be acknowledged."""

RETRY_S: Final = 1.0
"""Pause before the broker is tried again."""


class Consumer:
    """Consumes queues from `start` to `stop`.

    Args:
        app: as the apps that send the tasks.
        queues: their names.
        most: messages held of each.
        arrived: called on the thread with each message.
        lost: called on the thread when the connection is lost, and with it what is held.
    """

    def __init__(
        self,
        app: Celery,
        queues: Sequence[str],
        *,
        most: int,
        arrived: Callable[[Taken], None],
        lost: Callable[[], None],
    ) -> None:
        self._app = app
        self._queues = queues
        self._most = most
        self._arrived = arrived
        self._lost = lost
        self._done: collections.deque[str] = collections.deque()
        self._held: dict[str, Message] = {}
        self._numbers = itertools.count(1)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="celery-consumer", daemon=True)

    def start(self) -> None:
        """Start the thread; returns at once."""
        self._thread.start()

    def stop(self) -> None:
        """Hang up, once what is done is acknowledged; what is held goes back to the broker."""
        self._stop.set()
        self._thread.join()

    def done(self, places: Iterable[str]) -> None:
        """Acknowledge these soon."""
        self._done.extend(places)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._consume()
            except Exception as error:
                # Any transport has errors of its own.
                log.warning("the broker of the Celery apps is interrupted: %s", error)
                self._stop.wait(RETRY_S)
            self._held.clear()
            self._lost()

    def _consume(self) -> None:
        with self._app.connection_for_read() as connection:
            for name in self._queues:
                channel = connection.channel()
                leave_packed(channel)
                consumer = KombuConsumer(
                    channel,
                    [self._app.amqp.queues[name]],
                    on_message=functools.partial(self._received, name),
                    prefetch_count=self._most,
                )
                consumer.consume()
            log.info("consuming %s", ", ".join(self._queues))
            while not self._stop.is_set():
                self._acknowledge()
                try:
                    connection.drain_events(timeout=DRAIN_S)
                except TimeoutError:
                    continue
            self._acknowledge()

    def _acknowledge(self) -> None:
        while self._done:
            message = self._held.pop(self._done.popleft(), None)
            if message is not None:  # else the connection was lost meanwhile
                message.ack()

    def _received(self, queue: str, message: Message) -> None:
        place = f"{MARK}{next(self._numbers)} {queue}"
        self._held[place] = message
        self._arrived(Taken(place, _envelope(message)))


def _envelope(message: Message) -> bytes:
    """A message as kombu lays it on a list where a broker has no headers."""
    told: Any = message
    body = told.body if isinstance(told.body, bytes) else str(told.body).encode()
    properties = {**told.properties, "body_encoding": "base64"}
    for unsaid in ("application_headers", "delivery_tag"):
        properties.pop(unsaid, None)
    envelope = {
        "body": base64.b64encode(body).decode(),
        "content-type": told.content_type or "",
        "content-encoding": told.content_encoding or "utf-8",
        "headers": told.headers or {},
        "properties": {**properties, "delivery_info": dict(told.delivery_info)},
    }
    try:
        return msgspec.json.encode(envelope, enc_hook=str)
    except UnicodeEncodeError:
        # Half a character in a header: it is put aside like anything that is no message.
        return json.dumps(envelope, default=str).encode()
