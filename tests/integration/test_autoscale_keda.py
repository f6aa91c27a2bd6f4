"""`forebay autoscale run --keda-port`: asked over gRPC as KEDA asks an external scaler."""

import asyncio
import socket
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest

from forebay.autoscaler.keda.wire import external_scaler_pb2 as pb
from forebay.autoscaler.targets.elsewhere import FRESH_S, Elsewhere
from forebay.local.server import free_port
from forebay.runtime.process import EXIT_HOPELESS
from tests.fixtures.fleet import Fleet, fleet
from tests.fixtures.waiting import PATIENCE_S, eventually

CATALOG = """
[models.echo]
task = "echo"
backend = "echo"

[models.rests]
task = "echo"
backend = "echo"
replicas = { min = 0, max = 3, idle_s = 1 }
"""
RESTS = {"version": "rests", "input": {"value": 1}}


def ref(model: str) -> pb.ScaledObjectRef:
    """As KEDA names a trigger: its whole metadata goes with each question."""
    metadata = {"scalerAddress": "autoscaler:9090", "model": model}
    return pb.ScaledObjectRef(name="worker", namespace="here", scalerMetadata=metadata)


class Keda:
    """Asks as KEDA does."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        def unary(name: str, answer: Any) -> Callable[[Any], Any]:
            return channel.unary_unary(
                f"/externalscaler.ExternalScaler/{name}",
                request_serializer=lambda message: message.SerializeToString(),
                response_deserializer=answer.FromString,
            )

        self.is_active = unary("IsActive", pb.IsActiveResponse)
        self.spec = unary("GetMetricSpec", pb.GetMetricSpecResponse)
        self.metrics = unary("GetMetrics", pb.GetMetricsResponse)
        self.stream: Callable[[Any], Any] = channel.unary_stream(
            "/externalscaler.ExternalScaler/StreamIsActive",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=pb.IsActiveResponse.FromString,
        )

    async def replicas(self, model: str) -> float:
        """What the HPA is told."""
        asked = pb.GetMetricsRequest(scaledObjectRef=ref(model), metricName="replicas")
        (value,) = (await self.metrics(asked)).metricValues
        assert (value.metricName, value.metricValue) == ("replicas", int(value.metricValueFloat))
        return float(value.metricValueFloat)


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def running(redis_url: str, key_prefix: str, tmp_path: Path, port: int) -> Iterator[Fleet]:
    with fleet(tmp_path, CATALOG, redis_url=redis_url, key_prefix=key_prefix) as made:
        made.start("gateway")
        made.start("worker", "echo")
        made.start("autoscale", "run", keda_port=str(port))
        yield made


@pytest.fixture
async def keda(running: Fleet, port: int) -> AsyncIterator[Keda]:
    await running.ready()
    await eventually(lambda: "answering KEDA" in running.said, what=lambda: running.said)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield Keda(channel)


async def test_it_is_told_at_once_that_a_model_is_wanted_and_when_it_is_not(
    running: Fleet, keda: Keda
) -> None:
    stream = keda.stream(ref("rests"))
    heard = aiter(stream)
    assert (await asyncio.wait_for(anext(heard), PATIENCE_S)).result is False
    assert (await keda.is_active(ref("rests"))).result is False
    assert await keda.replicas("rests") == 0

    async with httpx.AsyncClient(base_url=running.url, timeout=PATIENCE_S) as client:
        answer = await client.post("/v1/predictions", json=RESTS)
        assert (await asyncio.wait_for(anext(heard), PATIENCE_S)).result is True
        assert (await keda.is_active(ref("rests"))).result is True
        assert await keda.replicas("rests") == 1

        worker = running.start("worker", "rests")
        place = f"/v1/predictions/{answer.json()['id']}"

        async def done() -> bool:
            return bool((await client.get(place)).json()["status"] == "succeeded")

        await eventually(done, what=lambda: running.said)
    assert (await asyncio.wait_for(anext(heard), PATIENCE_S)).result is False
    assert await keda.replicas("rests") == 0
    running.end(worker)
    stream.cancel()


async def test_the_metric_asks_for_as_many_replicas_as_it_counts(keda: Keda) -> None:
    (spec,) = (await keda.spec(ref("rests"))).metricSpecs
    assert (spec.metricName, spec.targetSize, spec.targetSizeFloat) == ("replicas", 1, 1.0)


@pytest.mark.parametrize("model", ["echo", "nowhere", ""])
async def test_a_trigger_of_a_model_that_does_not_come_and_go_is_told_which_do(
    keda: Keda, model: str
) -> None:
    for asked in (keda.is_active(ref(model)), keda.spec(ref(model)), keda.replicas(model)):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await asked
        assert refused.value.code() is grpc.StatusCode.NOT_FOUND
        assert "rests" in str(refused.value.details())
    with pytest.raises(grpc.aio.AioRpcError, match="rests"):
        await anext(aiter(keda.stream(ref(model))))


async def test_it_ends_though_somebody_listens(running: Fleet, keda: Keda) -> None:
    heard = aiter(keda.stream(ref("rests")))
    await asyncio.wait_for(anext(heard), PATIENCE_S)
    (process,) = running.running("autoscale", "run")
    process.terminate()
    assert await asyncio.to_thread(process.wait, PATIENCE_S) == 0
    with pytest.raises((grpc.aio.AioRpcError, StopAsyncIteration, asyncio.CancelledError)):
        await asyncio.wait_for(anext(heard), PATIENCE_S)


def test_a_port_that_somebody_has_is_named(redis_url: str, tmp_path: Path) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        fleet(tmp_path, CATALOG, redis_url=redis_url) as made,
    ):
        port = str(taken.getsockname()[1])
        process: subprocess.Popen[bytes] = made.start("autoscale", "run", keda_port=port)
        assert process.wait(PATIENCE_S) == EXIT_HOPELESS
        assert f"127.0.0.1:{port} (keda_port)" in made.said


def test_what_nobody_has_looked_at_lately_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("forebay.autoscaler.targets.elsewhere.time.monotonic", lambda: now)
    target = Elsewhere()
    assert target.replicas("a") is None
    target.scale("a", 2, ())
    assert target.replicas("a") == 2
    now += FRESH_S
    assert target.replicas("a") is None
