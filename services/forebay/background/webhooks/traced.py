"""The span of a call to a webhook's receiver, where what it tells of is recorded."""

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from forebay.records.deliveries import Sending
from forebay.runtime.tracing import Trace, active, names, unpack

if TYPE_CHECKING:
    from forebay.runtime.tracing.spans import Tracing


class CallSpan:
    """One attempt, from now on.

    Args:
        tracing: of this process; None where it exports nothing: then the receiver is told of the
            span that the prediction was sent by.
        sending: what is sent.
        above: what it belongs to.
    """

    def __init__(self, tracing: "Tracing | None", sending: Sending, above: Trace) -> None:
        self._tracing = tracing
        self._sending = sending
        self._above = above
        self._trace = above
        self._began_ns = 0
        if tracing is not None:
            from forebay.runtime.tracing.spans import child, now_ns

            self._trace = child(above)
            self._began_ns = now_ns()

    @property
    def headers(self) -> dict[str, str]:
        """What the receiver is told."""
        told = {"traceparent": self._trace.traceparent}
        return told | {"tracestate": self._trace.state} if self._trace.state else told

    def end(self, status: int, error: str = "") -> None:
        """It was answered with a status; with 0 it was not, for a reason."""
        if self._tracing is None:
            return
        from forebay.runtime.tracing.spans import Ended, SpanKind, now_ns

        attributes: dict[str, str | int] = {
            names.HTTP_METHOD: "POST",
            names.URL_FULL: _shown(self._sending.url),
            names.ATTEMPT: self._sending.failures + 1,
        }
        if status:
            attributes[names.HTTP_STATUS] = status
        if not 0 < status < 400:
            attributes[names.ERROR_TYPE] = str(status or "no_answer")
        self._tracing.emit(
            Ended(
                self._trace,
                self._above,
                "POST",
                SpanKind.CLIENT,
                attributes,
                self._began_ns,
                now_ns(),
                error=error or ("" if 0 < status < 400 else str(status)),
            )
        )


def _shown(url: str) -> str:
    """A receiver, without what may be secret of it."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def call_span(sending: Sending) -> CallSpan | None:
    """Of an attempt; None where nothing of it is recorded."""
    above = unpack(sending.trace) if sending.trace else None
    return None if above is None else CallSpan(active(), sending, above)
