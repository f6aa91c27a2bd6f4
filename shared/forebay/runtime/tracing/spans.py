"""Spans by the OpenTelemetry SDK. Only a process that exports them imports this."""

import logging
import random
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from forebay.contract.errors import ConfigurationError
from forebay.runtime.tracing.context import Trace, decode
from forebay.runtime.tracing.options import TracingOptions

try:
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import Event, ReadableSpan, SpanProcessor
    from opentelemetry.sdk.trace.export import (
        BatchSpanProcessor,
        ConsoleSpanExporter,
        SpanExporter,
    )
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope
    from opentelemetry.trace import (
        Link,
        SpanContext,
        SpanKind,
        Status,
        StatusCode,
        TraceFlags,
        TraceState,
    )
except ImportError as error:
    raise ConfigurationError(
        f"OTEL_TRACES_EXPORTER or an OTLP endpoint asks for traces, and OpenTelemetry is not "
        f"installed ({error.name}): install `forebay[otel]`, or set OTEL_SDK_DISABLED=true."
    ) from error

__all__ = ["Ended", "SpanKind", "Tracing", "open_tracing"]

log = logging.getLogger(__name__)

Value = str | bool | int | float

WARN_S: Final = 60.0
"""A collector that is away is told of no oftener."""

FLUSH_S: Final = 3.0
"""How long what is left is exported for when the process stops."""

_LOW: Final = (1 << 64) - 1
_SAMPLED: Final = TraceFlags(TraceFlags.SAMPLED)
_UNSAMPLED: Final = TraceFlags(TraceFlags.DEFAULT)
SCOPE: Final = InstrumentationScope("forebay")
"""Of Forebay's own spans: in a process they have one resource; attributes that are str, bool, int
or float; events and links without any."""

_UNSET: Final = Status(StatusCode.UNSET)


class Ended(msgspec.Struct, frozen=True):
    """A span whose time is over.

    Attributes:
        trace: what its children were told.
        parent: whose child it is; None where it began the trace.
        attributes: of it.
        began_ns: Unix time in ns; likewise the next.
        ended_ns: when it was over.
        links: other spans that it has to do with.
        events: what happened when, in ns.
        error: why it failed; empty if it didn't.
    """

    trace: Trace
    parent: Trace | None
    name: str
    kind: SpanKind
    attributes: Mapping[str, Value]
    began_ns: int
    ended_ns: int
    links: Sequence[Trace] = ()
    events: Sequence[tuple[str, int]] = ()
    error: str = ""


class Tracing:
    """Exports spans of what is sampled.

    They are made at their end, whole, which takes a third of what the SDK's own take, which grow.

    Args:
        processor: of the SDK; exports what it is given.
        resource: this process.
        options: what is sampled.
    """

    def __init__(
        self, processor: SpanProcessor, resource: Resource, options: TracingOptions
    ) -> None:
        self._processor = processor
        self._resource = resource
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

    def emit(self, ended: Ended) -> None:
        """Export a span, some time soon."""
        trace, parent = ended.trace, ended.parent
        self._processor.on_end(
            ReadableSpan(
                ended.name,
                _context(trace, remote=False),
                None if parent is None else _context(parent),
                self._resource,
                ended.attributes,
                [Event(name, None, at_ns) for name, at_ns in ended.events],
                [Link(_context(one)) for one in ended.links],
                ended.kind,
                status=Status(StatusCode.ERROR, ended.error) if ended.error else _UNSET,
                start_time=ended.began_ns,
                end_time=ended.ended_ns,
                instrumentation_scope=SCOPE,
            )
        )

    def close(self) -> None:
        """Export what is left, for `FLUSH_S` at most: a collector may be away."""
        last = threading.Thread(target=self._processor.shutdown, daemon=True)
        last.start()
        last.join(FLUSH_S)


def child(parent: Trace | None) -> Trace:
    """What the children of a new span are told.

    Args:
        parent: of that span; None begins a trace.
    """
    trace_id = random.getrandbits(128) or 1 if parent is None else parent.trace_id
    span_id = random.getrandbits(64) or 1
    return Trace(trace_id, span_id, True, "" if parent is None else parent.state)


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
    return Tracing(BatchSpanProcessor(_exporter(options)), resource, options)


def _exporter(options: TracingOptions) -> SpanExporter:
    if options.exporter == "console":
        return ConsoleSpanExporter()
    try:
        from forebay.runtime.tracing.encoding import quicken

        if options.protocol == "grpc":
            from opentelemetry.exporter.otlp.proto.grpc import trace_exporter as grpc

            quicken(grpc)
            return grpc.OTLPSpanExporter()
        from opentelemetry.exporter.otlp.proto.http import trace_exporter as http

        quicken(http)
        return http.OTLPSpanExporter()
    except ImportError as error:
        raise ConfigurationError(
            f"Traces are to be exported by OTLP over {options.protocol}, and its exporter is not "
            f"installed ({error.name}): install `forebay[otel]`."
        ) from error


def _context(trace: Trace, *, remote: bool = True) -> SpanContext:
    flags = _SAMPLED if trace.sampled else _UNSAMPLED
    state = TraceState.from_header([trace.state]) if trace.state else None
    return SpanContext(trace.trace_id, trace.span_id, remote, flags, state)


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
