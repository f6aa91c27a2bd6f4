"""`forebay models build --all --missing`: what is built is left alone, and the rest is tried."""

import subprocess
import sys
from pathlib import Path

import msgspec

from forebay.contract.model import Precision
from forebay.local.up import missing_artifacts
from forebay.storage.artifacts import ArtifactStore
from tests.fixtures.artifacts import minilm_spec
from tests.fixtures.catalogs import shipped, write


def catalog_of(folder: Path, **changes: object) -> Path:
    """The shipped `minilm`, with these entries, and `echo`, which needs no build."""
    models = shipped("minilm", "echo")
    models["minilm"] |= changes
    return write(models, folder / "models.toml")


def build_missing(home: Path, catalog: Path) -> "subprocess.CompletedProcess[str]":
    words = ("models", "build", "--all", "--missing", "--home", home, "--models-file", catalog)
    return subprocess.run(
        [sys.executable, "-m", "forebay.cli", *words], capture_output=True, text=True, check=False
    )


def test_what_is_built_is_left_alone(minilm_home: Path, tmp_path: Path) -> None:
    before = ArtifactStore(minilm_home).open("minilm")
    done = build_missing(minilm_home, catalog_of(tmp_path))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "All models are built: there is nothing to do.\n"
    assert ArtifactStore(minilm_home).open("minilm") == before


def test_what_is_from_another_specification_is_tried(minilm_home: Path, tmp_path: Path) -> None:
    done = build_missing(minilm_home, catalog_of(tmp_path, source="nowhere/at/all"))
    assert done.returncode == 1
    assert "Not built: minilm" in done.stderr
    assert ArtifactStore(minilm_home).open("minilm").manifest.source != "nowhere/at/all"


def test_another_precision_is_another_specification(minilm_home: Path) -> None:
    built = minilm_spec()
    other = msgspec.structs.replace(built, precision=Precision.FP32)
    assert missing_artifacts(minilm_home, [built, other]) == [other]


def test_what_is_not_built_is_tried(tmp_path: Path) -> None:
    done = build_missing(tmp_path / "home", catalog_of(tmp_path, source="nowhere/at/all"))
    assert done.returncode == 1
    assert "Not built: minilm" in done.stderr
