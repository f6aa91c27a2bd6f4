"""An artifact for each build, kept in a store of its own, so that what serves stays what it is.

    <home>/tuned/<model>/builds/<build>/artifacts/<model>/…

A build is made once: it is found again for as long as its source, its settings and the libraries
that made it stay the same.
"""

import hashlib
import importlib.metadata
from collections.abc import Callable
from pathlib import Path

import msgspec

from forebay.build import pipeline, source
from forebay.contract.errors import ArtifactError, BuildFailed
from forebay.contract.manifest import BuildReport, Manifest, Versions
from forebay.contract.model import ModelSpec
from forebay.storage.artifacts import Artifact, ArtifactStore
from forebay.tune.space import BUILD_FIELDS, told, value

SERVING_ONLY = frozenset(
    {
        *("name", "folder", "description", "version", "versions"),
        *("threads", "join", "batch", "realtime", "bulk", "drift"),
    }
)
"""Fields of a spec that its artifact doesn't depend on."""


class Build(msgspec.Struct, frozen=True):
    """What candidates are served from.

    Attributes:
        spec: what was built.
        home: of the store that holds the artifact.
        version: short digest; empty where nothing is built.
        accuracy: mean cosine to full precision, or share of rows with the same best label; None
            where nothing is built.
        bytes: size of the artifact.
        seconds: the build took.
    """

    spec: ModelSpec
    home: Path
    version: str = ""
    accuracy: float | None = None
    bytes: int = 0
    seconds: float = 0.0


class Builds:
    """Builds of one model.

    Args:
        folder: where they are kept.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def find(self, spec: ModelSpec) -> Build | None:
        """The build, if it is there and still what would be built now."""
        if not spec.is_built:
            return Build(spec, self._home(spec))
        store = ArtifactStore(self._home(spec))
        try:
            artifact, report = store.open(spec.name), store.report(spec.name)
        except ArtifactError:
            return None
        if report is None or not _is_current(spec, artifact.manifest):
            return None
        return _build(spec, store, artifact, report)

    def make(self, spec: ModelSpec, tell: Callable[[str], None]) -> Build:
        """Build it.

        Args:
            spec: what to build.
            tell: is told each step.

        Raises:
            BuildFailed: it can't be built, or is under the build's own bar.
        """
        store = ArtifactStore(self._home(spec))
        built = pipeline.build(spec, store, progress=lambda step, _: tell(step))
        return _build(spec, store, built.artifact, built.report)

    def _home(self, spec: ModelSpec) -> Path:
        fields = {
            field: value
            for field, value in msgspec.to_builtins(spec).items()
            if field not in SERVING_ONLY
        }
        digest = hashlib.sha256(msgspec.json.encode(fields, order="deterministic")).hexdigest()
        return self._folder / f"{spec.precision}-{digest[:12]}"


def accuracy_of(report: BuildReport) -> float | None:
    """The measure that a model's task is held against."""
    if report.accuracy is not None:
        return report.accuracy.mean_cosine
    return None if report.agreement is None else report.agreement.same


def build_label(spec: ModelSpec) -> str:
    """A build in a few words; no other of the same model has the same."""
    return ", ".join(filter(None, (told(field, value(spec, field)) for field in BUILD_FIELDS)))


def _build(spec: ModelSpec, store: ArtifactStore, artifact: Artifact, report: BuildReport) -> Build:
    return Build(
        spec,
        store.home,
        artifact.manifest.version,
        accuracy_of(report),
        report.bytes,
        report.seconds,
    )


def _is_current(spec: ModelSpec, manifest: Manifest) -> bool:
    libraries = Versions(
        **{name: importlib.metadata.version(name) for name in Versions.__struct_fields__}
    )
    try:
        weights = source.resolve(spec.source, base=Path(spec.folder)).sha256
    except BuildFailed:
        return False  # the build will say what is wrong with it
    return (manifest.versions, manifest.source_sha256) == (libraries, weights)
