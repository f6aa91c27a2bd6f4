"""The artifact store: whole artifacts or none, and every file checked."""

import os
import time
from pathlib import Path

import msgspec
import pytest

from forebay.contract.errors import ArtifactError
from forebay.contract.manifest import (
    Accuracy,
    BuildReport,
    FileEntry,
    Manifest,
    Speed,
    TextLimits,
    Versions,
)
from forebay.contract.model import Precision
from forebay.contract.rows import Task
from forebay.storage import artifacts
from forebay.storage.artifacts import ArtifactStore, describe, verify

REPORT = BuildReport(
    accuracy=Accuracy(10, 0.999, 0.99, 0.9, 1.0),
    speed=Speed(100.0, 180.0, 1.8, 2),
    fp32_bytes=10,
    bytes=5,
    smoothing=0.6,
    kept_fp32=(),
    seconds=1.0,
)


def build(folder: Path, *, content: bytes = b"weights", model: str = "minilm") -> Manifest:
    """A folder as a build leaves it, and its manifest."""
    (folder / "inner").mkdir(parents=True, exist_ok=True)
    (folder / "model.onnx").write_bytes(content)
    (folder / "inner" / "tokenizer.json").write_text("{}")
    return Manifest(
        model=model,
        task=Task.EMBEDDING,
        precision=Precision.INT8,
        source="models/minilm",
        source_sha256="cc" * 32,
        limits=TextLimits(256, 384, 30_522, 0, (101,), (102,)),
        samples=("one",),
        files=(describe(folder, "model.onnx"), describe(folder, "inner/tokenizer.json")),
        versions=Versions("0.1.0", "2", "5", "1", "1"),
    )


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path / "home")


@pytest.fixture
def draft(tmp_path: Path) -> Path:
    return tmp_path / "draft"


def test_what_is_published_is_current_and_opens_whole(store: ArtifactStore, draft: Path) -> None:
    manifest = build(draft)
    published = store.publish(draft, manifest, report=REPORT)
    opened = store.open("minilm")
    assert opened == published
    assert opened.manifest == manifest
    assert opened.folder.name == manifest.digest
    assert store.current("minilm") == opened.folder
    assert (opened.folder / "inner" / "tokenizer.json").read_text() == "{}"
    assert store.report("minilm") == REPORT


def test_a_model_that_is_not_built_says_what_to_run(store: ArtifactStore) -> None:
    with pytest.raises(ArtifactError, match=r"not built: run `forebay models build minilm`"):
        store.open("minilm")


def test_the_newest_build_serves_and_the_one_before_is_still_listed(
    store: ArtifactStore, draft: Path
) -> None:
    old = store.publish(draft, build(draft, content=b"old"))
    new = store.publish(draft, build(draft, content=b"new"))
    other = store.publish(draft, build(draft, model="another"))
    assert store.current("minilm") == new.folder
    assert [(entry.folder, entry.current) for entry in store.entries()] == [
        (other.folder, True),
        (new.folder, True),
        (old.folder, False),
    ]


def test_a_store_nobody_wrote_to_is_empty(store: ArtifactStore) -> None:
    assert store.entries() == []


def test_a_home_that_can_not_be_looked_into_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="can't be read: File name too long"):
        ArtifactStore(tmp_path / ("h" * 300)).entries()
    (tmp_path / "file").touch()
    assert ArtifactStore(tmp_path / "file").entries() == []


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"weightz", "SHA-256"), (b"weights and more", "16 bytes where the manifest says 7")],
)
def test_a_damaged_file_is_named_with_what_to_run(
    store: ArtifactStore, draft: Path, content: bytes, said: str
) -> None:
    folder = store.publish(draft, build(draft)).folder
    (folder / "model.onnx").write_bytes(content)
    with pytest.raises(ArtifactError) as caught:
        store.open("minilm")
    assert str(folder / "model.onnx") in caught.value.message
    assert said in caught.value.message
    assert "run `forebay models build minilm`" in caught.value.message


def test_a_missing_file_is_named(store: ArtifactStore, draft: Path) -> None:
    folder = store.publish(draft, build(draft)).folder
    (folder / "inner" / "tokenizer.json").unlink()
    with pytest.raises(ArtifactError, match=r"tokenizer\.json is missing"):
        verify(folder, model="minilm")


@pytest.mark.parametrize("content", [b'{"model": 1}', b'{"model": "\xff"}', b"[" * 100_000])
def test_a_manifest_that_is_no_manifest_is_an_error_and_not_listed(
    store: ArtifactStore, draft: Path, content: bytes
) -> None:
    folder = store.publish(draft, build(draft)).folder
    (folder / "manifest.json").write_bytes(content)
    with pytest.raises(ArtifactError, match=r"manifest\.json can't be read"):
        store.open("minilm")
    assert store.entries() == []


def test_a_manifest_of_another_artifact_is_an_error(store: ArtifactStore, draft: Path) -> None:
    folder = store.publish(draft, build(draft)).folder
    other = msgspec.structs.replace(build(draft), precision=Precision.FP32)
    (folder / "manifest.json").write_bytes(msgspec.json.encode(other))
    with pytest.raises(ArtifactError, match="not the one its folder is named for"):
        store.open("minilm")


