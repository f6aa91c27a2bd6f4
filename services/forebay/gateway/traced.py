"""A request's own span, and that of its way onto a lane: nothing is made of what isn't sampled."""

from collections.abc import MutableMapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from starlette.types import Scope, Send

from forebay.contract.errors import ForebayError
from forebay.gateway.work import Request
from forebay.lanes.lane import Submission
from forebay.runtime.tracing import Trace, current, names

if TYPE_CHECKING:
    from forebay.runtime.tracing.spans import Tracing

CACHE_STATUS: Final = "forebay.cache_status"
"""Key in the ASGI scope: what `Cache-Status` is to say; not there where no cache was asked."""


def is_sampled(tracing: "Tracing", scope: Scope) -> Trace | bool:
    """Whether a request is recorded: the client's span, or True without one; False if it isn't."""
    parent = state = b""
    for name, value in scope["headers"]:
        if name == b"traceparent":
            parent = value
        elif name == b"tracestate":
            state = state + b"," + value if state else value
    return tracing.sampled(parent, state)


class ServerSpan:
    """The span of one HTTP request, from now on; what runs in this task belongs to it.

    Args:
        tracing: of this process.
        scope: the ASGI scope.
        request_id: told to the client.
        sampled: as `is_sampled` has it.
    """

    def __init__(
        self, tracing: "Tracing", scope: Scope, request_id: str, sampled: Trace | bool
    ) -> None:
        from forebay.runtime.tracing.spans import child, now_ns

        self._tracing = tracing
        self._scope = scope
        self._request_id = request_id
        self._status = 0
        self._parent = sampled if isinstance(sampled, Trace) else None
        self._trace = child(self._parent)
        self._began_ns = now_ns()
        current.set(self._trace)

    def sending(self, send: Send) -> Send:
        """What sends the answer, and hears what it is."""

        async def heard(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                self._status = message["status"]
            await send(message)

        return heard

    def end(self) -> None:
        """It was answered, or its client has gone."""
        from forebay.runtime.tracing.spans import Ended, SpanKind, now_ns

        trace, scope = self._trace, self._scope
        method, route = scope["method"], _route(scope)
        attributes: dict[str, str | int] = {
            names.HTTP_METHOD: method,
            names.HTTP_ROUTE: route,
            names.URL_PATH: scope["path"],
            names.URL_SCHEME: scope["scheme"],
            names.REQUEST: self._request_id,
        }
        if self._status:
            attributes[names.HTTP_STATUS] = self._status
        error = ""
        if self._status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            attributes[names.ERROR_TYPE] = str(self._status)
            error = HTTPStatus(self._status).phrase
        told = scope.get(CACHE_STATUS)
        if told is not None:
            attributes[names.CACHE] = told.decode("latin-1")
        self._tracing.emit(
            Ended(
                trace,
                self._parent,
                f"{method} {route}",
                SpanKind.SERVER,
                attributes,
                self._began_ns,
                now_ns(),
                error=error,
            )
        )


class RpcSpan:
    """The span of one inference over gRPC, from now on; what runs in this task belongs to it.

    Args:
        tracing: of this process.
        sampled: as `Tracing.sampled` has it.
        service: of the method.
        method: that was called.
    """

    def __init__(
        self, tracing: "Tracing", sampled: Trace | bool, *, service: str, method: str
    ) -> None:
        from forebay.runtime.tracing.spans import child, now_ns

        self._tracing = tracing
        self._service = service
        self._method = method
        self._parent = sampled if isinstance(sampled, Trace) else None
        self._trace = child(self._parent)
        self._began_ns = now_ns()
        current.set(self._trace)

    def end(self, error: BaseException | None) -> None:
        """It was answered, or has failed."""
        from forebay.runtime.tracing.spans import Ended, SpanKind, now_ns

        attributes = {
            names.RPC_SYSTEM: "grpc",
            names.RPC_SERVICE: self._service,
            names.RPC_METHOD: self._method,
        }
        why = ""
        if error is not None:
            why = error.kind.value if isinstance(error, ForebayError) else type(error).__name__
            attributes[names.ERROR_TYPE] = why
        self._tracing.emit(
            Ended(
                self._trace,
                self._parent,
                f"{self._service}/{self._method}",
                SpanKind.SERVER,
                attributes,
                self._began_ns,
                now_ns(),
                error=why,
            )
        )


class SendSpan:
    """The span of a request's way onto its lane: workers' are its children."""

    def __init__(self, tracing: "Tracing", request: Request, above: Trace) -> None:
        from forebay.runtime.tracing.spans import child, now_ns

        self._tracing = tracing
        self._above = above
        self._destination = f"{request.spec.name}:{request.lane.value}"
        self._began_ns = now_ns()
        self.trace = child(above)

    def sent(self, submission: Submission, how: str) -> None:
        """It is there, or was refused."""
        from forebay.runtime.tracing.spans import Ended, SpanKind, now_ns

        self._tracing.emit(
            Ended(
                self.trace,
                self._above,
                f"send {self._destination}",
                SpanKind.PRODUCER,
                {
                    names.MESSAGING_SYSTEM: names.SYSTEM,
                    names.MESSAGING_OPERATION: "send",
                    names.MESSAGING_KIND: "send",
                    names.MESSAGING_DESTINATION: self._destination,
                    names.MESSAGING_MESSAGE: submission.id.text,
                    names.MESSAGING_COUNT: len(submission.parts),
                    names.OUTCOME: how,
                },
                self._began_ns,
                now_ns(),
            )
        )


def _route(scope: Scope) -> str:
    """The path with the names of its parameters, as the route has it."""
    path: str = scope["path"]
    for name, value in scope.get("path_params", {}).items():
        path = path.replace(f"/{value}", f"/{{{name}}}", 1)
    return path
