"""Faults as OpenAI's API words them."""

from typing import Final

import msgspec

from forebay.contract.errors import ErrorKind
from forebay.gateway.errors import Fault
from forebay.gateway.http import Answer, to_json

_CODES: Final = {
    ErrorKind.TOO_LONG: "context_length_exceeded",
    ErrorKind.LANE_FULL: "rate_limit_exceeded",
}


_NOT_FOUND: Final = {
    "model": "model_not_found",
    "previous_response_id": "previous_response_not_found",
}
"""Codes for what a field names and is not there."""


class Error(msgspec.Struct, frozen=True):
    """The inner object of an error body."""

    message: str
    type: str
    param: str | None
    code: str


class ErrorBody(msgspec.Struct, frozen=True):
    """An error body."""

    error: Error


def render_fault(fault: Fault, request_id: str) -> Answer:
    """A fault as the `openai` client expects it."""
    if fault.status == 429:
        type_ = "rate_limit_error"
    elif fault.status < 500:
        type_ = "invalid_request_error"
    else:
        type_ = "server_error"
    body = to_json(ErrorBody(Error(fault.message, type_, fault.param, code_of(fault))))
    return Answer(body, fault.status, headers=fault.headers)


def code_of(fault: Fault) -> str:
    """A fault's code."""
    if fault.kind is ErrorKind.NOT_FOUND and fault.param in _NOT_FOUND:
        return _NOT_FOUND[fault.param]
    return _CODES.get(fault.kind, fault.kind.value)
