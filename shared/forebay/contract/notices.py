"""What is told of predictions without being asked for: whom to tell, of what, and how often to try.

A *notice* is what a prediction carries: whom to tell of which of its events. The scripts that make
them happen write them to an *outbox* in the same step. A *delivery* is one event for one receiver;
its id is the same however often it is sent.
"""

import hashlib
from collections.abc import Sequence
from enum import StrEnum
from typing import Final

import msgspec


class Event(StrEnum):
    """What happens to a prediction, as Replicate names it."""

    START = "start"
    OUTPUT = "output"
    LOGS = "logs"
    COMPLETED = "completed"


class Dialect(StrEnum):
    """In whose words a prediction's events are told."""

    REPLICATE = "replicate"
    OPENAI = "openai"


class Format(StrEnum):
    """How a delivery's body is wrapped: not at all, or in CloudEvents' structured JSON."""

    PLAIN = "plain"
    CLOUDEVENTS = "cloudevents"


class Notice(msgspec.Struct, frozen=True, omit_defaults=True):
    """Whom to tell of a prediction, and of which of its events.

    Attributes:
        events: of which.
        dialect: in whose words.
        url: the receiver; empty where it is the endpoints that operators have added.
        shown_at: URL under which its gateway shows predictions; their ids follow.
        id: what its client knows the prediction as, if that is not its own id.
        prefix: what goes before its own id, where that makes the one that clients know.
        trace: what the prediction belongs to, where that is recorded, as messages have it.
    """

    events: tuple[Event, ...] = msgspec.field(name="e")
    dialect: Dialect = msgspec.field(name="d", default=Dialect.REPLICATE)
    url: str = msgspec.field(name="u", default="")
    shown_at: str = msgspec.field(name="s", default="")
    id: str = msgspec.field(name="i", default="")
    prefix: str = msgspec.field(name="p", default="")
    trace: str = msgspec.field(name="t", default="")

    def shown(self, prediction: str) -> str:
        """What its client knows a prediction as."""
        return self.id or f"{self.prefix}{prediction}"

    def packed(self) -> bytes:
        """As records keep it.

        That is the initials of its events, which scripts read; a blank; and itself as JSON.
        """
        initials = "".join(event.value[0] for event in self.events)
        return initials.encode() + b" " + msgspec.json.encode(self)


_notice = msgspec.json.Decoder(Notice)


def unpacked(data: bytes) -> Notice:
    """Inverse of `Notice.packed`.

    Raises:
        msgspec.MsgspecError: these bytes are none.
    """
    return _notice.decode(data.partition(b" ")[2])


class DeliveryState(StrEnum):
    """Where a delivery is in its life; all but the first are ends, from which only a replay leads.

    waiting    it is to be tried, for the first time or again
    delivered  the receiver answered with 2xx
    failed     it has been tried as often as it may be
    refused    the receiver may not be called (see docs/operations.md)
    disabled   the receiver has answered 410: it wants no more
    """

    WAITING = "waiting"
    DELIVERED = "delivered"
    FAILED = "failed"
    REFUSED = "refused"
    DISABLED = "disabled"


class Attempt(msgspec.Struct, frozen=True, omit_defaults=True):
    """One try to deliver.

    Attributes:
        at_ms: when it began, Unix time.
        took_ms: until it was over.
        status: HTTP's; 0 where there was no answer.
        error: why there was none, or what is wrong with it where the status does not say.
        answer: first characters of the answer's body.
    """

    at_ms: int
    took_ms: int
    status: int = 0
    error: str = ""
    answer: str = ""


class Delivery(msgspec.Struct, frozen=True):
    """One event for one receiver.

    Attributes:
        id: the receiver's `webhook-id`; the same however often it is sent.
        subject: id of what it tells of: a prediction, a batch.
        event: as the receiver knows it.
        url: the receiver.
        body: as it is sent, JSON.
        content_type: of the body.
        trace: what it belongs to, where that is recorded, as messages have it.
    """

    id: str
    subject: str
    event: str
    url: str
    body: bytes
    content_type: str = "application/json"
    trace: str = ""


def delivery_id(subject: str, event: str, *, sequence: str = "", url: str = "") -> str:
    """The one id that a delivery can have, whoever makes it and however often.

    Args:
        subject: what it tells of.
        event: what happened to it.
        sequence: tells one of several events of a kind from another.
        url: the receiver, where there may be several of them.
    """
    told = "\0".join((subject, event, sequence, url))
    return f"msg_{hashlib.sha256(told.encode()).hexdigest()[:32]}"


JITTER: Final = 0.1
"""By which share of it a pause may be longer or shorter, so that what failed together does not come
back together."""

LONGEST_S: Final = 86_400.0
"""Longest that a receiver is listened to about when to come again."""


def pause_s(
    schedule: Sequence[float], failures: int, *, chance: float, retry_after_s: float | None = None
) -> float | None:
    """How long to wait before the next attempt; None if there is to be none.

    Args:
        schedule: pauses after the first failure, the second and so on, seconds.
        failures: so far, at least one.
        chance: from 0 up to 1, drawn anew each time.
        retry_after_s: what the receiver asks for. It can only make the pause longer.
    """
    if failures > len(schedule):
        return None
    pause = schedule[failures - 1] * (1 + JITTER * (2 * chance - 1))
    return max(pause, min(retry_after_s or 0.0, LONGEST_S))
