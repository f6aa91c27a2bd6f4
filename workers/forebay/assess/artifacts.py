"""Which artifact of a model is meant: the current one, one of before, or one in full precision."""

from pathlib import Path

import msgspec

from forebay.contract.errors import InvalidInput, NotFound
from forebay.contract.manifest import Manifest
from forebay.contract.model import BackendName, ModelSpec, Precision
from forebay.inference.backends.base import Backend
from forebay.inference.backends.load import load
from forebay.inference.backends.python import PythonModel
from forebay.storage.artifacts import ArtifactStore

FP32_FOLDER = "compared"
"""Under `home`: artifacts in full precision that were built to be compared with."""


class _Pinned(ArtifactStore):
    """A store in which one artifact is the current one, whatever the pointer says."""

    def __init__(self, home: Path, folder: Path) -> None:
        super().__init__(home)
        self._pinned = folder

    def current(self, model: str) -> Path:
        return self._pinned


def warm(spec: ModelSpec, store: ArtifactStore) -> Backend:
    """The backend that serves a model, warm.

    Raises:
        InvalidInput: it is a pipeline, which runs on the lanes of its steps.
        ArtifactError: it isn't built, or doesn't load.
    """
    if spec.backend is BackendName.PIPELINE:
        raise InvalidInput(
            f"{spec.name!r} is a pipeline, which runs on the lanes of its steps and not in one "
            f"process: name a gateway with --url, or a step: {', '.join(spec.steps)}."
        )
    # A python model is not told to gateways: what serves may still be the code of before.
    is_python = spec.backend is BackendName.PYTHON
    backend: Backend = PythonModel(spec) if is_python else load(spec, store)
    backend.warm()
    return backend


def warm_version(spec: ModelSpec, store: ArtifactStore, version: str) -> Backend:
    """The backend for an artifact that is kept, by its version or the beginning of it.

    Raises:
        NotFound: there is none, or more than one; the message lists those there are.
        ArtifactError: it doesn't load.
    """
    kept = [one for one in store.entries() if one.manifest.model == spec.name]
    found = [one for one in kept if one.manifest.digest.startswith(version)]
    if len(found) != 1:
        names = ", ".join(one.manifest.version for one in kept) or "none"
        raise NotFound(
            f"{spec.name!r} has {len(found) or 'no'} artifacts that begin with {version[:64]!r}. "
            f"Here are: {names}."
        )
    return warm(_as_built(spec, found[0].manifest), _Pinned(store.home, found[0].folder))


def warm_fp32(spec: ModelSpec, store: ArtifactStore) -> Backend:
    """The backend for the model's source in full precision, built first if it isn't yet.

    Raises:
        InvalidInput: the model is in full precision already, or isn't built at all.
        BuildFailed: the build failed.
    """
    from forebay.build.pipeline import build

    if not spec.is_built or spec.precision is Precision.FP32:
        why = "is in full precision already" if spec.is_built else "is nothing that is built"
        raise InvalidInput(f"{spec.name!r} {why}: there is no FP32 to hold it against.")
    exact = msgspec.structs.replace(spec, precision=Precision.FP32)
    apart = ArtifactStore(store.home / FP32_FOLDER)
    current = store.open(spec.name).manifest
    kept = [one for one in apart.entries() if one.manifest.model == spec.name and one.current]
    if not any(one.manifest.source_sha256 == current.source_sha256 for one in kept):
        build(exact, apart)
    return warm(exact, apart)


def _as_built(spec: ModelSpec, manifest: Manifest) -> ModelSpec:
    """The spec as it must have been when an artifact was built."""
    return msgspec.structs.replace(
        spec, source=manifest.source, precision=manifest.precision, task=manifest.task
    )
