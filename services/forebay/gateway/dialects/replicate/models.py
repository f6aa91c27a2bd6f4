"""What models there are and what each takes, as Replicate tells it; and the schema by itself."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from forebay.contract.errors import InvalidInput
from forebay.contract.model import ModelSpec
from forebay.contract.rows import Task
from forebay.gateway.dialects.replicate import paging
from forebay.gateway.dialects.replicate.mounts import HOSTED, OWNER, owned, version_id
from forebay.gateway.dialects.replicate.schemas import PIECES, Schemas, schemas_of
from forebay.gateway.dispatch import Dispatch
from forebay.gateway.http import Answer, Call, to_json


class Version(msgspec.Struct, frozen=True):
    """A version, as Replicate's clients know it.

    Attributes:
        id: digest of its artifact, or what it may be asked for by where that isn't known here.
        created_at: when this gateway read its catalog.
        openapi_schema: with the components `Input` and `Output`.
    """

    id: str
    created_at: datetime
    openapi_schema: dict[str, Any]
    cog_version: str = ""


class Model(msgspec.Struct, frozen=True):
    """A model, as Replicate's clients know it; `latest_version` is that of its own table."""

    url: str
    name: str
    description: str
    latest_version: Version
    owner: str = OWNER
    visibility: str = "private"
    run_count: int = 0
    github_url: None = None
    paper_url: None = None
    license_url: None = None
    cover_image_url: None = None
    default_example: None = None


class SchemaBody(msgspec.Struct, frozen=True):
    """Body of `GET /v1/models/{name}/schema`.

    Attributes:
        version: of which it is the schema; None where that isn't known here.
        input: JSON schema of a prediction's `input`.
        output: of its `output`.
    """

    model: str
    task: Task
    version: str | None
    input: dict[str, Any]
    output: dict[str, Any]


class Models:
    """Answers what there is.

    Args:
        dispatch: knows it.
    """

    def __init__(self, dispatch: Dispatch) -> None:
        self._dispatch = dispatch
        self._created = datetime.now(UTC).replace(microsecond=0)

    async def schema(self, call: Call) -> Answer:
        """What a model, or a version of one, takes and gives.

        Raises:
            NotFound: there is none of that name.
        """
        spec = self._dispatch.registry.model(call.path_param("name"), param="name")
        schemas = self._schemas(spec)
        body = SchemaBody(
            spec.name,
            spec.task,
            self._dispatch.registry.serving_version(spec),
            schemas.whole(schemas.input),
            schemas.whole(schemas.output),
        )
        return Answer(to_json(body))

    async def list(self, call: Call) -> Answer:
        """Models by name, a page of them.

        Raises:
            InvalidInput: a parameter is wrong; it names it.
        """
        models = self._dispatch.registry.models
        url = f"{call.base_url}{HOSTED.path}/models"
        page = paging.named(
            call.scope["query_string"], models, url, lambda name: self.told(call, models[name])
        )
        return Answer(page)

    async def search(self, call: Call) -> Answer:
        """Models whose name, task or description has all words of the body, a plain text.

        Raises:
            InvalidInput: the body is no text.
        """
        try:
            words = call.body.decode().lower().split()
        except UnicodeDecodeError:
            raise InvalidInput("A search takes words, as plain text in UTF-8.") from None
        models = self._dispatch.registry.models
        found = [models[name] for name in sorted(models) if _has(models[name], words)]
        results = [self.told(call, spec) for spec in found]
        return Answer(to_json(paging.PageBody(None, None, results)))

    async def get(self, call: Call) -> Answer:
        """One model.

        Raises:
            NotFound: there is none of that name.
        """
        return Answer(to_json(self.told(call, self._spec(call))))

    async def versions(self, call: Call) -> Answer:
        """A model's versions, its own table's first."""
        versions = self._dispatch.registry.versions_of(self._spec(call))
        results = [self._version(spec) for spec in versions]
        return Answer(to_json(paging.PageBody(None, None, results)))

    async def version(self, call: Call) -> Answer:
        """One version, by its name or its digest.

        Raises:
            NotFound: there is no such version.
        """
        spec, id_ = self._spec(call), call.path_param("id")
        if id_ != version_id(self._dispatch.registry, spec):
            spec = self._dispatch.registry.version_of(spec, id_, param="id")
        return Answer(to_json(self._version(spec)))

    def _spec(self, call: Call) -> ModelSpec:
        registry = self._dispatch.registry
        return owned(registry, call.path_param("owner"), call.path_param("name"))

    def told(self, call: Call, spec: ModelSpec) -> Model:
        """A model as this API tells it."""
        url = f"{call.base_url}/v1/models/{spec.name}"
        return Model(url, spec.name, spec.description, self._version(spec))

    def _version(self, spec: ModelSpec) -> Version:
        id_ = version_id(self._dispatch.registry, spec)
        schemas = self._schemas(spec)
        if spec.task is Task.GENERATION:
            schemas = msgspec.structs.replace(schemas, output=PIECES)
        openapi = schemas.openapi(title=spec.name, version=id_)
        return Version(id_, self._created, openapi)

    def _schemas(self, spec: ModelSpec) -> Schemas:
        return schemas_of(spec.task, self._dispatch.registry.serving(spec))


def _has(spec: ModelSpec, words: Sequence[str]) -> bool:
    told = f"{spec.name} {spec.task.value} {spec.description}".lower()
    return all(word in told for word in words)
