"""The API key of the request that runs, and what it may do and see.

It goes with the task, as OpenTelemetry's context does. Where there is none, keys are not asked for,
or who asks is inside: everything may be done and seen.
"""

from contextvars import ContextVar
from typing import Final

from forebay.contract.prediction import Lane, PredictionId
from forebay.gateway.errors import Forbidden
from forebay.records.api_keys import ApiKey

current: Final[ContextVar[ApiKey | None]] = ContextVar("forebay_api_key", default=None)


def owner() -> str:
    """Whose what is made now is: a key's id; empty where there is none."""
    key = current.get()
    return "" if key is None else key.id


def may_see(id_: PredictionId) -> bool:
    """Whether a prediction is to be there for who asks: its owner, or an admin."""
    key = current.get()
    return key is None or key.scopes.admin or key.id == id_.owner


def check(model: str, lane: Lane, rows: int) -> None:
    """Refuse what the key has no scope for.

    Args:
        model: that is to run, without its version.
        lane: where.
        rows: how many.

    Raises:
        Forbidden: it is for other models or another lane.
        TooManyRows: it may not ask for so many at once.
    """
    key = current.get()
    if key is None:
        return
    scopes, most = key.scopes, key.limits.batch_rows
    if scopes.models and model not in scopes.models:
        raise Forbidden(
            f"This API key is not for the model {model!r}; it is for "
            f"{', '.join(scopes.models)}. Whoever made it can make another."
        )
    if scopes.lanes and lane not in scopes.lanes:
        raise Forbidden(_WHY_NOT[lane])
    if most and rows > most:
        raise TooManyRows(
            f"The request has {rows:,} rows, and this API key may ask for {most:,} at once: send "
            "several requests."
        )


def check_admin() -> None:
    """Refuse what concerns everybody.

    Raises:
        Forbidden: the key has not the scope `admin`.
    """
    key = current.get()
    if key is not None and not key.scopes.admin:
        raise Forbidden("This takes an API key with the scope `admin`.")


def check_watching() -> None:
    """Refuse what tells of everybody's traffic.

    Raises:
        Forbidden: the key has neither the scope `dashboard` nor `admin`.
    """
    key = current.get()
    if key is not None and not (key.scopes.dashboard or key.scopes.admin):
        raise Forbidden("This takes an API key with the scope `dashboard` or `admin`.")


class TooManyRows(Forbidden):
    """More rows than the key may ask for at once."""


_WHY_NOT: Final = {
    Lane.REALTIME: "This API key is not for the realtime lane: don't wait for the result.",
    Lane.BULK: "This API key is not for the bulk lane: wait for the result (`Prefer: wait`).",
}
