"""The gateway's own HTTP: read a bounded body, hand it to a handler, write one whole answer.

Answers that come event by event are in `sse`.

The endpoints are plain ASGI: no Request or Response objects and no middleware between the server
and the handler (decision 0003).
"""

import itertools
import logging
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final

import msgspec
from starlette.types import Receive, Scope, Send

from forebay.contract.errors import ForebayError
from forebay.contract.prediction import Timing
from forebay.gateway.access import visitor
from forebay.gateway.access.door import Door, Visit
from forebay.gateway.cache_control import CACHE_STATUS_HEADER
from forebay.gateway.downloads import Download
from forebay.gateway.errors import (
    Fault,
    MethodNotAllowed,
    PayloadTooLarge,
    fault_of,
    problem,
    unexpected,
)
from forebay.gateway.metered import Meter
from forebay.gateway.names import Name, derived, fingerprint, key_of
from forebay.gateway.split import STICKY_HEADER, VERSION_HEADER
from forebay.gateway.sse import EVENTS, EventStream, Streaming
from forebay.gateway.traced import CACHE_STATUS, ServerSpan, is_sampled
from forebay.runtime.tracing import active

log = logging.getLogger(__name__)

Header = tuple[bytes, bytes]

JSON: Final[Header] = (b"content-type", b"application/json")
PROBLEM: Final[Header] = (b"content-type", b"application/problem+json")


CLIENT_GONE: Final = 499
"""What a request is counted as whose client went away before it had an answer, as nginx has it."""

WHEN_GONE: Final = "forebay.when_gone"
"""Key in the ASGI scope: what the connection calls when it is lost before the answer is sent."""

KEY: Final = "forebay.key"
"""Key in the ASGI scope: what the request is known by to whoever asks from inside."""

BEHALF: Final = "forebay.behalf"
"""Key in the ASGI scope: what somebody inside asks for, such as a batch; bytes."""


class Call(msgspec.Struct, frozen=True):
    """One request, its body read.

    Attributes:
        scope: the ASGI scope.
        body: all of the body; nothing where the endpoint leaves it to its handler.
        request_id: told to the client as `x-request-id`, and in the log.
        receive: where the body is read from, where the endpoint leaves that to its handler.
    """

    scope: Scope
    body: bytes
    request_id: str
    receive: Receive | None = None

    def header(self, name: bytes) -> bytes:
        """A header's value, its repetitions joined as HTTP has it; empty if it wasn't sent."""
        values = [value for key, value in self.scope["headers"] if key == name]
        return values[0] if len(values) == 1 else b", ".join(values)

    def path_param(self, name: str) -> str:
        """What the route's `{name}` stands for."""
        return str(self.scope["path_params"][name])

    @property
    def name(self) -> Name | None:
        """What its `Idempotency-Key` calls it, or who asks from inside; None if it has none.

        Raises:
            InvalidInput: it can't be a key.
        """
        key = self.scope.get(KEY)
        if key is not None:
            return derived(key)
        header = self.header(b"idempotency-key")
        return key_of(header, self.fingerprint) if header else None

    @property
    def fingerprint(self) -> str:
        """Tells requests apart."""
        return fingerprint(self.scope["path"], self.body)

    def when_gone(self, tell: Callable[[], None]) -> None:
        """Have `tell` called if the client goes away before it has its answer."""
        self.scope[WHEN_GONE] = tell

    def sticky(self, user: str | None = None) -> str:
        """What the client gives for its requests to stay with one version of a model.

        Args:
            user: what the body says of whom it is for, if the dialect has a field for that.
        """
        return self.header(STICKY_HEADER).decode("latin-1") or user or ""

    def cache_control(self) -> str:
        """What the client says of caching."""
        return self.header(b"cache-control").decode("latin-1")

    def caller(self) -> bytes:
        """The API key's id; where keys are not asked for what the client sends as one, if any."""
        return visitor.owner().encode() or self.header(b"authorization")

    def behalf(self) -> bytes:
        """What it takes its turn as where a lane is full."""
        asked_for: bytes | None = self.scope.get(BEHALF)
        return self.caller() if asked_for is None else asked_for

    def tell_cache(self, status: str) -> None:
        """Say in `Cache-Status` what the cache has done."""
        self.scope[CACHE_STATUS] = status.encode()

    @property
    def base_url(self) -> str:
        """Scheme and host as the client wrote them."""
        host = self.header(b"host").decode("latin-1")
        return f"{self.scope['scheme']}://{host}"


