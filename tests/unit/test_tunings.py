"""What is kept of a tuning, and who tells that it was done on another machine."""

from pathlib import Path

import msgspec
import pytest

from forebay.cli.show import print_models
from forebay.contract.model import BackendName, ModelSpec
from forebay.contract.rows import Task
from forebay.local.doctor import examine
from forebay.local.server import free_port
from forebay.runtime import processor
from forebay.runtime.catalog import Catalog, read
from forebay.runtime.settings import Settings
from forebay.storage.artifacts import ArtifactStore
from forebay.storage.tunings import Tuning, Tunings

SPEC = ModelSpec(Task.EMBEDDING, BackendName.ONNX, source="folder", threads=2, name="model")
TUNING = Tuning(
    model="model",
    machine="Another machine, 64 cores",
    at="2026-01-01T00:00:00+00:00",
    settings={"threads": 2, "batch.max_rows": 32, "precision": "int8"},
    goals="p99 ≤ 50 ms",
    why="It was the fastest.",
)
CPUINFO = "processor: 0\nmodel name\t: Some CPU @ 2 GHz\nflags\t\t: fpu avx512_vnni sse\n"


def test_a_tuning_is_read_back_and_nothing_else_is(tmp_path: Path) -> None:
    tunings = Tunings(tmp_path)
    assert tunings.read("model") is None
    tunings.write(TUNING)
    assert tunings.read("model") == TUNING
    kept = tunings.folder("model") / "tuning.json"
    for broken in (b"{", b"\xff", kept.read_bytes().replace(b'"model"', b'"other"')):
        kept.write_bytes(broken)
        assert tunings.read("model") is None


def test_a_tuning_says_a_spec_only_if_every_setting_is_the_same() -> None:
    assert TUNING.says(SPEC)
    assert not TUNING.says(msgspec.structs.replace(SPEC, threads=1))
    assert not msgspec.structs.replace(TUNING, settings={"batch.gone": 1}).says(SPEC)


def test_models_list_tells_where_settings_were_tuned(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def told() -> str:
        print_models(Catalog({"model": SPEC}), ArtifactStore(tmp_path))
        return capsys.readouterr().out.splitlines()[1]

    assert " no " in told()
    Tunings(tmp_path).write(TUNING)
    assert "on Another machine, 64 cores" in told()
    Tunings(tmp_path).write(msgspec.structs.replace(TUNING, machine=processor.describe()))
    assert " here" in told()
    Tunings(tmp_path).write(msgspec.structs.replace(TUNING, settings={"threads": 1}))
    assert " here" not in told()


def test_doctor_warns_of_settings_that_were_tuned_on_another_machine(tmp_path: Path) -> None:
    models = tmp_path / "models.toml"
    models.write_text(
        '[models.model]\ntask = "embedding"\nbackend = "onnx"\nsource = "folder"\nthreads = 2\n'
    )
    assert TUNING.says(read(models).find("model"))
    settings = Settings(home=str(tmp_path), models_file=str(models), port=free_port())
    name = "tuning of model"
    assert name not in [one.name for one in examine(settings)]
    Tunings(tmp_path).write(TUNING)
    (found,) = [one for one in examine(settings) if one.name == name]
    assert (found.ok, found.required) == (False, False)
    assert "Another machine" in found.detail
    assert found.remedy == "`forebay models tune model`"
    Tunings(tmp_path).write(msgspec.structs.replace(TUNING, machine=processor.describe()))
    (found,) = [one for one in examine(settings) if one.name == name]
    assert found.ok


def test_a_machine_is_told_by_its_processor_and_cores(tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(CPUINFO)
    cores = processor.cores()
    told = processor.describe("x86_64", cpuinfo=cpuinfo)
    assert told == f"Some CPU @ 2 GHz, {cores} cores, AVX-512 VNNI"
    assert processor.describe("arm64", cpuinfo=tmp_path / "none") == f"arm64, {cores} cores"
