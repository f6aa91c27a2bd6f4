"""Ways in which a trigger's messages come: a consumer of kombu's, or the lists of a Redis.

Each lasts as long as a connection, and is used on the thread of its link alone.
"""

import contextlib
import queue
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

import msgspec
from kombu import Connection, Consumer, Message

from forebay.background.taking.packing import leave_packed
from forebay.background.triggers.brokers import events_of
from forebay.background.triggers.table import Trigger

IDLE_S: Final = 0.2
"""Longest to listen when nothing is under way."""

BUSY_S: Final = 0.01
"""Longest to listen when something is, and its outcome may be there at any moment."""


class Delivered(msgspec.Struct, frozen=True, eq=False):
    """A message as it came.

    Attributes:
        tag: what it is acknowledged by.
        body: whole; packed if its headers say so.
        headers: beside it.
        content_type: of the body; empty if it doesn't say.
        fault: why it can't be read, if it can't.
    """

    tag: Any
    body: bytes
    headers: Mapping[str, Any]
    content_type: str
    fault: str = ""


Came = Callable[[Delivered], None]

Wait = Callable[[float], None]
"""Waits for an outcome to be told, or so many seconds."""


class Inlet(Protocol):
    """One connection's way in. All of it raises what the connection does when it is lost."""

    def listen(self) -> None:
        """Take what is there, or wait a little for that, or for an outcome to be told."""
        ...

    def acknowledge(self, tag: Any) -> None:
        """Be done with a message: its outcome is published."""
        ...

    def reject(self, tag: Any) -> None:
        """Be done with a message of which nothing can be published."""
        ...

    def leave(self) -> None:
        """Give back what is not acknowledged, in good order."""
        ...


class Subscription:
    """An `Inlet` by kombu: the broker keeps what is not acknowledged.

    Args:
        trigger: whose queue this is.
        connection: that stands.
        channel: of it.
        came: called with each message.
        wait: for outcomes.
    """

    def __init__(
        self, trigger: Trigger, connection: Connection, channel: Any, *, came: Came, wait: Wait
    ) -> None:
        self._connection = connection
        self._prefetch = trigger.prefetch
        self._came = came
        self._wait = wait
        self._messages: dict[Any, Message] = {}
        leave_packed(channel)
        consumer = Consumer(
            channel,
            [events_of(trigger)],
            on_message=self._received,
            prefetch_count=trigger.prefetch,
        )
        consumer.on_decode_error = lambda message, why: self._received(message, str(why))
        consumer.consume()

    def listen(self) -> None:
        """Wait for messages, and for what came of those that are under way."""
        under_way = len(self._messages)
        if under_way >= self._prefetch:
            self._wait(IDLE_S)  # nothing more can come before an outcome does
        with contextlib.suppress(TimeoutError):
            self._connection.drain_events(timeout=BUSY_S if under_way else IDLE_S)
        self._connection.heartbeat_check()

    def acknowledge(self, tag: Any) -> None:
        """Tell the broker, which may not have heard of it when this returns."""
        message = self._messages[tag]
        message.ack()
        del self._messages[tag]

    def reject(self, tag: Any) -> None:
        """Have the broker drop it, or do what its queue says of such."""
        message = self._messages[tag]
        message.reject(requeue=False)
        del self._messages[tag]

    def leave(self) -> None:
        """Nothing: as the connection ends, the broker has them again."""

    def _received(self, message: Message, fault: str = "") -> None:
        if message.delivery_tag in self._messages:
            return  # it has come again while it is under way, and is told of once
        self._messages[message.delivery_tag] = message
        body = message.body.encode() if isinstance(message.body, str) else message.body
        self._came(
            Delivered(
                message.delivery_tag,
                bytes(body or b""),
                message.headers or {},
                message.content_type or "",
                fault,
            )
        )


def waiting(told: "queue.SimpleQueue[Any]") -> Wait:
    """Waits for what is told on a queue, and leaves it there."""

    def wait(timeout_s: float) -> None:
        with contextlib.suppress(queue.Empty):
            told.put(told.get(timeout=timeout_s))

    return wait
