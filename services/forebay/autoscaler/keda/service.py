"""The methods of `externalscaler.ExternalScaler`, for KEDA's `external-push` trigger.

Protocol: https://keda.sh/docs/latest/concepts/external-scalers/. A trigger names its model in the
metadata `model`. Its metric is how many replicas there should be, with a target of 1 as an average:
so many there are. KEDA keeps what it has while a method answers with an error.
"""

from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

import grpc

from forebay.autoscaler.keda.wire import external_scaler_pb2 as pb
from forebay.autoscaler.targets.elsewhere import Elsewhere

SERVICE: Final = "externalscaler.ExternalScaler"
METRIC: Final = "replicas"

Context = grpc.aio.ServicerContext[Any, Any]


class Service:
    """Answers KEDA.

    Args:
        wanted: how many replicas each model should have.
        models: those that may come and go.
    """

    def __init__(self, wanted: Elsewhere, models: Mapping[str, object]) -> None:
        self._wanted = wanted
        self._models = models

    def handler(self) -> grpc.GenericRpcHandler:
        """What a server needs to serve it."""
        ref, active = pb.ScaledObjectRef.FromString, pb.IsActiveResponse.SerializeToString
        unary, stream = grpc.unary_unary_rpc_method_handler, grpc.unary_stream_rpc_method_handler
        return grpc.method_handlers_generic_handler(
            SERVICE,
            {
                "IsActive": unary(self._is_active, ref, active),
                "StreamIsActive": stream(self._stream_is_active, ref, active),
                "GetMetricSpec": unary(self._spec, ref, pb.GetMetricSpecResponse.SerializeToString),
                "GetMetrics": unary(
                    self._metrics,
                    pb.GetMetricsRequest.FromString,
                    pb.GetMetricsResponse.SerializeToString,
                ),
            },
        )

    async def _is_active(self, ref: pb.ScaledObjectRef, context: Context) -> pb.IsActiveResponse:
        return pb.IsActiveResponse(result=await self._replicas(ref, context) > 0)

    async def _stream_is_active(
        self, ref: pb.ScaledObjectRef, context: Context
    ) -> AsyncIterator[pb.IsActiveResponse]:
        """Whether there should be any, now and whenever that changes."""
        model = await self._model(ref, context)
        told: bool | None = None
        while True:
            active = await self._wanted.active(model, other_than=told)
            yield pb.IsActiveResponse(result=active)
            told = active

    async def _spec(self, ref: pb.ScaledObjectRef, context: Context) -> pb.GetMetricSpecResponse:
        await self._model(ref, context)
        spec = pb.MetricSpec(metricName=METRIC, targetSize=1, targetSizeFloat=1)
        return pb.GetMetricSpecResponse(metricSpecs=[spec])

    async def _metrics(
        self, request: pb.GetMetricsRequest, context: Context
    ) -> pb.GetMetricsResponse:
        replicas = await self._replicas(request.scaledObjectRef, context)
        value = pb.MetricValue(
            metricName=METRIC, metricValue=replicas, metricValueFloat=float(replicas)
        )
        return pb.GetMetricsResponse(metricValues=[value])

    async def _replicas(self, ref: pb.ScaledObjectRef, context: Context) -> int:
        model = await self._model(ref, context)
        replicas = self._wanted.replicas(model)
        if replicas is None:
            await context.abort(
                grpc.StatusCode.UNAVAILABLE,
                f"How many replicas {model} should have is not known yet, or Redis can't be asked.",
            )
        return replicas

    async def _model(self, ref: pb.ScaledObjectRef, context: Context) -> str:
        model = ref.scalerMetadata.get("model", "")
        if model not in self._models:
            await context.abort(
                grpc.StatusCode.NOT_FOUND,
                f"The trigger's metadata says model: {model!r}. Of these may replicas come and go: "
                f"{', '.join(sorted(self._models))}.",
            )
        return model
