"""Which artifact serves a model, for clients that pin a version (`name:version`)."""

from typing import Final, Protocol

from forebay.contract.errors import ArtifactError, InvalidInput, NotFound
from forebay.contract.model import BackendName, ModelSpec
from forebay.storage.artifacts import ArtifactStore

SHORT: Final = 12
"""Characters of a digest that clients see as the version."""


class Versions(Protocol):
    """Tells which version serves."""

    def serving(self, spec: ModelSpec) -> str | None:
        """Digest of the artifact that serves a model, or None where that can't be told."""
        ...


class StoredVersions:
    """Versions by the artifact store of this machine.

    Args:
        store: where built models are.
    """

    def __init__(self, store: ArtifactStore) -> None:
        self._store = store

    def serving(self, spec: ModelSpec) -> str | None:
        """Digest of the current artifact; the backend's name where a model has none."""
        if spec.backend is BackendName.ECHO:
            return spec.backend.value
        try:
            return self._store.current(spec.name).name
        except ArtifactError:
            return None


def check_pin(versions: Versions, spec: ModelSpec, pin: str, *, param: str) -> None:
    """Make sure that the version a client pins is the one that would answer.

    Raises:
        InvalidInput: the pin is too short to mean one version.
        NotFound: another version serves, or none that is known here.
    """
    serving = versions.serving(spec)
    if serving is None:
        raise NotFound(
            f"This gateway can't tell which version of {spec.name!r} serves: ask for "
            f"{spec.name!r} alone.",
            param=param,
        )
    if pin == serving or (len(pin) >= SHORT and serving.startswith(pin)):
        return
    if len(pin) < SHORT and serving.startswith(pin):
        raise InvalidInput(f"Give at least {SHORT} characters of the version.", param=param)
    raise NotFound(
        f"{spec.name!r} has no version {pin[:80]!r} here: {serving[:SHORT]} serves.", param=param
    )
