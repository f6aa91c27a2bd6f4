"""What the server and its models are: metadata, configurations, and the repository's index.

Shapes are those of the Open Inference Protocol (metadata) and of Triton's model configuration and
model repository extensions. A model in the catalog is ready: one that is scaled to zero answers as
well, only later. It is not where workers that may have it say otherwise.
"""

from collections.abc import Callable
from importlib import metadata
from typing import Final

import msgspec

from forebay.contract.errors import Unavailable
from forebay.contract.model import ModelSpec
from forebay.contract.tensors import TensorSpec
from forebay.contract.versions import model_of
from forebay.contract.workers import ModelState
from forebay.gateway.access import visitor
from forebay.gateway.dialects.oip.faults import NotSupported
from forebay.gateway.dialects.oip.tasks import Signature, signature_of
from forebay.gateway.dispatch import Dispatch
from forebay.gateway.repository import Repository, Standing
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


STATES: Final = {
    ModelState.READY: "READY",
    ModelState.LOADING: "LOADING",
    ModelState.UNLOADING: "UNLOADING",
    ModelState.ABSENT: "UNAVAILABLE",
}


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
        versions: those that serve, as far as this gateway can tell.
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
        repository: knows which of them workers have.
        ready: whether a request would be taken and answered now.
    """

    def __init__(
        self, dispatch: Dispatch, repository: Repository, ready: Callable[[], bool]
    ) -> None:
        self._dispatch = dispatch
        self._repository = repository
        self.ready = ready

    def server(self) -> ServerMetadata:
        """This server."""
        return ServerMetadata(NAME, metadata.version(NAME), EXTENSIONS)

    def model(self, spec: ModelSpec) -> ModelMetadata:
        """A model: what it takes and gives."""
        return ModelMetadata(
            model_of(spec.name),
            self._dispatch.registry.serving_versions(spec),
            _platform(spec),
            tuple(_told(tensor) for tensor in self._signature(spec).inputs),
            tuple(_told(tensor) for tensor in self._outputs(spec)),
        )

    def config(self, spec: ModelSpec) -> ModelConfig:
        """A model's configuration, as far as Triton's has words for it."""
        return ModelConfig(
            model_of(spec.name),
            _platform(spec),
            spec.backend.value,
            tuple(_configured(tensor) for tensor in self._signature(spec).inputs),
            tuple(_configured(tensor) for tensor in self._outputs(spec)),
        )

    def specs(self) -> list[ModelSpec]:
        """All models, by name."""
        models = self._dispatch.registry.models
        return [models[name] for name in sorted(models)]

    async def model_ready(self, spec: ModelSpec) -> bool:
        """Whether a request for a model would be answered, if only after a load."""
        if not self.ready():
            return False
        try:
            standings = await self._repository.standings()
        except Unavailable:
            return False
        return standings.get(spec.name, Standing()).answers

    async def index(self, *, ready: bool = False) -> list[ModelIndex]:
        """The repository's index: all models, and how each stands with the workers.

        Args:
            ready: list only those that are.

        Raises:
            Unavailable: Redis is out of reach.
        """
        standings = await self._repository.standings()
        told: list[ModelIndex] = []
        for spec in self.specs():
            standing = standings.get(spec.name, Standing())
            if standing.state is ModelState.READY or not ready:
                state = STATES[standing.state]
                told.append(ModelIndex(spec.name, self.version(spec), state, standing.reason))
        return told

    def version(self, spec: ModelSpec) -> str:
        """The version of a model that serves; empty if this gateway can't tell."""
        return self._dispatch.registry.serving_version(spec) or ""

    async def load(self, model: str, *, parameters: bool) -> None:
        """Have a model loaded where workers have several; any other is there, or comes when asked.

        Args:
            model: its name.
            parameters: whether the request would have it configured in another way.

        Raises:
            NotFound: there is no such model.
            NotSupported: it would.
            ForebayError: it can't be loaded.
            Forbidden: the client's API key is not an admin's.
        """
        visitor.check_admin()
        self._known(model)
        if parameters:
            raise NotSupported(
                "A model's configuration can't be sent along: it is in models.toml. Load it "
                "without parameters."
            )
        await self._repository.load(model)

    async def unload(self, model: str) -> None:
        """Have a model unloaded wherever it is.

        Raises:
            NotFound: there is no such model.
            NotSupported: a worker is there for it alone, or none at all.
            ForebayError: a worker could not unload it.
            Forbidden: the client's API key is not an admin's.
        """
        visitor.check_admin()
        self._known(model)
        if not await self._repository.unload(model):
            raise NotSupported(
                f"{model!r} can't be unloaded from here: models.toml says what is served, and no "
                "worker has it beside others. End its own workers, or take it out there."
            )

    def _known(self, model: str) -> ModelSpec:
        return self._dispatch.registry.model(model, param="model")

    def _outputs(self, spec: ModelSpec) -> tuple[TensorSpec, ...]:
        return self._signature(spec).outputs(self._dispatch.registry.dimensions(spec))

    def _signature(self, spec: ModelSpec) -> Signature:
        return signature_of(spec, self._dispatch.registry.tensors(spec))


def _platform(spec: ModelSpec) -> str:
    return f"{NAME}_{spec.backend.value}"


def _told(tensor: TensorSpec) -> TensorMetadata:
    return TensorMetadata(tensor.name, tensor.datatype, tensor.shape)


def _configured(tensor: TensorSpec) -> TensorConfig:
    config = DATATYPES[tensor.datatype].config
    return TensorConfig(tensor.name, config, tensor.shape, tensor.optional)
