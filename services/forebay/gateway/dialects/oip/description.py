"""What the server and its models are: metadata, configurations, and the repository's index.

Shapes are those of the Open Inference Protocol (metadata) and of Triton's model configuration and
model repository extensions. Every model in the catalog is ready: one that is scaled to zero answers
as well, only later.
"""

from collections.abc import Callable
from importlib import metadata
from typing import Final

import msgspec

from forebay.contract.model import ModelSpec
from forebay.contract.tensors import TensorSpec
from forebay.gateway.dialects.oip.faults import NotSupported
from forebay.gateway.dialects.oip.tasks import Signature, signature_of
from forebay.gateway.dispatch import Dispatch
from forebay.gateway.tensors import DATATYPES

NAME: Final = "forebay"
EXTENSIONS: Final = (
    "binary_tensor_data",
    "model_configuration",
    "model_repository",
    "parameters",
    "schedule_policy",
    "statistics",
)


class ServerMetadata(msgspec.Struct, frozen=True):
    """Body of `GET /v2`."""

    name: str
    version: str
    extensions: tuple[str, ...]


class TensorMetadata(msgspec.Struct, frozen=True):
    """A tensor that a model takes or gives; -1 in the shape is any."""

    name: str
    datatype: str
    shape: tuple[int, ...]


class ModelMetadata(msgspec.Struct, frozen=True):
    """Body of `GET /v2/models/{model}`.

    Attributes:
        versions: the one that serves, if this gateway can tell.
        platform: what executes it.
    """

    name: str
    versions: tuple[str, ...]
    platform: str
    inputs: tuple[TensorMetadata, ...]
    outputs: tuple[TensorMetadata, ...]


class TensorConfig(msgspec.Struct, frozen=True, omit_defaults=True):
    """A tensor in a configuration."""

    name: str
    data_type: str
    dims: tuple[int, ...]
    optional: bool = False


class ModelConfig(msgspec.Struct, frozen=True):
    """Body of `GET /v2/models/{model}/config`.

    Attributes:
        max_batch_size: 0: the first dimension of `dims` is rows, and batches are made by workers.
    """

    name: str
    platform: str
    backend: str
    input: tuple[TensorConfig, ...]
    output: tuple[TensorConfig, ...]
    max_batch_size: int = 0


class ModelIndex(msgspec.Struct, frozen=True):
    """A model in the repository's index."""

    name: str
    version: str
    state: str = "READY"
    reason: str = ""


class Description:
    """Answers what there is.

    Args:
        dispatch: knows the models.
        ready: whether a request would be taken and answered now.
    """

    def __init__(self, dispatch: Dispatch, ready: Callable[[], bool]) -> None:
        self._dispatch = dispatch
        self.ready = ready

    def server(self) -> ServerMetadata:
        """This server."""
        return ServerMetadata(NAME, metadata.version(NAME), EXTENSIONS)

    def model(self, spec: ModelSpec) -> ModelMetadata:
        """A model: what it takes and gives."""
        version = self.version(spec)
        return ModelMetadata(
            spec.name,
            (version,) if version else (),
            _platform(spec),
            tuple(_told(tensor) for tensor in self._signature(spec).inputs),
            tuple(_told(tensor) for tensor in self._outputs(spec)),
        )

    def config(self, spec: ModelSpec) -> ModelConfig:
        """A model's configuration, as far as Triton's has words for it."""
        return ModelConfig(
            spec.name,
            _platform(spec),
            spec.backend.value,
            tuple(_configured(tensor) for tensor in self._signature(spec).inputs),
            tuple(_configured(tensor) for tensor in self._outputs(spec)),
        )

    def specs(self) -> list[ModelSpec]:
        """All models, by name."""
        models = self._dispatch.models
        return [models[name] for name in sorted(models)]

    def index(self) -> list[ModelIndex]:
        """The repository's index: all models, each of them ready."""
        return [ModelIndex(spec.name, self.version(spec)) for spec in self.specs()]

    def version(self, spec: ModelSpec) -> str:
        """The version of a model that serves; empty if this gateway can't tell."""
        return self._dispatch.serving_version(spec) or ""

    def load(self, model: str, *, parameters: bool) -> None:
        """Make sure that a model may be asked for, which is so for all in the catalog.

        Args:
            model: its name.
            parameters: whether the request would have it configured in another way.

        Raises:
            NotFound: there is no such model.
            NotSupported: it would.
        """
        self._known(model)
        if parameters:
            raise NotSupported(
                "A model's configuration can't be sent along: it is in models.toml. Load it "
                "without parameters."
            )

    def unload(self, model: str) -> None:
        """Refuse to unload a model.

        Raises:
            NotFound: there is no such model.
            NotSupported: always otherwise.
        """
        self._known(model)
        raise NotSupported(
            f"{model!r} can't be unloaded from here: models.toml says what is served, and workers "
            "hold it. Take it out there."
        )

    def _known(self, model: str) -> ModelSpec:
        return self._dispatch.model(model, param="model")

    def _outputs(self, spec: ModelSpec) -> tuple[TensorSpec, ...]:
        return self._signature(spec).outputs(self._dispatch.dimensions(spec))

    def _signature(self, spec: ModelSpec) -> Signature:
        return signature_of(spec, self._dispatch.tensors(spec))


def _platform(spec: ModelSpec) -> str:
    return f"{NAME}_{spec.backend.value}"


def _told(tensor: TensorSpec) -> TensorMetadata:
    return TensorMetadata(tensor.name, tensor.datatype, tensor.shape)


def _configured(tensor: TensorSpec) -> TensorConfig:
    config = DATATYPES[tensor.datatype].config
    return TensorConfig(tensor.name, config, tensor.shape, tensor.optional)
