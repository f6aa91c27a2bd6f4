"""What a Celery message says: protocol 2, in json.

    {"body": base64 of [args, kwargs, embed], "headers": {task, id, eta, …}, "properties": …}

`embed` is what is to happen next: callbacks, errbacks, chain, chord. (Celery's documentation,
"Message Protocol"; the envelope around it is that of kombu's transports that have none.)
"""

from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec

from forebay.background.taking import envelopes, packing
from forebay.contract.errors import InvalidInput


class Unreadable(Exception):  # noqa: N818 - reads as what the message is
    """Nothing can be made of a message.

    Args:
        reason: one sentence for a person.
        id_: of the task that it would have been, where that can be told all the same.
    """

    def __init__(self, reason: str, *, id_: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.id = id_


class Headers(msgspec.Struct, frozen=True):
    """Those of a message that are used here; Celery reads the others.

    Attributes:
        timelimit: hard and soft, seconds.
    """

    task: str
    id: Annotated[str, msgspec.Meta(min_length=1)]
    eta: str | None = None
    expires: str | None = None
    group: str | None = None
    parent_id: str | None = None
    retries: int | None = 0
    timelimit: tuple[float | None, float | None] | None = None
    ignore_result: bool | None = False


class Message(msgspec.Struct, frozen=True):
    """A message with its envelope open.

    Attributes:
        headers: those that are used here.
        all_headers: as they came.
        properties: as they came.
        content_type: of the body.
        content_encoding: likewise.
        body: as it came, which may be packed; see `whole`.
    """

    headers: Headers
    all_headers: dict[str, Any]
    properties: dict[str, Any]
    content_type: str
    content_encoding: str
    body: bytes

    @property
    def delivery_info(self) -> dict[str, Any]:
        """Where it was sent to, as Celery's request has it."""
        told = self.properties.get("delivery_info")
        return {
            **(told if isinstance(told, dict) else {}),
            "priority": self.properties.get("priority"),
            "redelivered": False,
        }


def opened(raw: bytes) -> Message:
    """Open the envelope of a message that kombu laid on a list.

    Raises:
        Unreadable: it is none, or tells no task or id.
    """
    try:
        envelope = envelopes.opened(raw)
    except ValueError as error:
        raise Unreadable(f"It is no message of Celery's: {error}.") from error
    try:
        headers = msgspec.convert(envelope.headers, Headers)
    except msgspec.ValidationError as error:
        # As a message's correlation id Celery sends its task's, in protocol 1 as well.
        told = (envelope.headers.get("id"), envelope.properties.get("correlation_id"))
        raise Unreadable(
            f"Its headers are not those of a task in Celery's message protocol 2: {error}.",
            id_=next((id_ for id_ in told if isinstance(id_, str) and id_), ""),
        ) from error
    return Message(
        headers,
        envelope.headers,
        envelope.properties,
        envelope.content_type,
        envelope.content_encoding,
        envelope.body,
    )


def whole(message: Message, *, most_bytes: int) -> Message:
    """A message whose body is as it was before it was packed.

    Args:
        message: with its envelope open.
        most_bytes: that the body may come to.

    Raises:
        Unreadable: it comes to more, or can't be unpacked.
    """
    try:
        body = packing.unpacked(message.body, message.all_headers, most=most_bytes)
    except InvalidInput as error:
        raise Unreadable(error.message) from error
    headers = {k: v for k, v in message.all_headers.items() if k != packing.HEADER}
    return msgspec.structs.replace(message, body=body, all_headers=headers)


def time_ms(text: str) -> int:
    """A time of a header, Unix ms.

    Raises:
        Unreadable: it is none.
    """
    try:
        read = datetime.fromisoformat(text)
    except ValueError as error:
        raise Unreadable(f"{text[:80]!r} is no time: {error}.") from error
    return int((read if read.tzinfo else read.replace(tzinfo=UTC)).timestamp() * 1000)
