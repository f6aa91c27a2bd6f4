"""What there is beside models: collections by what they do, hardware, and whose they are."""

from typing import Any

import msgspec

from forebay.contract.errors import NotFound
from forebay.contract.rows import Task
from forebay.gateway.dialects.replicate import paging
from forebay.gateway.dialects.replicate.models import Models
from forebay.gateway.dialects.replicate.mounts import HOSTED, OWNER
from forebay.gateway.http import Answer, Call, to_json
from forebay.gateway.registry import Registry


class Collection(msgspec.Struct, frozen=True, omit_defaults=True):
    """The models of one task; they are told where it is asked for by its slug."""

    slug: str
    name: str
    description: str
    models: list[Any] | None = None


class Hardware(msgspec.Struct, frozen=True):
    """A device that models run on."""

    sku: str
    name: str


class Account(msgspec.Struct, frozen=True):
    """Whose the models are."""

    type: str = "organization"
    username: str = OWNER
    name: str = "Forebay"
    github_url: None = None


class Offers:
    """Answers what there is.

    Args:
        registry: knows it.
        models: tells models.
    """

    def __init__(self, registry: Registry, models: Models) -> None:
        self._registry = registry
        self._models = models

    async def collections(self, call: Call) -> Answer:
        """A collection for each task of which there are models.

        Raises:
            InvalidInput: a parameter is wrong; it names it.
        """
        tasks = {spec.task.value for spec in self._registry.models.values()}
        url = f"{call.base_url}{HOSTED.path}/collections"
        return Answer(paging.named(call.scope["query_string"], tasks, url, _collection))

    async def collection(self, call: Call) -> Answer:
        """The models of one task.

        Raises:
            NotFound: there are none.
        """
        slug = call.path_param("slug")
        models = self._registry.models
        found = [models[name] for name in sorted(models) if models[name].task.value == slug]
        if not found:
            tasks = ", ".join(sorted({spec.task.value for spec in models.values()}))
            raise NotFound(f"There is no collection {slug[:80]!r} here. Collections: {tasks}.")
        told = [self._models.told(call, spec) for spec in found]
        return Answer(to_json(msgspec.structs.replace(_collection(slug), models=told)))

    async def hardware(self, call: Call) -> Answer:
        """The devices that `models.toml` has models run on."""
        devices = sorted({spec.device for spec in self._registry.models.values()})
        return Answer(to_json([Hardware(device, device.upper()) for device in devices]))

    async def account(self, call: Call) -> Answer:
        """The one owner of all models."""
        return Answer(to_json(Account()))


def _collection(slug: str) -> Collection:
    name = Task(slug).value.replace("-", " ").capitalize()
    return Collection(slug, name, f"Models of the task {slug!r}.")
