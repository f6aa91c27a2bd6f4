"""Traces by OpenTelemetry: which requests have one is decided before anything is made of it.

    with exporting("forebay-gateway"):      once, around what a process does
        tracing = active()                  None where nobody wants traces
        tracing.sampled(header)             False for all but a few requests: nothing more is done
        current.set(trace)                  what this request's work belongs to

Nothing of OpenTelemetry is imported by a process that is not told to export (`options.py`). What is
sampled costs 20 to 40 us a span; what is not, one random number. Decision 0073.
"""

import contextlib
from collections.abc import Generator
from contextvars import ContextVar
from typing import TYPE_CHECKING

from forebay.runtime.tracing.context import Trace, decode, unpack
from forebay.runtime.tracing.options import TracingOptions, read_options

if TYPE_CHECKING:
    from forebay.runtime.tracing.spans import Tracing

__all__ = [
    "Trace",
    "TracingOptions",
    "active",
    "current",
    "decode",
    "exporting",
    "finish",
    "read_options",
    "unpack",
    "use",
]

current: ContextVar[Trace | None] = ContextVar("forebay.trace", default=None)
"""What the work at hand belongs to; None where it is not sampled."""


class _Process:
    """What this process exports by."""

    tracing: "Tracing | None" = None


@contextlib.contextmanager
def exporting(service: str, *, instance: str = "") -> Generator[None]:
    """Export this process's spans until the block ends, if the environment says where to.

    Args:
        service: `service.name`, where the environment gives none.
        instance: `service.instance.id`.

    Raises:
        ConfigurationError: a variable says what can't be, or what it asks for is not installed.
    """
    options = read_options()
    if options is None:
        yield
        return
    from forebay.runtime.tracing import spans

    tracing = spans.open_tracing(options, service=service, instance=instance)
    use(tracing)
    try:
        yield
    finally:
        finish()


def finish() -> None:
    """Export what is left, and nothing after: this process ends, or becomes another."""
    tracing, _Process.tracing = _Process.tracing, None
    if tracing is not None:
        tracing.close()


def active() -> "Tracing | None":
    """What this process exports by; None if it exports nothing."""
    return _Process.tracing


def use(tracing: "Tracing | None") -> None:
    """Export by this from now on, for whoever asks `active` after."""
    _Process.tracing = tracing
