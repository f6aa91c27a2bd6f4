"""Spans by the OpenTelemetry SDK. Only a process that exports them imports this."""

import logging
import random
import time
from collections.abc import Iterable, Mapping
from typing import Final

from forebay.contract.errors import ConfigurationError
from forebay.runtime.tracing.context import Trace, decode
from forebay.runtime.tracing.options import TracingOptions

try:
    from opentelemetry.context import Context
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import (
        BatchSpanProcessor,
        ConsoleSpanExporter,
        SpanExporter,
    )
    from opentelemetry.sdk.trace.sampling import ALWAYS_ON
    from opentelemetry.trace import (
        Link,
        NonRecordingSpan,
        Span,
        SpanContext,
        SpanKind,
        Status,
        StatusCode,
        TraceFlags,
        TraceState,
        set_span_in_context,
    )
except ImportError as error:
    raise ConfigurationError(
        f"OTEL_TRACES_EXPORTER or an OTLP endpoint asks for traces, and OpenTelemetry is not "
        f"installed ({error.name}): install `forebay[otel]`, or set OTEL_SDK_DISABLED=true."
    ) from error

__all__ = ["Span", "SpanKind", "Tracing", "open_tracing"]

log = logging.getLogger(__name__)

Value = str | bool | int | float

WARN_S: Final = 60.0
"""A collector that is away is told of no oftener."""

FLUSH_S: Final = 3.0
"""How long what is left is exported for when the process stops."""

_LOW: Final = (1 << 64) - 1


class Tracing:
    """Makes spans of what is sampled.

    Args:
        provider: of the SDK; it records whatever it is given.
        options: what is sampled.
    """

    def __init__(self, provider: TracerProvider, options: TracingOptions) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer("forebay")
        self._by_parent = options.by_parent
        self._ratio = options.ratio
        self._bound = int(options.ratio * (1 << 64))

    def sampled(self, traceparent: bytes, state: bytes = b"") -> Trace | bool:
        """Whether a request is recorded: its parent, or True if it has none; False if it isn't.

        Args:
            traceparent: header of the request; empty if it has none.
            state: `tracestate`, likewise.
        """
        if traceparent:
            parent = decode(traceparent, state.decode("latin-1"))
            if parent is not None:
                if self._by_parent:
                    return parent if parent.sampled else False
                return parent if (parent.trace_id & _LOW) < self._bound else False
        return random.random() < self._ratio  # noqa: S311 - no secret

    def start(
        self,
        name: str,
        kind: SpanKind,
        parent: Trace | None,
        attributes: Mapping[str, Value],
        *,
        start_ns: int | None = None,
        links: Iterable[Trace] = (),
    ) -> Span:
        """Begin a span.

        Args:
            name: of it.
            kind: of it.
            parent: whose child it is; None begins a trace.
            attributes: of it.
            start_ns: when it began, Unix time in ns, if that is not now.
            links: other spans that it has to do with.
        """
        return self._tracer.start_span(
            name,
            Context() if parent is None else set_span_in_context(_remote(parent), Context()),
            kind,
            attributes,
            [Link(_context(one)) for one in links],
            start_ns,
        )

    def close(self) -> None:
        """Export what is left, for `FLUSH_S` at most."""
        self._provider.force_flush(int(FLUSH_S * 1000))
        self._provider.shutdown()


def trace_of(span: Span, parent: Trace | None = None) -> Trace:
    """What a span's children are told.

    Args:
        span: that is recorded.
        parent: of it, whose `tracestate` goes on.
    """
    context = span.get_span_context()
    return Trace(context.trace_id, context.span_id, True, "" if parent is None else parent.state)


def failed(span: Span, why: str) -> None:
    """Have a span say that what it is of failed."""
    span.set_status(Status(StatusCode.ERROR, why))


def now_ns() -> int:
    """Unix time in ns."""
    return time.time_ns()


def open_tracing(options: TracingOptions, *, service: str, instance: str = "") -> Tracing:
    """Spans that are exported in batches, by a thread of their own.

    Args:
        options: where to.
        service: `service.name`, where the environment gives none.
        instance: `service.instance.id`.

    Raises:
        ConfigurationError: the exporter is not installed.
    """
    _quiet()
    resource = Resource.create({"service.instance.id": instance} if instance else None)
    if str(resource.attributes.get("service.name", "")).startswith("unknown_service"):
        resource = resource.merge(Resource({"service.name": service}))
    provider = TracerProvider(sampler=ALWAYS_ON, resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(_exporter(options)))
    return Tracing(provider, options)


def _exporter(options: TracingOptions) -> SpanExporter:
    if options.exporter == "console":
        return ConsoleSpanExporter()
    try:
        if options.protocol == "grpc":
            from opentelemetry.exporter.otlp.proto.grpc import trace_exporter as grpc

            return grpc.OTLPSpanExporter()
        from opentelemetry.exporter.otlp.proto.http import trace_exporter as http

        return http.OTLPSpanExporter()
    except ImportError as error:
        raise ConfigurationError(
            f"Traces are to be exported by OTLP over {options.protocol}, and its exporter is not "
            f"installed ({error.name}): install `forebay[otel]`."
        ) from error


def _context(trace: Trace) -> SpanContext:
    flags = TraceFlags(TraceFlags.SAMPLED if trace.sampled else TraceFlags.DEFAULT)
    state = TraceState.from_header([trace.state]) if trace.state else None
    return SpanContext(
        trace.trace_id, trace.span_id, is_remote=True, trace_flags=flags, trace_state=state
    )


def _remote(trace: Trace) -> Span:
    return NonRecordingSpan(_context(trace))


class _Seldom(logging.Filter):
    """Lets a logger speak once in a while."""

    def __init__(self) -> None:
        super().__init__()
        self._next = 0.0

    def filter(self, record: logging.LogRecord) -> bool:
        now = time.monotonic()
        if now < self._next:
            return False
        self._next = now + WARN_S
        return True


def _quiet() -> None:
    """Have the SDK and its exporters say seldom that a collector is away."""
    seldom = _Seldom()
    for name in (
        "opentelemetry.exporter.otlp.proto.http.trace_exporter",
        "opentelemetry.exporter.otlp.proto.grpc.exporter",
        "opentelemetry.sdk._shared_internal",
    ):
        logger = logging.getLogger(name)
        if not any(isinstance(one, _Seldom) for one in logger.filters):
            logger.addFilter(seldom)
