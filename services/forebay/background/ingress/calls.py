"""What a message asks for, and what it has follow: the body of a Celery message.

[[the input], {"model": …, "input": …, "lane": …}, {"callbacks": …, "chain": …, …}]
"""

import json
from typing import Any, Final

import msgspec

from forebay.background.ingress.apps import TASK
from forebay.background.ingress.messages import Message, Unreadable
from forebay.contract.errors import InvalidInput
from forebay.contract.prediction import Lane

NOT_GIVEN: Final = msgspec.Raw()

JSON: Final = frozenset({"application/json", "json"})


URGENT: Final = 9
"""Priority from which on somebody waits, of a broker that serves the highest first."""


class Embed(msgspec.Struct, frozen=True):
    """What is to happen next, which Celery reads."""

    callbacks: Any = None
    errbacks: Any = None
    chain: Any = None
    chord: Any = None


class Arguments(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Keyword arguments of the task.

    Attributes:
        model: `NAME` or `NAME:VERSION`; the queue's if not given.
        input: the model's input, or the value of its one obvious field; empty if not given.
        lane: `realtime` or `bulk`.
    """

    model: str | None = None
    input: msgspec.Raw = NOT_GIVEN
    lane: Lane | None = None


class Call(msgspec.Struct, frozen=True):
    """What a message asks for.

    Attributes:
        arguments: of the call.
        positional: its one positional argument, which is an input: what the step before it in a
            chain came to; empty if not given.
        plain: whether nothing is to happen next.
    """

    arguments: Arguments
    positional: msgspec.Raw
    plain: bool


_UNREADABLE = (msgspec.MsgspecError, ValueError, RecursionError)
"""What a decoder raises, or Python where it is asked for text that is none."""

_call = msgspec.json.Decoder(tuple[tuple[msgspec.Raw, ...], msgspec.Raw, Embed])
_arguments = msgspec.json.Decoder(Arguments)


def call_of(message: Message, *, most_bytes: int) -> Call:
    """What a message asks for.

    Args:
        message: with its envelope open.
        most_bytes: of a body.

    Raises:
        Unreadable: it is not json, or no call in json. Nothing was executed.
        InvalidInput: it is a call, but of another task, or its arguments are not those of this one.
    """
    if message.content_type not in JSON:
        raise Unreadable(
            f"Its content is {message.content_type!r}, and only json is read: set "
            "task_serializer to 'json'."
        )
    if message.headers.task != TASK:
        raise InvalidInput(
            f"There is no task {message.headers.task[:80]!r} on this queue, only {TASK!r}."
        )
    if len(message.body) > most_bytes:
        raise InvalidInput(
            f"The task's arguments come to {len(message.body)} bytes, over the limit of "
            f"{most_bytes} (max_body_bytes)."
        )
    try:
        positional, raw, embed = _call.decode(message.body)
    except _UNREADABLE as error:
        kind = InvalidInput if _is_pythons(message.body) else Unreadable
        raise kind(f"Its body can't be read: {error}.") from error
    if not bytes(raw).lstrip().startswith(b"{"):
        raise Unreadable("Its body can't be read: its keyword arguments are no object.")
    plain = not (embed.callbacks or embed.errbacks or embed.chain or embed.chord)
    if len(positional) > 1:
        raise InvalidInput(
            f"{TASK} takes one positional argument, the input, and got {len(positional)}."
        )
    try:
        arguments = _arguments.decode(raw)
    except msgspec.ValidationError as error:
        raise InvalidInput(
            f"{TASK} takes the keyword arguments model, input and lane: {error}."
        ) from error
    return Call(arguments, positional[0] if positional else NOT_GIVEN, plain)


def _is_pythons(body: bytes) -> bool:
    """Whether a body is a call in what Python takes for JSON, such as one with a NaN.

    Celery can still tell a chord, a chain or errbacks that the task has failed.
    """
    try:
        told = json.loads(body.decode())
    except (ValueError, RecursionError):
        return False
    return (
        isinstance(told, list) and len(told) == 3 and all(map(isinstance, told, (list, dict, dict)))
    )


def lane_of(call: Call, message: Message, *, by_priority: bool) -> Lane:
    """Where a call queues: in bulk, unless it says otherwise.

    Args:
        call: that may name a lane.
        message: of it.
        by_priority: whether the broker's highest priorities mean that somebody waits. On Redis the
            highest is the default, and means nothing.
    """
    if call.arguments.lane is not None:
        return call.arguments.lane
    priority = message.properties.get("priority")
    urgent = by_priority and isinstance(priority, int) and priority >= URGENT
    return Lane.REALTIME if urgent else Lane.BULK
