"""A request's own span, and that of its way onto a lane: nothing is made of what isn't sampled."""

from collections.abc import MutableMapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from starlette.types import Scope, Send

from forebay.gateway.work import Request
from forebay.lanes.lane import Submission
from forebay.runtime.tracing import Trace, current, names

if TYPE_CHECKING:
    from forebay.runtime.tracing.spans import Span, Tracing

CACHE_STATUS: Final = "forebay.cache_status"
"""Key in the ASGI scope: what `Cache-Status` is to say; not there where no cache was asked."""


class ServerSpan:
    """The span of one HTTP request. What runs after `begin` in the same task belongs to it."""

    def __init__(self, tracing: "Tracing", scope: Scope, request_id: str) -> None:
        self._tracing = tracing
        self._scope = scope
        self._request_id = request_id
        self._span: Span | None = None
        self._status = 0

    def begin(self) -> bool:
        """Begin it, if the request is sampled."""
        from forebay.runtime.tracing.spans import SpanKind, trace_of

        scope, parent = self._scope, b""
        state = b""
        for name, value in scope["headers"]:
            if name == b"traceparent":
                parent = value
            elif name == b"tracestate":
                state = state + b"," + value if state else value
        sampled = self._tracing.sampled(parent, state)
        if sampled is False:
            return False
        above = sampled if isinstance(sampled, Trace) else None
        method, route = scope["method"], _route(scope)
        self._span = self._tracing.start(
            f"{method} {route}",
            SpanKind.SERVER,
            above,
            {
                names.HTTP_METHOD: method,
                names.HTTP_ROUTE: route,
                names.URL_PATH: scope["path"],
                names.URL_SCHEME: scope["scheme"],
                names.REQUEST: self._request_id,
            },
        )
        current.set(trace_of(self._span, above))
        return True

    def sending(self, send: Send) -> Send:
        """What sends the answer, and hears what it is."""

        async def heard(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                self._status = message["status"]
            await send(message)

        return heard

    def end(self) -> None:
        """It was answered, or its client has gone."""
        from forebay.runtime.tracing.spans import failed

        span = self._span
        if span is None:
            return
        if self._status:
            span.set_attribute(names.HTTP_STATUS, self._status)
        if self._status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            span.set_attribute(names.ERROR_TYPE, str(self._status))
            failed(span, HTTPStatus(self._status).phrase)
        told = self._scope.get(CACHE_STATUS)
        if told is not None:
            span.set_attribute(names.CACHE, told.decode("latin-1"))
        span.end()


class SendSpan:
    """The span of a request's way onto its lane: workers' are its children."""

    def __init__(self, tracing: "Tracing", request: Request, above: Trace) -> None:
        from forebay.runtime.tracing.spans import SpanKind, trace_of

        destination = f"{request.spec.name}:{request.lane.value}"
        self._span = tracing.start(
            f"send {destination}",
            SpanKind.PRODUCER,
            above,
            {
                names.MESSAGING_SYSTEM: names.SYSTEM,
                names.MESSAGING_OPERATION: "send",
                names.MESSAGING_KIND: "send",
                names.MESSAGING_DESTINATION: destination,
                names.MESSAGING_MESSAGE: request.id.text,
                names.PREDICTION: request.id.text,
            },
        )
        self.trace = trace_of(self._span, above)

    def sent(self, submission: Submission, how: str) -> None:
        """It is there, or was refused."""
        self._span.set_attribute(names.MESSAGING_COUNT, len(submission.parts))
        self._span.set_attribute(names.OUTCOME, how)
        self._span.end()


def _route(scope: Scope) -> str:
    """The path with the names of its parameters, as the route has it."""
    path: str = scope["path"]
    for name, value in scope.get("path_params", {}).items():
        path = path.replace(f"/{value}", f"/{{{name}}}", 1)
    return path
