"""Faults as Cohere's API words them."""

import msgspec

from forebay.gateway.errors import Fault
from forebay.gateway.http import Answer, to_json


class ErrorBody(msgspec.Struct, frozen=True):
    """An error body. `param`, the field at fault, and `code` are ours.

    Attributes:
        id: of the request.
    """

    id: str
    message: str
    param: str | None
    code: str


def render_fault(fault: Fault, request_id: str) -> Answer:
    """A fault as the `cohere` client expects it."""
    body = to_json(ErrorBody(request_id, fault.message, fault.param, fault.kind.value))
    return Answer(body, fault.status, headers=fault.headers)
