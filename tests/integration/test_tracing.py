"""Traces: a request followed from its client through gateway and worker, as a collector sees it."""

import secrets
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import openai
import pytest
import tritonclient.grpc as triton
from opentelemetry.semconv._incubating.attributes import (
    gen_ai_attributes,
    messaging_attributes,
    rpc_attributes,
)
from opentelemetry.semconv.attributes import error_attributes, http_attributes, url_attributes

from forebay.runtime.tracing import names
from tests.fixtures.collecting import Collector, Seen, collecting
from tests.fixtures.receiving import receiver
from tests.fixtures.stack import Stack, running_stack
from tests.fixtures.waiting import PATIENCE_S, eventually, eventually_sync

SERVER, CLIENT, PRODUCER, CONSUMER = 2, 3, 4, 5


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with collecting() as running:
        yield running


@pytest.fixture(scope="module")
def traced(
    collector: Collector, minilm_home: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("traced")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        patch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
        # Of what comes without a trace nothing is recorded, so that tests see their own.
        patch.setenv("OTEL_TRACES_SAMPLER_ARG", "0")
        with running_stack(minilm_home, folder, egress_loopback="true") as running:
            yield running


def parent() -> tuple[str, str, dict[str, str]]:
    """A client's trace and span, and the headers that tell of them."""
    trace, span = secrets.token_hex(16), secrets.token_hex(8)
    return trace, span, {"traceparent": f"00-{trace}-{span}-01", "tracestate": "vendor=some"}


def seen(collector: Collector, trace: str, count: int) -> list[Seen]:
    eventually_sync(
        lambda: len(collector.of(trace)) >= count,
        what=lambda: f"{count} spans of {trace}: {collector.of(trace)}",
    )
    return sorted(collector.of(trace), key=lambda one: one.kind)


def test_a_request_is_one_trace_from_its_client_to_what_it_ran_in(
    traced: Stack, collector: Collector
) -> None:
    trace, span, headers = parent()
    with openai.OpenAI(base_url=f"{traced.url}/v1", api_key="none") as client:
        client.embeddings.create(model="minilm", input=["a text", "another"], extra_headers=headers)
    server, send, process = seen(collector, trace, 3)
    assert (server.name, server.kind, server.parent) == ("POST /v1/embeddings", SERVER, span)
    assert (send.name, send.kind, send.parent) == (
        "send minilm:realtime",
        PRODUCER,
        server.span,
    )
    assert (process.name, process.kind, process.parent) == (
        "process minilm:realtime",
        CONSUMER,
        send.span,
    )
    assert [one.service for one in (server, send, process)] == [
        "forebay-gateway",
        "forebay-gateway",
        "forebay-worker",
    ]
    assert {one.state for one in (server, send, process)} == {"vendor=some"}
    assert server.attributes[names.HTTP_STATUS] == 200
    assert server.attributes[names.HTTP_ROUTE] == "/v1/embeddings"
    assert send.attributes[names.OUTCOME] == "enqueued"
    told = process.attributes
    assert told[names.OUTCOME] == "succeeded"
    assert told[names.ATTEMPT] == 1
    assert told[names.MESSAGING_MESSAGE] == send.attributes[names.MESSAGING_MESSAGE]
    for name in (names.QUEUE_MS, names.WAIT_MS, names.COMPUTE_MS, names.REPLY_MS):
        assert told[name] >= 0
    assert process.events == ()
    assert server.began_ns <= send.began_ns <= process.began_ns <= process.ended_ns
    # The batch has a trace of its own; each tells of the other.
    (link,) = process.links
    (batch,) = seen(collector, link[0], 1)
    assert (batch.name, batch.kind, batch.parent) == ("process minilm", CONSUMER, "")
    assert (trace, send.span) in batch.links
    assert batch.attributes[names.BATCH_ROWS] >= 2
    assert batch.attributes[names.BATCH_LENGTH] >= 3


async def test_a_webhook_is_told_in_the_trace_of_its_prediction(
    traced: Stack, collector: Collector
) -> None:
    trace, _, headers = parent()
    async with (
        receiver() as told,
        httpx.AsyncClient(base_url=traced.url, timeout=PATIENCE_S) as client,
    ):
        url = f"http://127.0.0.1:{told.port}/told"
        body = {
            "version": "echo",
            "input": {"value": 1},
            "webhook": f"{url}?secret=1",
            "webhook_events_filter": ["completed"],
        }
        answer = await client.post("/v1/predictions", json=body, headers=headers)
        assert answer.is_success, answer.text
        await eventually(lambda: told.heads, what="the webhook came")
        await eventually(lambda: len(collector.of(trace)) == 4, what="all spans came")
    _, call, send, _ = seen(collector, trace, 4)
    assert (call.name, call.kind, call.parent) == ("POST", CLIENT, send.span)
    assert call.service == "forebay-background"
    assert call.attributes[names.HTTP_STATUS] == 200
    assert call.attributes[names.URL_FULL] == url
    head = told.heads[0].lower()
    assert f"traceparent: 00-{trace}-{call.span}-01\r\n" in head
    assert "tracestate: vendor=some\r\n" in head


def test_what_its_client_does_not_record_is_not_recorded(
    traced: Stack, collector: Collector
) -> None:
    unsampled, _, headers = parent()
    headers["traceparent"] = headers["traceparent"][:-2] + "00"
    body = {"version": "echo", "input": {"value": 1}}
    with httpx.Client(base_url=traced.url, timeout=PATIENCE_S) as client:
        for told in (headers, {}, {"traceparent": "00-zz"}):
            answer = client.post("/v1/predictions", json=body, headers={"prefer": "wait", **told})
            assert answer.json()["status"] == "succeeded"
        sampled, _, headers = parent()
        client.post("/v1/predictions", json=body, headers={"prefer": "wait", **headers})
    seen(collector, sampled, 3)
    assert collector.of(unsampled) == []
    roots = [one for one in collector.spans if one.kind == SERVER and not one.parent]
    assert roots == []


def test_what_fails_says_so(traced: Stack, collector: Collector) -> None:
    trace, _, headers = parent()
    body = {"model": "minilm", "input": "word " * 2000}
    with httpx.Client(base_url=traced.url, timeout=PATIENCE_S) as client:
        answer = client.post("/v1/embeddings", json=body, headers=headers)
    assert answer.status_code == 400
    server, _, process = seen(collector, trace, 3)
    assert server.attributes[names.HTTP_STATUS] == 400
    assert not server.failed, "the client's fault is no failure of the server's"
    assert process.failed
    assert process.attributes[names.ERROR_TYPE] == "too_long"


def test_an_inference_over_grpc_is_a_trace_too(traced: Stack, collector: Collector) -> None:
    trace, span, headers = parent()
    with triton.InferenceServerClient(f"127.0.0.1:{traced.grpc_port}") as client:
        given = triton.InferInput("text", [1], "BYTES")
        given.set_data_from_numpy(np.array([b"a text"], dtype=np.object_))
        client.infer("minilm", [given], headers=headers)
        failed, _, others = parent()
        with pytest.raises(triton.InferenceServerException):
            client.infer("nobody", [given], headers=others)
    server, send, process = seen(collector, trace, 3)
    name = "inference.GRPCInferenceService/ModelInfer"
    assert (server.name, server.kind, server.parent) == (name, SERVER, span)
    assert (send.parent, process.parent) == (server.span, send.span)
    (refused,) = seen(collector, failed, 1)
    assert refused.failed
    assert refused.attributes[names.ERROR_TYPE] == "not_found"


def test_names_are_those_of_the_conventions() -> None:
    told = {value for name, value in vars(names).items() if name.isupper() and "." in str(value)}
    known = {
        value
        for module in (
            http_attributes,
            url_attributes,
            error_attributes,
            messaging_attributes,
            gen_ai_attributes,
            rpc_attributes,
        )
        for name, value in vars(module).items()
        if name.isupper() and isinstance(value, str)
    }
    assert {name for name in told if not name.startswith("forebay.")} <= known
