"""What goes wrong at the edge, and the one table from kinds of error to HTTP.

ForebayError
├── ClientGone              nobody is there to be told
└── InvalidInput
    └── RequestFault        wrong as HTTP, before it means anything
        ├── MalformedRequest   400, not HTTP
        ├── MalformedBody      400, not JSON
        ├── NoSuchRoute        404
        ├── repeats.KeyReused  422
        ├── MethodNotAllowed   405, with Allow
        ├── PayloadTooLarge    413
        ├── RangeNotThere      416, with the size
        ├── Unauthenticated    401
        ├── Forbidden          403
        └── RateLimited        429, with what is left and when to come again

Dialects render a `Fault` in their own shape; `Problem`, RFC 9457, is the shape of every path that
belongs to none.
"""

import logging
import math
import secrets
from collections.abc import Collection
from http import HTTPStatus
from typing import Final

import msgspec

from forebay.contract import errors as domain
from forebay.contract.errors import ErrorInfo, ErrorKind, ForebayError, InvalidInput

log = logging.getLogger(__name__)

TABLE: Final = {
    ErrorKind.INVALID_INPUT: (400, "The input is not valid"),
    ErrorKind.TOO_LONG: (400, "The input is too long for the model"),
    ErrorKind.NOT_FOUND: (404, "Not found"),
    ErrorKind.CANCELED: (409, "Canceled"),
    ErrorKind.UNAUTHENTICATED: (401, "No valid API key"),
    ErrorKind.FORBIDDEN: (403, "Not for this API key"),
    ErrorKind.RATE_LIMITED: (429, "A limit of the API key is reached"),
    ErrorKind.LANE_FULL: (429, "The queue is full"),
    ErrorKind.BACKEND_FAILED: (500, "The model failed"),
    ErrorKind.STEP_FAILED: (500, "A step of the pipeline failed"),
    ErrorKind.WORKER_LOST: (500, "The worker was lost"),
    ErrorKind.ARTIFACT: (500, "The model's artifact can't be used"),
    ErrorKind.BUILD_FAILED: (500, "The build failed"),
    ErrorKind.CONFIGURATION: (500, "The configuration is wrong"),
    ErrorKind.INTERNAL: (500, "Internal error"),
    ErrorKind.UNAVAILABLE: (503, "Temporarily unavailable"),
    ErrorKind.DEADLINE_EXCEEDED: (504, "Not done before its deadline"),
}
"""Status and title of each kind."""

DEFAULT_RETRY_S: Final = 1.0
"""What a client is told to wait where waiting helps and the error doesn't say how long."""

_RETRIABLE = frozenset({429, 503})

_CLASSES: Final[dict[ErrorKind, type[ForebayError]]] = {
    error.kind: error
    for error in (
        domain.InvalidInput,
        domain.TooLong,
        domain.NotFound,
        domain.LaneFull,
        domain.Unavailable,
        domain.DeadlineExceeded,
        domain.BackendFailed,
        domain.ArtifactError,
    )
}


class RequestFault(InvalidInput):
    """The request is wrong as HTTP, whatever it was about."""

    status: HTTPStatus = HTTPStatus.BAD_REQUEST


class MalformedRequest(RequestFault):
    """What came is not HTTP."""

    def __init__(self) -> None:
        super().__init__("This is no HTTP/1.1 request: its request line or a header can't be read.")


class MalformedBody(RequestFault):
    """The body is not JSON, or nests more deeply than anything should."""


class NoSuchRoute(RequestFault):
    """Nothing is at this path."""

    kind = ErrorKind.NOT_FOUND
    status = HTTPStatus.NOT_FOUND

    def __init__(self, path: str) -> None:
        super().__init__(f"There is nothing at {path[:200]!r}. GET / lists what there is.")


class MethodNotAllowed(RequestFault):
    """The path is right and the method is not."""

    status = HTTPStatus.METHOD_NOT_ALLOWED

    def __init__(self, allowed: Collection[str]) -> None:
        self.allow = ", ".join(sorted(allowed))
        super().__init__(f"This path takes {self.allow} only.")


class PayloadTooLarge(RequestFault):
    """The body is over the bound."""

    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE

    def __init__(self, limit: int) -> None:
        super().__init__(f"The body is larger than the {limit:,} bytes that are taken here.")


class RangeNotThere(RequestFault):
    """The file has no such bytes."""

    status = HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE

    def __init__(self, size: int) -> None:
        self.size = size
        super().__init__(f"The file has {size:,} bytes, and none of those that Range asks for.")


