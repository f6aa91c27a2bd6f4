"""What a server says that is there, but can't serve in the state it is in.

redis-py makes errors of the server's own of these, like that of a wrong argument. They pass,
though, as an outage does, and some with another server. So to callers they are one.
"""

from redis.exceptions import (
    ClusterDownError,
    MasterDownError,
    ReadOnlyError,
    ResponseError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as RedisConnectionError

_PASSING = (ReadOnlyError, MasterDownError, ClusterDownError, TryAgainError)
_PASSING_CODES = ("UNBLOCKED", "NOREPLICAS", "MISCONF")
"""A blocking read on a primary that became a replica; a primary without its replicas; a disk that
is full."""


class NotServingError(RedisConnectionError):
    """The server answers, but can't serve. Nothing was done.

    Attributes:
        demoted: it is a replica (now): another server is to be asked.
    """

    def __init__(self, message: str, *, demoted: bool) -> None:
        super().__init__(message)
        self.demoted = demoted


def passing(error: ResponseError) -> NotServingError | None:
    """The error to raise instead of a refusal that passes; None if it stands."""
    text = str(error)
    if isinstance(error, _PASSING):
        return NotServingError(f"{type(error).__name__}: {text}", demoted=_is_demoted(error))
    if text.startswith(_PASSING_CODES):
        return NotServingError(text, demoted=text.startswith("UNBLOCKED"))
    return None


def _is_demoted(error: ResponseError) -> bool:
    return isinstance(error, ReadOnlyError | MasterDownError)
