"""`GET /v1/models` and `GET /v1/models/{id}`."""

import time
from collections.abc import Mapping

import msgspec

from forebay.contract.errors import Unavailable
from forebay.contract.model import ModelSpec
from forebay.contract.rows import Task
from forebay.contract.versions import BETWEEN, model_of
from forebay.gateway.dispatch import Dispatch
from forebay.gateway.http import Answer, Call, to_json


class Model(msgspec.Struct, frozen=True):
    """A model as this API lists it.

    Attributes:
        created: Unix time at which this gateway read its catalog, seconds.
    """

    id: str
    created: int
    object: str = "model"
    owned_by: str = "forebay"


class Version(msgspec.Struct, frozen=True):
    """A version of a model.

    Attributes:
        name: what it may be asked for as: `minilm@v2`.
        share: of the model's requests, per cent; None while that isn't known here.
        version: digest of its artifact; None where that isn't known here.
        shadow: whether it gets copies of requests, where it has no share of them.
    """

    name: str
    share: float | None
    version: str | None
    shadow: bool


class Extension(msgspec.Struct, frozen=True):
    """What Forebay tells of a model beyond OpenAI's fields.

    Attributes:
        schema: where the schema of its input and output is, for `POST /v1/predictions`.
    """

    task: Task
    description: str
    versions: tuple[Version, ...]
    schema: str


class ModelDetails(Model, frozen=True):
    """A model by itself."""

    forebay: Extension | None = None


class ModelList(msgspec.Struct, frozen=True):
    """All models."""

    data: list[Model]
    object: str = "list"


class Models:
    """Answers what models there are.

    Args:
        dispatch: knows them.
    """

    def __init__(self, dispatch: Dispatch) -> None:
        self._dispatch = dispatch
        self._created = int(time.time())

    async def list(self, call: Call) -> Answer:
        """All of them, by name."""
        names = sorted(self._dispatch.registry.models)
        return Answer(to_json(ModelList([Model(name, self._created) for name in names])))

    async def get(self, call: Call) -> Answer:
        """One of them."""
        spec = self._dispatch.registry.model(call.path_param("id"), param="model")
        extension = Extension(
            spec.task, spec.description, self._versions(spec), f"/v1/models/{spec.name}/schema"
        )
        return Answer(to_json(ModelDetails(spec.name, self._created, forebay=extension)))

    def _versions(self, spec: ModelSpec) -> tuple[Version, ...]:
        try:
            shares: Mapping[str, float] = self._dispatch.registry.shares(spec)
        except Unavailable:
            shares = {}
        return tuple(
            Version(
                f"{model_of(spec.name)}{BETWEEN}{one.version}",
                shares.get(one.version),
                self._dispatch.registry.serving_version(one),
                one.version in spec.versions and spec.versions[one.version].shadow,
            )
            for one in self._dispatch.registry.versions_of(spec)
        )
