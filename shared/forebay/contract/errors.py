"""Everything that can go wrong, by kind. Only the gateway turns a kind into an HTTP status.

ForebayError
├── InvalidInput       the request itself is wrong: its shape, its type, or its size
│   └── TooLong        a row is over the model's limit, and wasn't to be truncated
├── NotFound           no such model, prediction or artifact
├── LaneFull           the lane's bound is reached; try again after `retry_after_s`
├── Unavailable        Redis or every worker is out of reach; try again after `retry_after_s`
├── DeadlineExceeded   the prediction did not end before its deadline
├── Canceled           nobody wants the prediction any more
├── BackendFailed      the model raised on this row
├── Interrupted        the worker was lost in the middle of a text that no other can go on with
├── StepFailed         a step of a pipeline failed, or refused the row that it was given
├── ArtifactError      an artifact is missing, damaged or not what its manifest says
├── BuildFailed        a build step failed, or its result is under the bar
└── ConfigurationError settings or `models.toml` are wrong
"""

from enum import StrEnum

import msgspec


class ErrorKind(StrEnum):
    """The kinds of failure a caller can tell apart. The values travel in messages and records."""

    INVALID_INPUT = "invalid_input"
    TOO_LONG = "too_long"
    NOT_FOUND = "not_found"
    LANE_FULL = "lane_full"
    UNAVAILABLE = "unavailable"
    DEADLINE_EXCEEDED = "deadline_exceeded"
    BACKEND_FAILED = "backend_failed"
    STEP_FAILED = "step_failed"
    WORKER_LOST = "worker_lost"
    CANCELED = "canceled"
    UNAUTHENTICATED = "unauthenticated"
    FORBIDDEN = "forbidden"
    RATE_LIMITED = "rate_limited"
    ARTIFACT = "artifact"
    BUILD_FAILED = "build_failed"
    CONFIGURATION = "configuration"
    INTERNAL = "internal"


class ErrorInfo(msgspec.Struct, frozen=True, omit_defaults=True):
    """An error as it travels: in a reply, in a prediction's record, to a client.

    Attributes:
        kind: what went wrong.
        message: one sentence for a person: what, why, and what to do.
        row: index of the offending row in the request, where one row is to blame.
        param: the request field at fault, in the caller's own words.
    """

    kind: ErrorKind
    message: str
    row: int | None = None
    param: str | None = None


class ForebayError(Exception):
    """Base of every error Forebay raises on purpose; its text may be shown to a client.

    Args:
        message: one sentence for a person: what, why, and what to do.
        row: index of the offending row, where one row is to blame.
        param: the request field at fault.
        retry_after_s: seconds after which the same request may succeed, if waiting can help.
    """

    kind: ErrorKind = ErrorKind.INTERNAL

    def __init__(
        self,
        message: str,
        *,
        row: int | None = None,
        param: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.row = row
        self.param = param
        self.retry_after_s = retry_after_s

    def info(self) -> ErrorInfo:
        """This error in the form that travels."""
        return ErrorInfo(kind=self.kind, message=self.message, row=self.row, param=self.param)


class InvalidInput(ForebayError):  # noqa: N818 - reads as what the input is
    """The request is wrong: its shape, its type, or its size."""

    kind = ErrorKind.INVALID_INPUT


class TooLong(InvalidInput):
    """A row is over its model's limit and the caller did not ask to truncate it."""

    kind = ErrorKind.TOO_LONG


class NotFound(ForebayError):  # noqa: N818
    """There is no such model, prediction or artifact."""

    kind = ErrorKind.NOT_FOUND


class LaneFull(ForebayError):  # noqa: N818
    """The lane's bound is reached. Nothing was enqueued."""

    kind = ErrorKind.LANE_FULL


class Unavailable(ForebayError):  # noqa: N818
    """Something Forebay needs is out of reach. Nothing is known to have been enqueued."""

    kind = ErrorKind.UNAVAILABLE


class DeadlineExceeded(ForebayError):  # noqa: N818
    """The prediction did not end before its deadline."""

    kind = ErrorKind.DEADLINE_EXCEEDED


class Canceled(ForebayError):  # noqa: N818
    """Nobody wants the prediction any more."""

    kind = ErrorKind.CANCELED


class BackendFailed(ForebayError):  # noqa: N818
    """The model raised while it ran."""

    kind = ErrorKind.BACKEND_FAILED


class Interrupted(ForebayError):  # noqa: N818
    """A text was partly told by a worker that is lost, and no other can go on with it."""

    kind = ErrorKind.WORKER_LOST

    def __init__(
        self,
        message: str = "The worker that generated this text was lost, and no other can go on with "
        "it. Send it again.",
    ) -> None:
        super().__init__(message)


class StepFailed(ForebayError):  # noqa: N818
    """A step of a pipeline failed, and with it the row whose step it was, unless it is caught.

    Where the step refused what it was given, it is of the refusal's kind: as a rule a client's
    input is to blame for that.

    Args:
        step: the model that was called.
        why: how its prediction ended; `row` is the index in the call.

    Attributes:
        step: as above.
        why: as above.
    """

    kind = ErrorKind.STEP_FAILED

    def __init__(self, step: str, why: ErrorInfo) -> None:
        super().__init__(f"Step {step!r} failed: {why.message}")
        if why.kind in (ErrorKind.INVALID_INPUT, ErrorKind.TOO_LONG):
            self.kind = why.kind
        self.step = step
        self.why = why


class ArtifactError(ForebayError):
    """An artifact is missing, damaged, or not what its manifest says."""

    kind = ErrorKind.ARTIFACT


class BuildFailed(ForebayError):  # noqa: N818
    """A build step failed, or its result is under the bar."""

    kind = ErrorKind.BUILD_FAILED


class ConfigurationError(ForebayError):
    """Settings or `models.toml` are wrong; the message names the field."""

    kind = ErrorKind.CONFIGURATION
