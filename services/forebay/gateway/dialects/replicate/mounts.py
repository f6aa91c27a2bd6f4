"""Where the dialect is mounted, and who owns its models.

Under `/replicate/v1`, where Replicate's own clients look, models are told with their owner and a
text is a list, as those clients expect; under `/v1`, Forebay's own, both are told plainly.
"""

from typing import Final

import msgspec

from forebay.contract.errors import NotFound
from forebay.contract.model import BackendName, ModelSpec
from forebay.gateway.registry import Registry

OWNER: Final = "forebay"
"""Owner of every model: there are no others here."""


class Mount(msgspec.Struct, frozen=True):
    """One of the two.

    Attributes:
        path: which all paths begin with.
        hosted: whether it tells things as Replicate's service does.
    """

    path: str
    hosted: bool = False

    def name_of(self, model: str) -> str:
        """A model's name as it is told here."""
        return f"{OWNER}/{model}" if self.hosted else model


NATIVE: Final = Mount("/v1")
HOSTED: Final = Mount("/replicate/v1", hosted=True)
MOUNTS: Final = (NATIVE.path, HOSTED.path)


def owned(registry: Registry, owner: str, name: str) -> ModelSpec:
    """The model, or version of one, that a path names.

    Raises:
        NotFound: there is none, or its owner is another.
    """
    if owner != OWNER:
        raise NotFound(f"All models here are {OWNER!r}'s: ask for {OWNER}/{name[:80]}.")
    return registry.model(name, param="name")


def meant(registry: Registry, version: str) -> ModelSpec:
    """The model, or version of one, that a request's `version` means.

    Args:
        registry: finds it.
        version: `name`, `name:version`, either with the owner before it, or a version alone.

    Raises:
        NotFound: there is no such model, or its owner is another.
        InvalidInput: it is too short to mean one version, or means several models.
    """
    owner, slash, name = version.partition("/")
    if slash and owner != OWNER:
        raise NotFound(
            f"All models here are {OWNER!r}'s: ask for {OWNER}/{name[:80]}.", param="version"
        )
    return registry.meant(name if slash else version, param="version")


def version_id(registry: Registry, spec: ModelSpec) -> str:
    """What a version may be asked for by alone: its digest, or its name where it has none."""
    serving = registry.serving_version(spec)
    return spec.name if serving is None or spec.backend is BackendName.ECHO else serving
