"""What decides whether a request is recorded, and what the environment says of it."""

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.common import trace_encoder
from opentelemetry.exporter.otlp.proto.grpc import trace_exporter as grpc_exporter
from opentelemetry.exporter.otlp.proto.http import trace_exporter as http_exporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter

from forebay.contract.errors import ConfigurationError
from forebay.contract.prediction import Lane
from forebay.runtime.tracing import (
    Trace,
    TracingOptions,
    decode,
    encoding,
    read_options,
    unpack,
)
from forebay.runtime.tracing.spans import Ended, SpanKind, Tracing

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
TRACE_ID, SPAN_ID = 0x0AF7651916CD43DD8448EB211C80319C, 0xB7AD6B7169203331
ROOT = Path(__file__).parents[2]


def test_a_traceparent_says_what_it_says() -> None:
    trace = decode(PARENT, "a=b")
    assert trace == Trace(TRACE_ID, SPAN_ID, True, "a=b")
    assert trace.traceparent == PARENT
    assert unpack(trace.packed) == trace
    assert unpack(PARENT) == Trace(TRACE_ID, SPAN_ID)
    unsampled = decode(PARENT[:-2] + "02")
    assert unsampled is not None
    assert not unsampled.sampled
    assert decode(PARENT, "x" * 600) == Trace(TRACE_ID, SPAN_ID)


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        "00",
        PARENT.upper(),
        "ff" + PARENT[2:],
        PARENT + "-more",
        "00-" + "0" * 32 + PARENT[35:],
        PARENT[:36] + "0" * 16 + "-01",
        PARENT.replace("-", "_"),
        "\N{SNOWMAN}" + PARENT,
    ],
)
def test_what_is_no_traceparent_is_none(wrong: str) -> None:
    assert decode(wrong) is None


def test_a_later_version_is_read_as_far_as_it_is_known() -> None:
    assert decode("01" + PARENT[2:] + "-more") == Trace(TRACE_ID, SPAN_ID)


def tracing(**options: object) -> Tracing:
    processor = BatchSpanProcessor(ConsoleSpanExporter())
    return Tracing(processor, Resource({}), TracingOptions(**options))  # type: ignore[arg-type]


def test_who_sends_a_trace_decides_and_chance_over_the_others() -> None:
    made = tracing(ratio=0.0)
    assert made.sampled(PARENT.encode()) == Trace(TRACE_ID, SPAN_ID)
    assert made.sampled(PARENT[:-2].encode() + b"00") is False
    assert made.sampled(b"") is False
    assert made.sampled(b"nonsense") is False
    made = tracing(ratio=1.0)
    assert made.sampled(b"") is True
    assert made.sampled(PARENT[:-2].encode() + b"00") is False
    some = tracing(ratio=0.25)
    share = sum(some.sampled(b"") is True for _ in range(20_000)) / 20_000
    assert 0.2 < share < 0.3


def test_without_the_parent_the_traces_id_decides_for_all_processes_alike() -> None:
    low, high = (f"00-{'1' * 16}{end * 16}-{'2' * 16}-00".encode() for end in "1f")
    half = tracing(ratio=0.5, by_parent=False)
    assert isinstance(half.sampled(low), Trace)
    assert half.sampled(high) is False


VALUES = (
    st.text() | st.booleans() | st.integers(-(1 << 63), (1 << 63) - 1) | st.floats(allow_nan=False)
)
TRACES = st.builds(
    Trace,
    st.integers(1, (1 << 128) - 1),
    st.integers(1, (1 << 64) - 1),
    st.booleans(),
    st.sampled_from(["", "vendor=some", "a=b,c=d"]),
)
ENDED = st.builds(
    Ended,
    TRACES,
    st.none() | TRACES,
    st.text(),
    st.sampled_from(SpanKind),
    st.dictionaries(st.text(min_size=1), VALUES, max_size=9),
    st.integers(0, 1 << 62),
    st.integers(0, 1 << 62),
    st.lists(TRACES, max_size=3),
    st.lists(st.tuples(st.text(), st.integers(0, 1 << 62)), max_size=2),
    st.sampled_from(["", "failed"]),
)