class Answer(msgspec.Struct, frozen=True):
    """One response, whole.

    Attributes:
        body: as it is sent.
        status: HTTP status.
        content_type: header of that name.
        headers: further ones; `content-length` and `x-request-id` are added.
    """

    body: bytes
    status: int = 200
    content_type: Header = JSON
    headers: tuple[Header, ...] = ()


Handler = Callable[[Call], Awaitable[Answer | EventStream | Download]]
RenderFault = Callable[[Fault, str], Answer]
"""Renders a fault in a dialect; the second argument is the request's id."""


class RequestIds:
    """Ids of requests: random for the process, counted within it."""

    def __init__(self) -> None:
        self._prefix = f"req_{secrets.token_hex(6)}"
        self._counter = itertools.count()

    def next(self) -> str:
        """A fresh id."""
        return f"{self._prefix}{next(self._counter):08x}"


class Exchange:
    """What all endpoints of a process share.

    Args:
        max_body_bytes: larger bodies are refused.
        door: asks for API keys, if any are asked for.
        meter: counts requests, if anybody does.
    """

    def __init__(
        self, *, max_body_bytes: int, door: Door | None = None, meter: Meter | None = None
    ) -> None:
        self.meter = meter
        self.max_body_bytes = max_body_bytes
        self.door = door
        self.tracing = active()
        self.ids = RequestIds()


class Endpoint:
    """An ASGI endpoint around a handler. It always answers, and never raises but to be cancelled.

    Args:
        exchange: what endpoints share.
        by_method: makes the answer to each method it takes; GET's answers HEAD as well.
        render: says in the dialect's own way what went wrong.
        dialect: what it is counted as.
        reads_body: else that is the handler's own business, who gets `Call.receive` for it.
        public: it is answered without an API key, too.
    """

    def __init__(
        self,
        exchange: Exchange,
        by_method: Mapping[str, Handler],
        *,
        render: RenderFault,
        dialect: str,
        reads_body: bool = True,
        public: bool = False,
    ) -> None:
        self._exchange = exchange
        self._door = None if public else exchange.door
        self._dialect = dialect
        self._active = None if exchange.meter is None else exchange.meter.active(dialect)
        self._by_method = dict(by_method)
        if "GET" in by_method:
            self._by_method.setdefault("HEAD", by_method["GET"])
        self._render = render
        self._reads_body = reads_body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        meter, active = self._exchange.meter, self._active
        if meter is None or active is None:
            await self._traced(scope, receive, send)
            return
        began = time.perf_counter()
        active[0] += 1.0
        status = CLIENT_GONE
        try:
            status = await self._traced(scope, receive, send)
        finally:
            active[0] -= 1.0
            meter.answered(self._dialect, status, began)

    async def _traced(self, scope: Scope, receive: Receive, send: Send) -> int:
        request_id = self._exchange.ids.next()
        tracing = self._exchange.tracing
        if tracing is not None:
            sampled = is_sampled(tracing, scope)
            if sampled is not False:
                span = ServerSpan(tracing, scope, request_id, sampled)
                try:
                    return await self._answer(scope, receive, span.sending(send), request_id)
                finally:
                    span.end()
        return await self._answer(scope, receive, send, request_id)

    async def _answer(self, scope: Scope, receive: Receive, send: Send, request_id: str) -> int:
        """Answer a request that may come in; returns the status."""
        if self._door is None:
            return await self._handle(scope, receive, send, request_id)
        try:
            visit = await self._door.admit(scope["headers"])
        except ForebayError as error:
            fault = fault_of(error)
        except Exception as error:
            fault = unexpected(error, request_id)
        else:
            try:
                return await self._handle(scope, receive, send, request_id, visit)
            finally:
                visit.leave()
        await respond(send, self._render(fault, request_id), request_id)
        return fault.status

    async def _handle(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        request_id: str,
        visit: Visit | None = None,
    ) -> int:
        exchange = self._exchange
        try:
            handle = self._by_method.get(scope["method"])
            if handle is None:
                raise MethodNotAllowed(self._by_method)
            if self._reads_body:
                body = await read_body(scope, receive, exchange.max_body_bytes)
                if body is None:
                    return CLIENT_GONE
                call = Call(scope, body, request_id)
            else:
                call = Call(scope, b"", request_id, receive)
            answer = await handle(call)
        except ForebayError as error:
            answer = self._render(fault_of(error), request_id)
        except Exception as error:
            answer = self._render(unexpected(error, request_id), request_id)
        left = () if visit is None else visit.headers()
        if isinstance(answer, EventStream):
            return await self._stream(scope, answer, send, request_id, left)
        if isinstance(answer, Download):
            head = scope["method"] == "HEAD"
            await answer.run(send, request_id, when_gone=_teller(scope), head=head)
            return answer.status
        if CACHE_STATUS in scope:
            left = (*left, *_cached(scope))
        await respond(send, answer, request_id, left)
        return answer.status

    async def _stream(
        self,
        scope: Scope,
        answer: EventStream,
        send: Send,
        request_id: str,
        left: tuple[Header, ...],
    ) -> int:
        if scope["method"] == "HEAD":
            await respond(send, Answer(b"", content_type=EVENTS), request_id)
            return HTTPStatus.OK
        status: int = HTTPStatus.OK

        async def refuse(fault: Fault) -> None:
            nonlocal status
            status = fault.status
            rendered = self._render(fault, request_id)
            await respond(send, rendered, request_id, (*left, *_cached(scope)))

        headers = answer.headers
        answer = msgspec.structs.replace(
            answer, headers=lambda: (*headers(), *left, *_cached(scope))
        )
        await Streaming(answer, send, request_id, refuse=refuse).run(_teller(scope))
        return status


