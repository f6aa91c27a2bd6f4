"""Spans as OTLP has them (https://opentelemetry.io/docs/specs/otlp/), in a third of the time.

The exporters' own encoder makes two objects for each attribute, which is most of what a recorded
request costs. Here a span's message is made of dicts at once; what is around the spans (resource,
scope) is as theirs. Decision 0073.
"""

from collections.abc import Sequence
from types import ModuleType
from typing import Any, Final

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans as encode_any
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, SpanFlags
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanContext, SpanKind

from forebay.runtime.tracing.spans import SCOPE

_KINDS: Final = {kind: Span.SpanKind.Value(f"SPAN_KIND_{kind.name}") for kind in SpanKind}
_FIELDS: Final[dict[type, str]] = {
    str: "string_value",
    bool: "bool_value",
    int: "int_value",
    float: "double_value",
}
_LOCAL: Final = SpanFlags.SPAN_FLAGS_CONTEXT_HAS_IS_REMOTE_MASK
_REMOTE: Final = _LOCAL | SpanFlags.SPAN_FLAGS_CONTEXT_IS_REMOTE_MASK


def quicken(exporter: ModuleType) -> None:
    """Have an exporter's module encode by `encode_spans`; it has no setting for that.

    Args:
        exporter: `opentelemetry.exporter.otlp.proto.*.trace_exporter`.
    """
    if getattr(exporter, "encode_spans", None) is encode_any:
        vars(exporter)["encode_spans"] = encode_spans


def encode_spans(spans: Sequence[ReadableSpan]) -> ExportTraceServiceRequest:
    """What the exporters' own encoder makes of them.

    Args:
        spans: at least one. If any is not Forebay's, but of somebody's own code in this process,
            all are left to the exporters' own encoder: those may hold anything.
    """
    if any(span.instrumentation_scope is not SCOPE for span in spans):
        return encode_any(spans)
    request = encode_any(spans[:1])
    encoded = request.resource_spans[0].scope_spans[0].spans
    try:
        for span in spans[1:]:
            encoded.add(**_message(span))
    except KeyError:  # a value of another type, such as an enum's: no reason to lose the others
        return encode_any(spans)
    return request


def _message(span: ReadableSpan) -> dict[str, Any]:
    context, parent = span.context, span.parent
    if context is None:
        raise ValueError(f"The span {span.name!r} belongs to no trace.")
    state = context.trace_state
    message: dict[str, Any] = {
        "trace_id": context.trace_id.to_bytes(16, "big"),
        "span_id": context.span_id.to_bytes(8, "big"),
        "name": span.name,
        "kind": _KINDS[span.kind],
        "start_time_unix_nano": span.start_time,
        "end_time_unix_nano": span.end_time,
        "flags": _flags(parent),
        "status": {
            "code": span.status.status_code.value,
            "message": span.status.description or "",
        },
        "attributes": [
            {"key": key, "value": {_FIELDS[type(value)]: value}}
            for key, value in (span.attributes or {}).items()
        ],
    }
    if parent is not None:
        message["parent_span_id"] = parent.span_id.to_bytes(8, "big")
    if state:
        message["trace_state"] = ",".join(f"{key}={value}" for key, value in state.items())
    if span.events:
        message["events"] = [
            {"name": event.name, "time_unix_nano": event.timestamp} for event in span.events
        ]
    if span.links:
        message["links"] = [
            {
                "trace_id": link.context.trace_id.to_bytes(16, "big"),
                "span_id": link.context.span_id.to_bytes(8, "big"),
                "flags": _flags(link.context),
            }
            for link in span.links
        ]
    return message


def _flags(context: SpanContext | None) -> int:
    return _REMOTE if context is not None and context.is_remote else _LOCAL
