"""What a trigger publishes of a message: its result, its dead letter, or a note in its place."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from forebay.background.taking import packing
from forebay.background.triggers.inlets import Delivered
from forebay.background.triggers.table import Trigger

TRIGGER: Final = "x-forebay-trigger"
REASON: Final = "x-forebay-reason"
REFUSED: Final = "x-forebay-refused"
BYTES: Final = "x-forebay-bytes"
EVENT: Final = "x-forebay-event"

MOST_TOLD: Final = 1_000
"""Characters of a header of ours: with its others, a message has to fit a broker's frame."""

MOST_KEPT: Final = 64
MOST_OF_ONE: Final = 200
"""Headers that a note keeps of its message, and characters of the longest of them."""


class Outgoing(msgspec.Struct, frozen=True):
    """A message to publish.

    Attributes:
        exchange: to which; empty for that which leads to queues by their names.
        routing_key: under which.
        body: whole.
        content_type: of the body.
        headers: beside it.
        key: what its event is known by, if it is an outcome.
        predictions: ids of what was run for it.
    """

    exchange: str
    routing_key: str
    body: bytes
    content_type: str
    headers: Mapping[str, Any]
    key: str = ""
    predictions: tuple[str, ...] = ()


def dead(trigger: Trigger, message: Delivered, reason: str) -> Outgoing:
    """The message as it came, for the queue of dead letters."""
    own = {TRIGGER: trigger.name, REASON: reason[:MOST_TOLD]}
    headers = {**message.headers, **own}
    return Outgoing("", trigger.dead_letters, message.body, message.content_type, headers)


def instead(
    trigger: Trigger, message: Delivered, outgoing: Outgoing, *, refused: str, steps: int
) -> Outgoing | None:
    """What to publish in place of what a broker refuses.

    Args:
        trigger: whose message it is.
        message: as it came.
        outgoing: what it came to: a result or a dead letter.
        refused: what the broker said.
        steps: how many forms were refused: a result has a dead letter after it, and that a note.

    Returns:
        None if nothing is left to try.
    """
    if outgoing.key:
        steps -= 1
        outgoing = dead(
            trigger,
            message,
            f"The broker refuses its result, of {len(outgoing.body):,} bytes: {refused}",
        )
    if steps == 0:
        return outgoing
    return _note(message, outgoing, refused) if steps == 1 else None


def _note(message: Delivered, letter: Outgoing, refused: str) -> Outgoing:
    """A dead letter without its body and its large headers, which says what it was."""
    kept: dict[str, Any] = {}
    for name, value in message.headers.items():
        if len(kept) == MOST_KEPT:
            break
        short = not isinstance(value, str) or len(value) <= MOST_OF_ONE
        if short and isinstance(value, str | int) and len(name) <= MOST_OF_ONE:
            kept[name] = value
    kept.pop(packing.HEADER, None)
    own: dict[str, Any] = {
        TRIGGER: letter.headers[TRIGGER],
        REASON: letter.headers[REASON],
        REFUSED: refused[:MOST_TOLD],
        BYTES: len(message.body),
        EVENT: _named(message.body),
    }
    return Outgoing("", letter.routing_key, b"", "application/octet-stream", kept | own)


class _Named(msgspec.Struct):
    id: str = ""
    source: str = ""


def _named(body: bytes) -> str:
    """Source and id of a structured event; empty if it is none that can be read."""
    try:
        event = msgspec.json.decode(body, type=_Named)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""
    return f"{event.source[:MOST_OF_ONE]} {event.id[:MOST_OF_ONE]}".strip()