def _cached(scope: Scope) -> tuple[Header, ...]:
    """What the cache has done, by `Cache-Status`."""
    status = scope.get(CACHE_STATUS)
    return () if status is None else ((CACHE_STATUS_HEADER, status),)


def _teller(scope: Scope) -> Callable[[Callable[[], None]], None]:
    def when_gone(tell: Callable[[], None]) -> None:
        scope[WHEN_GONE] = tell

    return when_gone


async def respond(
    send: Send, answer: Answer, request_id: str, more: Sequence[tuple[bytes, bytes]] = ()
) -> None:
    """Send an answer.

    Args:
        send: of the request.
        answer: to it.
        request_id: told to the client.
        more: headers besides the answer's own.
    """
    body = answer.body
    await send(
        {
            "type": "http.response.start",
            "status": answer.status,
            "headers": [
                answer.content_type,
                (b"content-length", b"%d" % len(body)),
                (b"x-request-id", request_id.encode()),
                *answer.headers,
                *more,
            ],
        }
    )
    await send({"type": "http.response.body", "body": body})


async def read_body(scope: Scope, receive: Receive, limit: int) -> bytes | None:
    """All of the request's body, or None if the client went away.

    A body announced as too large is refused before any of it is read; the server reads on and
    throws away, so that a client which sends first and listens later still hears why.

    Raises:
        PayloadTooLarge: it is larger than `limit` bytes.
    """
    for name, value in scope["headers"]:
        if name == b"content-length":
            # The server has checked that it is a number.
            if int(value) > limit:
                raise PayloadTooLarge(limit)
            break
    message = await receive()
    if message["type"] != "http.request":
        return None
    body: bytes = message.get("body", b"")
    if not message.get("more_body", False):
        if len(body) > limit:
            raise PayloadTooLarge(limit)
        return body
    chunks = [body]
    size = len(body)
    while message.get("more_body", False):
        if size > limit:
            raise PayloadTooLarge(limit)
        message = await receive()
        if message["type"] != "http.request":
            return None
        chunk: bytes = message.get("body", b"")
        chunks.append(chunk)
        size += len(chunk)
    if size > limit:
        raise PayloadTooLarge(limit)
    return b"".join(chunks)


def render_problem(fault: Fault, request_id: str) -> Answer:
    """A fault as RFC 9457 has it: for every path that is no dialect's own."""
    body = to_json(problem(fault, request_id))
    return Answer(body, fault.status, content_type=PROBLEM, headers=fault.headers)


def told(timing: Timing | None, version: str | None) -> tuple[Header, ...]:
    """Headers that say how it went.

    Args:
        timing: where the time went, told by `Server-Timing`.
        version: which version answered, by its name, where the model has several.
    """
    if version is None:
        return server_timing(timing)
    return (*server_timing(timing), (VERSION_HEADER, version.encode()))


def server_timing(timing: Timing | None) -> tuple[Header, ...]:
    """A `Server-Timing` header that splits where the time went, in milliseconds."""
    if timing is None:
        return ()
    value = b"queue;dur=%.2f, batch;dur=%.2f, compute;dur=%.2f" % (
        timing.queue_ms,
        timing.batch_ms,
        timing.compute_ms,
    )
    return ((b"server-timing", value),)


_encoder = msgspec.json.Encoder()


def to_json(value: Any) -> bytes:
    """JSON of anything msgspec knows; `bytes` become base64."""
    return _encoder.encode(value)
