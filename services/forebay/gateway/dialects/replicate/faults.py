"""Faults as Replicate's API words them: RFC 9457."""

from typing import Final

from forebay.contract.errors import ErrorKind
from forebay.gateway.errors import Fault, problem
from forebay.gateway.http import PROBLEM, Answer, to_json

_UNPROCESSABLE: Final = frozenset({ErrorKind.INVALID_INPUT, ErrorKind.TOO_LONG})


def render_fault(fault: Fault, request_id: str) -> Answer:
    """A fault as a problem; input that is JSON and yet wrong is 422 here."""
    status = fault.status
    if fault.kind in _UNPROCESSABLE and fault.param is not None:
        status = 422
    body = to_json(problem(fault, request_id, status=status))
    return Answer(body, status, content_type=PROBLEM, headers=fault.headers)
