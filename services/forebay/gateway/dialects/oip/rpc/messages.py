"""Messages that describe: what `description` and `statistics` tell, as gRPC has it."""

from collections.abc import Iterable

from forebay.gateway.dialects.oip import description, statistics
from forebay.gateway.dialects.oip.rpc.wire import open_inference_pb2 as pb


def server(told: description.ServerMetadata) -> pb.ServerMetadataResponse:
    """What this server is."""
    return pb.ServerMetadataResponse(
        name=told.name, version=told.version, extensions=told.extensions
    )


def model(told: description.ModelMetadata) -> pb.ModelMetadataResponse:
    """What a model takes and gives."""

    def tensors(
        found: Iterable[description.TensorMetadata],
    ) -> list[pb.ModelMetadataResponse.TensorMetadata]:
        return [
            pb.ModelMetadataResponse.TensorMetadata(
                name=tensor.name, datatype=tensor.datatype, shape=tensor.shape
            )
            for tensor in found
        ]

    return pb.ModelMetadataResponse(
        name=told.name,
        versions=told.versions,
        platform=told.platform,
        inputs=tensors(told.inputs),
        outputs=tensors(told.outputs),
    )


def config(told: description.ModelConfig) -> pb.ModelConfigResponse:
    """A model's configuration."""
    return pb.ModelConfigResponse(
        config=pb.ModelConfig(
            name=told.name,
            platform=told.platform,
            backend=told.backend,
            max_batch_size=told.max_batch_size,
            input=[
                pb.ModelInput(
                    name=tensor.name,
                    data_type=tensor.data_type,
                    dims=tensor.dims,
                    optional=tensor.optional,
                )
                for tensor in told.input
            ],
            output=[
                pb.ModelOutput(
                    name=tensor.name,
                    data_type=tensor.data_type,
                    dims=tensor.dims,
                )
                for tensor in told.output
            ],
        )
    )


def stats(told: Iterable[statistics.ModelStatistics]) -> pb.ModelStatisticsResponse:
    """What came of inferences."""

    def duration(counted: statistics.Duration) -> pb.StatisticDuration:
        return pb.StatisticDuration(count=counted.count, ns=counted.ns)

    return pb.ModelStatisticsResponse(
        model_stats=[
            pb.ModelStatistics(
                name=each.name,
                version=each.version,
                last_inference=each.last_inference,
                inference_count=each.inference_count,
                execution_count=each.execution_count,
                inference_stats=pb.InferStatistics(
                    success=duration(each.inference_stats.success),
                    fail=duration(each.inference_stats.fail),
                    queue=duration(each.inference_stats.queue),
                    compute_input=duration(each.inference_stats.compute_input),
                    compute_infer=duration(each.inference_stats.compute_infer),
                    compute_output=duration(each.inference_stats.compute_output),
                    cache_hit=duration(each.inference_stats.cache_hit),
                    cache_miss=duration(each.inference_stats.cache_miss),
                ),
            )
            for each in told
        ]
    )


def index(told: Iterable[description.ModelIndex]) -> pb.RepositoryIndexResponse:
    """What models there are."""
    return pb.RepositoryIndexResponse(
        models=[
            pb.RepositoryIndexResponse.ModelIndex(
                name=each.name, version=each.version, state=each.state, reason=each.reason
            )
            for each in told
        ]
    )