class _Kept(SpanProcessor):
    def __init__(self) -> None:
        self.spans: list[ReadableSpan] = []

    def on_end(self, span: ReadableSpan) -> None:
        self.spans.append(span)


@settings(deadline=None)
@given(st.lists(ENDED, min_size=1, max_size=4))
def test_spans_are_encoded_as_the_exporters_own_encoder_has_them(ended: list[Ended]) -> None:
    kept = _Kept()
    made = Tracing(kept, Resource({"service.name": "some"}), TracingOptions())
    for one in ended:
        made.emit(one)
    known = trace_encoder.encode_spans(kept.spans)
    assert encoding.encode_spans(kept.spans).SerializeToString(
        deterministic=True
    ) == known.SerializeToString(deterministic=True)


def test_spans_of_somebody_elses_code_are_left_to_the_exporters_own_encoder() -> None:
    kept = _Kept()
    Tracing(kept, Resource({}), TracingOptions()).emit(
        Ended(Trace(1, 2), None, "ours", SpanKind.SERVER, {"a": 1}, 1, 2)
    )
    theirs = TracerProvider()
    theirs.add_span_processor(kept)
    with theirs.get_tracer("somebody's").start_as_current_span("theirs") as span:
        span.set_attribute("several", ["a", "b"])
        span.record_exception(ValueError("why"))
    known = trace_encoder.encode_spans(kept.spans)
    assert encoding.encode_spans(kept.spans) == known
    assert len(known.resource_spans) == 2


def test_a_value_of_another_type_costs_no_other_span() -> None:
    kept = _Kept()
    made = Tracing(kept, Resource({}), TracingOptions())
    for value in ("plain", Lane.BULK):
        made.emit(Ended(Trace(1, 2), None, "one", SpanKind.SERVER, {"a": value}, 1, 2))
    assert encoding.encode_spans(kept.spans) == trace_encoder.encode_spans(kept.spans)


def test_exporters_encode_by_it() -> None:
    for module in (grpc_exporter, http_exporter):
        encoding.quicken(module)
        assert vars(module)["encode_spans"] is encoding.encode_spans


def test_nothing_is_exported_unless_the_environment_says_where() -> None:
    endpoint = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}
    assert read_options({}) is None
    assert read_options(endpoint | {"OTEL_SDK_DISABLED": "true"}) is None
    assert read_options(endpoint | {"OTEL_TRACES_EXPORTER": "none"}) is None
    assert read_options(endpoint) == TracingOptions()
    assert read_options({"OTEL_TRACES_EXPORTER": "console"}) == TracingOptions("console")
    assert read_options(
        endpoint
        | {
            "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
            "OTEL_TRACES_SAMPLER": "traceidratio",
            "OTEL_TRACES_SAMPLER_ARG": "0.5",
        }
    ) == TracingOptions("otlp", "grpc", by_parent=False, ratio=0.5)
    always = read_options(endpoint | {"OTEL_TRACES_SAMPLER": "parentbased_always_on"})
    assert always == TracingOptions(ratio=1.0)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("OTEL_TRACES_EXPORTER", "zipkin", "otlp, console, none"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json", "grpc, http/protobuf"),
        ("OTEL_TRACES_SAMPLER", "jaeger_remote", "parentbased_traceidratio"),
        ("OTEL_TRACES_SAMPLER_ARG", "5 %", "a share from 0 to 1"),
        ("OTEL_TRACES_SAMPLER_ARG", "5", "a share from 0 to 1"),
    ],
)
def test_what_cannot_be_is_told(name: str, value: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said) as told:
        read_options({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318", name: value})
    assert name in told.value.message


def test_what_exports_nothing_imports_nothing_for_it() -> None:
    code = (
        "import sys, forebay.gateway.app, forebay.inference.worker\n"
        "from forebay.runtime.tracing import active, exporting\n"
        "with exporting('some'):\n"
        "    assert active() is None\n"
        # redis-py imports what counts, where it is installed.
        "made = ('opentelemetry.sdk.trace', 'opentelemetry.exporter', 'google.protobuf')\n"
        "assert not [name for name in sys.modules if name.startswith(made)]\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, env={"PATH": ""})