def test_a_manifest_of_a_later_format_says_so(store: ArtifactStore, draft: Path) -> None:
    folder = store.publish(draft, build(draft)).folder
    later = msgspec.structs.replace(build(draft), format=99)
    (folder / "manifest.json").write_bytes(msgspec.json.encode(later))
    with pytest.raises(ArtifactError, match="has format 99, and this release reads 1"):
        store.open("minilm")


def test_publishing_again_mends_a_damaged_artifact(store: ArtifactStore, draft: Path) -> None:
    manifest = build(draft)
    folder = store.publish(draft, manifest).folder
    (folder / "model.onnx").write_bytes(b"weightz")
    assert store.publish(draft, manifest).folder == folder
    assert (store.open("minilm").folder / "model.onnx").read_bytes() == b"weights"


def test_publishing_a_whole_artifact_again_leaves_its_files_and_renews_its_report(
    store: ArtifactStore, draft: Path
) -> None:
    manifest = build(draft)
    folder = store.publish(draft, manifest, report=REPORT).folder
    mapped = (folder / "model.onnx").stat().st_ino
    renewed = msgspec.structs.replace(REPORT, seconds=2.0)
    store.publish(draft, manifest, report=renewed)
    assert (folder / "model.onnx").stat().st_ino == mapped
    assert store.report("minilm") == renewed


def test_a_draft_that_is_not_what_its_manifest_says_is_refused_and_the_old_one_stays(
    store: ArtifactStore, draft: Path
) -> None:
    old = store.publish(draft, build(draft, content=b"old"))
    manifest = build(draft, content=b"new")
    (draft / "model.onnx").write_bytes(b"odd")
    with pytest.raises(ArtifactError, match="is not what the manifest says"):
        store.publish(draft, manifest)
    (draft / "model.onnx").unlink()
    with pytest.raises(ArtifactError, match="is missing"):
        store.publish(draft, manifest)
    assert store.current("minilm") == old.folder
    assert [path.name for path in old.folder.parent.iterdir() if path.is_dir()] == [old.folder.name]


def test_a_publish_that_dies_before_the_pointer_moves_leaves_the_old_one_serving(
    store: ArtifactStore, draft: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = store.publish(draft, build(draft, content=b"old"))

    def full(path: Path) -> None:
        if path.is_file() and path.read_bytes().startswith(new.digest.encode()):
            raise OSError(28, "No space left on device")

    new = build(draft, content=b"new")
    monkeypatch.setattr(artifacts, "_sync", full)
    with pytest.raises(OSError, match="No space left"):
        store.publish(draft, new)
    assert store.open("minilm") == old


@pytest.mark.parametrize(
    "path", ["../escape", "/etc/passwd", "inner/../../escape", "", "a\\b", "a\0b"]
)
def test_a_manifest_cannot_name_a_file_outside_its_folder(
    store: ArtifactStore, draft: Path, path: str
) -> None:
    manifest = msgspec.structs.replace(build(draft), files=(FileEntry(path, 0, "00" * 32),))
    with pytest.raises(ArtifactError, match="outside its folder"):
        store.publish(draft, manifest)


@pytest.mark.parametrize("name", ["", "..", ".hidden", "a/b"])
def test_a_name_that_is_no_models_name_is_refused(store: ArtifactStore, name: str) -> None:
    with pytest.raises(ArtifactError, match="no model's name"):
        store.current(name)


def test_a_pointer_to_nowhere_says_what_to_run(store: ArtifactStore, draft: Path) -> None:
    folder = store.publish(draft, build(draft)).folder
    for digest in ("0" * 64, "../../elsewhere"):
        (folder.parent / "current").write_text(digest)
        with pytest.raises(ArtifactError, match="not there: run `forebay models build minilm`"):
            store.current("minilm")


def test_what_a_killed_publish_left_is_swept_by_a_later_one_but_not_one_in_progress(
    store: ArtifactStore, draft: Path
) -> None:
    home = store.publish(draft, build(draft)).folder.parent
    abandoned, running = home / ".part-abandoned", home / ".part-running"
    for folder in (abandoned, running):
        folder.mkdir()
        (folder / "weights.bin").write_bytes(b"x")
    (home / ".part-pointer").write_text("x")
    yesterday = time.time() - 86_400
    os.utime(abandoned, (yesterday, yesterday))
    os.utime(home / ".part-pointer", (yesterday, yesterday))
    store.publish(draft, build(draft))
    assert {path.name for path in home.glob(".part-*")} == {".part-running"}


def test_an_artifact_without_a_report_has_none(store: ArtifactStore, draft: Path) -> None:
    folder = store.publish(draft, build(draft)).folder
    assert store.report("minilm") is None
    (folder / "report.json").write_text("[]")
    with pytest.raises(ArtifactError, match=r"report\.json can't be read"):
        store.report("minilm")
