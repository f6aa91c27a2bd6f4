"""Deployments, which are Forebay's models with the bounds of their workers: to be read only.

What Replicate keeps in a release, `models.toml` says of a model: what is to be changed is changed
there.
"""

from datetime import UTC, datetime

import msgspec

from forebay.contract.model import ModelSpec
from forebay.gateway.dialects.replicate import paging
from forebay.gateway.dialects.replicate.mounts import HOSTED, OWNER, owned, version_id
from forebay.gateway.http import Answer, Call, to_json
from forebay.gateway.registry import Registry


class Configuration(msgspec.Struct, frozen=True):
    """What a deployment's workers are.

    Attributes:
        hardware: the device that the model runs on.
        min_instances: its fewest workers.
        max_instances: its most.
    """

    hardware: str
    min_instances: int
    max_instances: int


class Release(msgspec.Struct, frozen=True):
    """What is deployed.

    Attributes:
        version: that of the model's own table, or what that may be asked for by.
        created_at: when this gateway read its catalog.
    """

    model: str
    version: str
    created_at: datetime
    configuration: Configuration
    number: int = 1
    created_by: None = None


class Deployment(msgspec.Struct, frozen=True):
    """A deployment, as Replicate's clients know it."""

    name: str
    current_release: Release
    owner: str = OWNER


class Deployments:
    """Answers what there is.

    Args:
        registry: knows it.
    """

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._created = datetime.now(UTC).replace(microsecond=0)

    async def list(self, call: Call) -> Answer:
        """One for each model, by name.

        Raises:
            InvalidInput: a parameter is wrong; it names it.
        """
        models = self._registry.models
        url = f"{call.base_url}{HOSTED.path}/deployments"
        page = paging.named(
            call.scope["query_string"], models, url, lambda name: self._deployment(models[name])
        )
        return Answer(page)

    async def get(self, call: Call) -> Answer:
        """One by its name, which is the model's.

        Raises:
            NotFound: there is none of that name.
        """
        spec = owned(self._registry, call.path_param("owner"), call.path_param("name"))
        return Answer(to_json(self._deployment(spec)))

    def _deployment(self, spec: ModelSpec) -> Deployment:
        release = Release(
            HOSTED.name_of(spec.name),
            version_id(self._registry, spec),
            self._created,
            Configuration(spec.device, spec.replicas.min, spec.replicas.most),
        )
        return Deployment(spec.name, release)
