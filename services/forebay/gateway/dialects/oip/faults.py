"""Faults as this protocol words them: `{"error": "…"}`."""

from http import HTTPStatus

import msgspec

from forebay.gateway.errors import Fault, RequestFault
from forebay.gateway.http import Answer, to_json


class NotSupported(RequestFault):
    """The protocol has it, and this server hasn't."""

    status = HTTPStatus.NOT_IMPLEMENTED


class UnknownEncoding(RequestFault):
    """The body is compressed in a way that isn't taken here."""

    status = HTTPStatus.UNSUPPORTED_MEDIA_TYPE


class ErrorBody(msgspec.Struct, frozen=True):
    """An error body."""

    error: str


def render_fault(fault: Fault, request_id: str) -> Answer:
    """A fault as clients of this protocol expect it."""
    return Answer(to_json(ErrorBody(fault.message)), fault.status, headers=fault.headers)