class Unauthenticated(RequestFault):
    """No API key came with the request, or none that is taken."""

    kind = ErrorKind.UNAUTHENTICATED
    status = HTTPStatus.UNAUTHORIZED


class Forbidden(RequestFault):
    """The API key is not for this."""

    kind = ErrorKind.FORBIDDEN
    status = HTTPStatus.FORBIDDEN


class RateLimited(RequestFault):
    """A limit of the API key is reached.

    Args:
        message: as for all.
        wait_ms: when to come again.
        headers: what is left of its limits.
    """

    kind = ErrorKind.RATE_LIMITED
    status = HTTPStatus.TOO_MANY_REQUESTS

    def __init__(
        self, message: str, *, wait_ms: int, headers: tuple[tuple[bytes, bytes], ...] = ()
    ) -> None:
        super().__init__(message, retry_after_s=wait_ms / 1000)
        self.wait_ms = wait_ms
        self.headers = headers


class ClientGone(ForebayError):  # noqa: N818
    """The client went away before it had its answer. Nobody reads this."""

    kind = ErrorKind.CANCELED

    def __init__(self) -> None:
        super().__init__("The client went away.")


class Fault(msgspec.Struct, frozen=True):
    """An error as HTTP sees it, before a dialect renders it.

    Attributes:
        status: HTTP status.
        kind: what went wrong.
        title: the same for every fault of its kind.
        message: one sentence for a person.
        param: the request field at fault, in the caller's own words.
        headers: those that go with it, whatever the dialect.
    """

    status: int
    kind: ErrorKind
    title: str
    message: str
    param: str | None = None
    headers: tuple[tuple[bytes, bytes], ...] = ()


def fault_of(error: ForebayError) -> Fault:
    """Look an error up in the table."""
    headers: tuple[tuple[bytes, bytes], ...] = ()
    if isinstance(error, RequestFault):
        status: int = error.status.value
        title = error.status.phrase
        if isinstance(error, MethodNotAllowed):
            headers = ((b"allow", error.allow.encode()),)
        elif isinstance(error, RangeNotThere):
            headers = ((b"content-range", b"bytes */%d" % error.size),)
        elif isinstance(error, Unauthenticated):
            headers = ((b"www-authenticate", b"Bearer"),)
        elif isinstance(error, RateLimited):
            told = (b"retry-after-ms", b"%d" % error.wait_ms)
            headers = (*_retry_after(error.wait_ms / 1000), told, *error.headers)
    else:
        status, title = TABLE[error.kind]
        if status in _RETRIABLE:
            headers = _retry_after(error.retry_after_s or DEFAULT_RETRY_S)
    return Fault(status, error.kind, title, error.message, error.param, headers)


def unexpected(error: Exception, request_id: str) -> Fault:
    """The fault for a bug of ours: its text goes to the log, and only its id to the client."""
    error_id = f"err_{secrets.token_hex(8)}"
    log.error("%s in %s: unexpected", error_id, request_id, exc_info=error)
    status, title = TABLE[ErrorKind.INTERNAL]
    return Fault(
        status,
        ErrorKind.INTERNAL,
        title,
        f"Something went wrong here, not in your request. The log has it as {error_id}.",
    )


def raised(info: ErrorInfo | None) -> ForebayError:
    """The exception for an error that came back from a worker or a record."""
    if info is None:
        return ForebayError("The prediction ended without a result and did not say why.")
    error = _CLASSES.get(info.kind, ForebayError)(info.message, row=info.row, param=info.param)
    error.kind = info.kind
    return error


def of_one_row(message: str) -> str:
    """An error's message for who sent one row, and has never heard of rows."""
    return message.removeprefix("Row 0: ")


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """RFC 9457. `param`, an extension, names the field at fault."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    param: str | None = None


def problem(fault: Fault, request_id: str, *, status: int | None = None) -> Problem:
    """A fault as RFC 9457 has it.

    Args:
        fault: what went wrong.
        request_id: makes the occurrence's `instance`.
        status: where the dialect has another for it.
    """
    return Problem(
        type=f"urn:forebay:problem:{fault.kind.value}",
        title=fault.title,
        status=fault.status if status is None else status,
        detail=fault.message,
        instance=f"urn:forebay:request:{request_id}",
        param=fault.param,
    )


def _retry_after(seconds: float) -> tuple[tuple[bytes, bytes], ...]:
    return ((b"retry-after", b"%d" % max(1, math.ceil(seconds))),)
