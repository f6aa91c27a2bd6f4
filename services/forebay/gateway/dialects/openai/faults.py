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
    if fault.kind is ErrorKind.NOT_FOUND and fault.param == "model":
        code = "model_not_found"
    else:
        code = _CODES.get(fault.kind, fault.kind.value)
    body = to_json(ErrorBody(Error(fault.message, type_, fault.param, code)))
    return Answer(body, fault.status, headers=fault.headers)
