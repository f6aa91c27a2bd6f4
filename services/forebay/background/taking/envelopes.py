"""A message as kombu lays it on a list, where a broker has no headers.

{"body": "base64", "headers": {…}, "properties": {"body_encoding": "base64", …},
 "content-type": "application/json", "content-encoding": "utf-8"}
"""

import base64
from typing import Any

import msgspec


class Envelope(msgspec.Struct, frozen=True):
    """A message with its envelope open.

    Attributes:
        body: as it came; it may be packed.
        headers: beside it.
        properties: of the message.
        content_type: of the body; empty if it isn't told.
        content_encoding: likewise.
    """

    body: bytes
    headers: dict[str, Any]
    properties: dict[str, Any]
    content_type: str
    content_encoding: str


class _Laid(msgspec.Struct, frozen=True, rename="kebab"):
    body: str
    headers: dict[str, Any] | None
    properties: dict[str, Any]
    content_type: str | None = None
    content_encoding: str | None = None


_decoder = msgspec.json.Decoder(_Laid)


def opened(raw: bytes) -> Envelope:
    """Open a message from a list.

    Raises:
        ValueError: it is none of kombu's; says why.
    """
    try:
        laid = _decoder.decode(raw)
        body = laid.body.encode()
        if laid.properties.get("body_encoding") == "base64":
            body = base64.b64decode(body, validate=True)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise ValueError(str(error)) from error
    return Envelope(
        body,
        laid.headers or {},
        laid.properties,
        laid.content_type or "",
        laid.content_encoding or "utf-8",
    )
