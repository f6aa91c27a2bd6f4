"""How tasks end: as results, and as exceptions that any app can rebuild.

| what went wrong                                  | exception                       | state   |
|--------------------------------------------------|---------------------------------|---------|
| the input, or the call: its shape, type or size  | `ValueError`                    | FAILURE |
| there is no such model                           | `LookupError`                   | FAILURE |
| it was not done before its deadline              | `TimeoutError`                  | FAILURE |
| its soft time limit                              | `SoftTimeLimitExceeded`         | FAILURE |
| its hard time limit                              | `TimeLimitExceeded`             | FAILURE |
| the model, a step, or a worker                   | `RuntimeError`                  | FAILURE |
| it was revoked, canceled, or has expired         | `TaskRevokedError`              | REVOKED |

An app rebuilds an exception from its module, name and arguments, and has all of these modules.
"""

from typing import Any, Final

import msgspec
from billiard.exceptions import SoftTimeLimitExceeded, TimeLimitExceeded
from celery import states
from celery.exceptions import TaskRevokedError

from forebay.background.ingress.messages import Headers
from forebay.contract.asking import Predicted
from forebay.contract.errors import ErrorInfo, ErrorKind
from forebay.contract.prediction import Status

_EXCEPTIONS: Final = {
    ErrorKind.INVALID_INPUT: ValueError,
    ErrorKind.TOO_LONG: ValueError,
    ErrorKind.NOT_FOUND: LookupError,
    ErrorKind.DEADLINE_EXCEEDED: TimeoutError,
}


LONGEST_S: Final = 366 * 86_400.0
"""Limits beyond this are as good as it."""


class Ended(msgspec.Struct, frozen=True):
    """How a task ended.

    Attributes:
        output: its result, as JSON; `null` unless it succeeded.
        error: what an app's `.get()` raises, if it did not.
        prediction: id of what was run for it, if anything was.
    """

    output: bytes = b"null"
    error: Exception | None = None
    prediction: str = ""

    @property
    def state(self) -> str:
        """Celery's name of it."""
        if self.error is None:
            return states.SUCCESS
        return states.REVOKED if isinstance(self.error, TaskRevokedError) else states.FAILURE


class Limits(msgspec.Struct, frozen=True):
    """How long a task may take.

    Attributes:
        within_s: from now on, seconds; None for as long as its lane lets it.
        error: what it ends with after that.
    """

    within_s: float | None = None
    error: Exception | None = None


def limits_of(headers: Headers, expires_ms: int | None, now_ms: int) -> Limits:
    """The first of a task's limits."""
    found: list[tuple[float, Exception]] = []
    hard, soft = headers.timelimit or (None, None)
    if soft:
        found.append((soft, SoftTimeLimitExceeded()))
    if hard:
        found.append((hard, TimeLimitExceeded(hard)))
    if expires_ms is not None:
        found.append(((expires_ms - now_ms) / 1000, expired()))
    if not found:
        return Limits()
    within_s, error = min(found, key=lambda limit: limit[0])
    return Limits(min(within_s, LONGEST_S), error)


def ended_of(told: Predicted, limits: Limits) -> Ended:
    """What a prediction comes to."""
    if told.status is Status.SUCCEEDED:
        return Ended(told.output, prediction=told.id)
    error = limits.error
    out_of_time = told.status in (Status.EXPIRED, Status.CANCELED)
    if not out_of_time or error is None:
        error = revoked() if told.status is Status.CANCELED else error_of(told.error)
    return Ended(error=error, prediction=told.id)


def error_of(info: ErrorInfo | None) -> Exception:
    """The exception of a failure."""
    if info is None:
        return RuntimeError("The prediction failed.")
    kind: type[Exception] = _EXCEPTIONS.get(info.kind, RuntimeError)
    return kind(info.message)


def expired() -> Exception:
    """What Celery tells of a task whose time to begin is over."""
    return TaskRevokedError("expired")


def revoked() -> Exception:
    """What it tells of one that was revoked."""
    return TaskRevokedError("revoked")


def exception_fields(error: Exception) -> dict[str, Any]:
    """An exception as Celery's json backends keep it."""
    kind = type(error)
    return {
        "exc_type": kind.__qualname__,
        "exc_message": [
            str(arg) if not isinstance(arg, int | float) else arg for arg in error.args
        ],
        "exc_module": kind.__module__,
    }
