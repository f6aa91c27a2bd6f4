"""Which artifact serves a model: what a client may ask for as `version`, and what it is told.

A version is told by the digest of its artifact, or of a python model's code, in 12 characters. A
client may name the model, pin a version by its name (`minilm@v2`) or its digest (`minilm:DIGEST`),
or give the digest alone, as Replicate's clients do.
"""

import time
from typing import Any, Final, Protocol

import msgspec

from forebay.contract.errors import ArtifactError, ForebayError, InvalidInput, NotFound
from forebay.contract.model import BackendName, ModelSpec
from forebay.contract.rows import Task
from forebay.contract.tensors import TensorSignature
from forebay.contract.versions import BETWEEN, model_of
from forebay.runtime.catalog import Catalog
from forebay.storage.artifacts import ArtifactStore, read_manifest
from forebay.storage.descriptions import Descriptions

SHORT: Final = 12
"""Characters of a digest that clients see as the version, and the fewest that mean one."""

LOOK_S: Final = 1.0
"""How often the store is looked into, which takes as long as reading two files."""


class Serving(msgspec.Struct, frozen=True):
    """The artifact that serves a model.

    Attributes:
        digest: its content address; that of its code for a python model, as the worker that became
            ready last told it; the backend's name where there is neither.
        dimensions: length of its embeddings; None if it makes none, or that can't be told.
        schemas: of a python model's row and of what comes of one, as its class describes them.
        tensors: of a model of plain tensors; None of others.
    """

    digest: str
    dimensions: int | None = None
    schemas: tuple[dict[str, Any], dict[str, Any]] | None = None
    tensors: TensorSignature | None = None

    @property
    def version(self) -> str:
        """The digest as clients see it."""
        return self.digest[:SHORT]

    def is_meant_by(self, pin: str) -> bool:
        """Whether a pin is this digest, or enough of it."""
        return pin == self.digest or (len(pin) >= SHORT and self.digest.startswith(pin))


class Versions(Protocol):
    """Tells which artifact serves."""

    def serving(self, spec: ModelSpec) -> Serving | None:
        """The artifact that serves a model, or None where that can't be told."""
        ...


class StoredVersions:
    """Versions by the artifact store of this machine.

    Args:
        store: where built models are.
    """

    def __init__(self, store: ArtifactStore) -> None:
        self._store = store
        self._descriptions = Descriptions(store.home)
        self._seen: dict[str, tuple[float, Serving | None]] = {}

    def serving(self, spec: ModelSpec) -> Serving | None:
        """The current artifact, or the last description, as of the last look."""
        if spec.backend is BackendName.ECHO:
            return Serving(spec.backend.value)
        now = time.monotonic()
        seen = self._seen.get(spec.name)
        if seen is None or now - seen[0] > LOOK_S:
            seen = self._seen[spec.name] = (now, self._look(spec))
        return seen[1]

    def _look(self, spec: ModelSpec) -> Serving | None:
        if spec.backend in (BackendName.PYTHON, BackendName.PIPELINE):
            described = self._descriptions.read(spec.name, source=spec.source)
            if described is None:
                return None
            schemas = (described.input_schema, described.output_schema)
            return Serving(described.digest, schemas=schemas)
        try:
            folder = self._store.current(spec.name)
        except ArtifactError:
            return None
        try:
            manifest = read_manifest(folder, model=spec.name)
        except ArtifactError:
            return Serving(folder.name)
        embeds = manifest.task is Task.EMBEDDING
        dimensions = manifest.text.dimensions if embeds else None
        plain = manifest.task is Task.TENSORS
        return Serving(folder.name, dimensions, tensors=manifest.signature if plain else None)


def find(catalog: Catalog, versions: Versions, wanted: str, *, param: str) -> ModelSpec:
    """The model that a client means.

    Args:
        catalog: the models there are.
        versions: which artifacts serve them.
        wanted: `name`, `name@version`, either with `:digest`, or `digest` alone; of a digest its
            first characters will do, 12 at least.
        param: the request field that says so.

    Raises:
        NotFound: there is no such model, or another version serves.
        InvalidInput: it is too short to mean one version, or means several models.
    """
    name, colon, pin = wanted.partition(":")
    if not colon and name not in catalog.models and BETWEEN not in name:
        found = _by_version(catalog, versions, wanted, param=param)
        if found is not None:
            return found
    try:
        spec = catalog.find(name)
    except NotFound as error:
        raise NotFound(error.message, param=param) from None
    if colon and not pin:
        raise InvalidInput(
            f"There is no version after the colon: ask for {name!r}, or for `{name}:VERSION`.",
            param=param,
        )
    if not pin:
        return spec
    for version in spec.versions and spec.shares:
        one = catalog.version(spec, version)
        serving = versions.serving(one)
        if serving is not None and serving.is_meant_by(pin):
            return one
    if not spec.versions:
        check_pin(versions, spec, pin, param=param)
        return spec
    raise _no_such(catalog, versions, spec, pin, param=param)


def _no_such(
    catalog: Catalog, versions: Versions, spec: ModelSpec, pin: str, *, param: str
) -> ForebayError:
    """The error for a digest that none of several versions has."""
    told: list[str] = []
    for version in spec.shares:
        serving = versions.serving(catalog.version(spec, version))
        told.append(f"{version} is {serving.version if serving else 'not known here'}")
        if serving is not None and serving.digest.startswith(pin):
            return InvalidInput(f"Give at least {SHORT} characters of the version.", param=param)
    return NotFound(
        f"{spec.name!r} has no version {pin[:80]!r} here: {', '.join(told)}. Ask for "
        f"`{spec.name}@VERSION`, by its name.",
        param=param,
    )


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
    if serving.is_meant_by(pin):
        return
    if len(pin) < SHORT and serving.digest.startswith(pin):
        raise InvalidInput(f"Give at least {SHORT} characters of the version.", param=param)
    raise NotFound(
        f"{spec.name!r} has no version {pin[:80]!r} here: {serving.version} serves.", param=param
    )


def _by_version(catalog: Catalog, versions: Versions, pin: str, *, param: str) -> ModelSpec | None:
    """The one model that this version serves; None if the pin looks like no version at all."""
    serving = {name: versions.serving(spec) for name, spec in catalog.served.items()}
    found = [name for name, artifact in serving.items() if artifact and artifact.is_meant_by(pin)]
    if len({model_of(name) for name in found}) == 1:
        return catalog.served[found[0]]  # versions of one model with the same artifact are as good
    if found:
        ways = " or ".join(f"{name}:{pin[:80]}" for name in sorted(found))
        raise InvalidInput(f"Several models are of this version: ask for {ways}.", param=param)
    if len(pin) < SHORT or not set(pin) <= set("0123456789abcdef"):
        return None
    # What has no artifact is called by its name.
    known = ", ".join(
        f"{name}:{artifact.version}"
        for name, artifact in sorted(serving.items())
        if artifact and artifact.digest != artifact.version
    )
    raise NotFound(
        f"No model here is of the version {pin[:80]!r}. Those that serve: {known or 'none'}.",
        param=param,
    )
