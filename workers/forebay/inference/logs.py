"""What a user's code says of the predictions that it runs, by `logging.getLogger(LOGGER)`.

    predict, run ──▶ logger ──▶ handler ── whose rows run here? ──▶ take(assembly, line)
                        └─────▶ the worker's own log

Which rows run is known by a context variable: in threads that the code starts by
`asyncio.to_thread` too, in others it isn't. A line is for one prediction's client, and nobody else
is shown it: where rows of several run in one call, `extra={"row": 1}` says whose it is, and what
does not is in the worker's log only.
"""

import contextlib
import logging
from collections.abc import Callable, Generator, Sequence
from contextvars import ContextVar
from typing import Final, NamedTuple

from forebay.inference.assembly import Assembly

LOGGER: Final = "forebay.predictions"

Take = Callable[[Assembly, str], None]
"""Is given a line, and whose it is, on whatever thread it was said."""


class _Scope(NamedTuple):
    """The rows of a call, by whose they are, and who takes what is said of them."""

    owners: Sequence[Assembly]
    take: Take


_scope: ContextVar[_Scope | None] = ContextVar("said_of", default=None)


class _Handler(logging.Handler):
    """Passes lines on to whose rows run."""

    def emit(self, record: logging.LogRecord) -> None:
        scope = _scope.get()
        if scope is None:
            return
        owner = _owner(scope.owners, getattr(record, "row", None))
        if owner is None:
            return
        try:
            # Without a traceback: clients are not shown code.
            line = record.getMessage()
        except Exception:  # as every handler of `logging` does: a bad format fails nobody's row
            self.handleError(record)
            return
        scope.take(owner, line)


_handler = _Handler()


def listen() -> None:
    """Pass on what is said from now on, from `INFO` up if no level is set. Safe to repeat."""
    logger = logging.getLogger(LOGGER)
    logger.addHandler(_handler)
    if logger.level == logging.NOTSET:
        logger.setLevel(logging.INFO)


@contextlib.contextmanager
def said_of(owners: Sequence[Assembly], take: Take | None) -> Generator[None]:
    """Until the block ends, what is said here is of these rows.

    Args:
        owners: of each row, in order, whose it is.
        take: is given the lines; None if nobody is.
    """
    if take is None:
        yield
        return
    token = _scope.set(_Scope(owners, take))
    try:
        yield
    finally:
        _scope.reset(token)


@contextlib.contextmanager
def said_of_some(start: int, end: int) -> Generator[None]:
    """Until the block ends, what is said here is of some of the rows that run.

    Args:
        start: index of the first one.
        end: and after the last one.
    """
    scope = _scope.get()
    if scope is None:
        yield
    else:
        with said_of(scope.owners[start:end], scope.take):
            yield


def _owner(owners: Sequence[Assembly], row: object) -> Assembly | None:
    """Whose a line is; None where that can't be told."""
    if isinstance(row, int):
        return owners[row] if 0 <= row < len(owners) else None
    predictions = {owner.delivery.prediction for owner in owners}
    return owners[0] if len(predictions) == 1 else None
