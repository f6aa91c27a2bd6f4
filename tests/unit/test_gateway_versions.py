"""Versions: which one serves, which a client may ask for, and what it is told."""

from pathlib import Path

import msgspec
import pytest

from forebay.contract.errors import InvalidInput, NotFound
from forebay.contract.manifest import Manifest, TextLimits
from forebay.contract.manifest import Versions as LibraryVersions
from forebay.contract.model import BackendName, ModelSpec, Precision
from forebay.contract.rows import Task
from forebay.gateway import versions as versions_module
from forebay.gateway.versions import Serving, StoredVersions, check_pin, find
from forebay.runtime.catalog import Catalog
from forebay.storage.artifacts import ArtifactStore, describe
from forebay.storage.descriptions import Description, Descriptions

DIGEST = "0123456789abcdef" * 4
OTHER = "fedcba9876543210" * 4
MODEL = ModelSpec(Task.EMBEDDING, BackendName.ONNX, source="x", name="minilm")
ECHO = ModelSpec(Task.ECHO, BackendName.ECHO, name="echo")


class Fixed:
    """Says that these digests serve, by model."""

    def __init__(self, **digests: str) -> None:
        self._digests = digests

    def serving(self, spec: ModelSpec) -> Serving | None:
        digest = self._digests.get(spec.name)
        return None if digest is None else Serving(digest)


SERVES = Fixed(minilm=DIGEST, echo="echo")


def catalog(*names: str) -> Catalog:
    """Models of these names."""
    return Catalog({name: msgspec.structs.replace(MODEL, name=name) for name in names})


def test_a_python_models_version_is_what_its_worker_told(tmp_path: Path) -> None:
    spec = ModelSpec(Task.PYTHON, BackendName.PYTHON, source="model.py:Model", name="own")
    assert StoredVersions(ArtifactStore(tmp_path)).serving(spec) is None
    Descriptions(tmp_path).write(Description("own", spec.source, DIGEST, {"a": 1}, {}))
    serving = StoredVersions(ArtifactStore(tmp_path)).serving(spec)
    assert serving == Serving(DIGEST, schemas=({"a": 1}, {}))
    changed = msgspec.structs.replace(spec, source="model.py:Other")
    assert StoredVersions(ArtifactStore(tmp_path)).serving(changed) is None


@pytest.mark.parametrize("pin", [DIGEST, DIGEST[:12], DIGEST[:40]])
def test_the_version_that_serves_may_be_pinned_whole_or_by_its_first_characters(pin: str) -> None:
    check_pin(SERVES, MODEL, pin, param="version")


def test_another_version_is_not_answered_in_its_place() -> None:
    with pytest.raises(NotFound, match="no version 'ffffffffffff' here: 0123456789ab serves"):
        check_pin(SERVES, MODEL, "f" * 12, param="version")


def test_a_pin_that_is_too_short_to_mean_one_version_is_refused() -> None:
    with pytest.raises(InvalidInput, match="at least 12") as caught:
        check_pin(SERVES, MODEL, DIGEST[:6], param="version")
    assert caught.value.param == "version"


def test_a_colon_without_a_version_is_refused() -> None:
    with pytest.raises(InvalidInput, match="ask for 'minilm', or for `minilm:VERSION`"):
        find(catalog("minilm"), SERVES, "minilm:", param="version")


def test_a_pin_that_can_not_be_checked_is_refused() -> None:
    with pytest.raises(NotFound, match="can't tell"):
        check_pin(Fixed(), MODEL, DIGEST, param="version")


@pytest.mark.parametrize("wanted", ["minilm", f"minilm:{DIGEST[:12]}", DIGEST, DIGEST[:12]])
def test_a_model_is_meant_by_its_name_its_version_or_both(wanted: str) -> None:
    models = catalog("minilm", "other")
    versions = Fixed(minilm=DIGEST, other=OTHER)
    assert find(models, versions, wanted, param="version").name == "minilm"


def test_a_name_is_a_name_even_where_it_looks_like_a_version() -> None:
    models = catalog("minilm", DIGEST[:12])
    assert find(models, SERVES, DIGEST[:12], param="version").name == DIGEST[:12]


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ("f" * 12, "of the version 'ffffffffffff'. Those that serve: minilm:0123456789ab."),
        (DIGEST[:11], "There is no model '0123456789a' here. Models: echo, minilm, unknown"),
        ("gpt", "There is no model 'gpt' here. Models: echo, minilm, unknown"),
        ("unknown:" + DIGEST, "can't tell which version of 'unknown' serves"),
    ],
)
def test_a_version_that_does_not_serve_is_told_what_does(wanted: str, said: str) -> None:
    with pytest.raises(NotFound) as caught:
        find(catalog("minilm", "unknown", "echo"), SERVES, wanted, param="version")
    assert said in caught.value.message
    assert caught.value.param == "version"


def test_a_version_of_two_models_is_to_be_asked_for_with_a_name() -> None:
    versions = Fixed(minilm=DIGEST, twin=DIGEST)
    with pytest.raises(InvalidInput, match="minilm:0123456789ab or twin:0123456789ab") as caught:
        find(catalog("minilm", "twin"), versions, DIGEST[:12], param="version")
    assert caught.value.param == "version"


def published(home: Path, content: bytes) -> str:
    """Publish an artifact of `minilm`; returns its digest."""
    draft = home / "draft"
    draft.mkdir(parents=True, exist_ok=True)
    (draft / "model.onnx").write_bytes(content)
    manifest = Manifest(
        model="minilm",
        task=Task.EMBEDDING,
        precision=Precision.INT8,
        source="x",
        source_sha256="cc" * 32,
        limits=TextLimits(256, 384, 30_522, 0, (101,), (102,)),
        samples=("one",),
        files=(describe(draft, "model.onnx"),),
        versions=LibraryVersions("0.1.0", "2", "5", "1", "1"),
    )
    ArtifactStore(home).publish(draft, manifest)
    return manifest.digest


def test_the_store_tells_what_is_current_and_how_long_its_embeddings_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    versions = StoredVersions(ArtifactStore(tmp_path))
    digest = published(tmp_path, b"one")
    assert versions.serving(MODEL) == Serving(digest, 384)
    monkeypatch.setattr(versions_module, "LOOK_S", 0.0)
    newer = published(tmp_path, b"two")
    assert versions.serving(MODEL) == Serving(newer, 384)


def test_the_store_is_not_looked_into_for_every_request(tmp_path: Path) -> None:
    versions = StoredVersions(ArtifactStore(tmp_path))
    digest = published(tmp_path, b"one")
    assert versions.serving(MODEL) == Serving(digest, 384)
    (tmp_path / "artifacts" / "minilm" / "current").unlink()
    assert versions.serving(MODEL) == Serving(digest, 384)


def test_of_an_artifact_without_a_manifest_the_version_is_still_told(tmp_path: Path) -> None:
    digest = published(tmp_path, b"one")
    (tmp_path / "artifacts" / "minilm" / digest / "manifest.json").unlink()
    assert StoredVersions(ArtifactStore(tmp_path)).serving(MODEL) == Serving(digest)


def test_of_a_model_that_is_not_built_nothing_can_be_told(tmp_path: Path) -> None:
    assert StoredVersions(ArtifactStore(tmp_path)).serving(MODEL) is None


def test_a_backend_without_artifacts_is_its_own_version(tmp_path: Path) -> None:
    assert StoredVersions(ArtifactStore(tmp_path)).serving(ECHO) == Serving("echo")
