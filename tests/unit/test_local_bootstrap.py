"""The set-up that the Makefile does: which torch, from where, and what is said before."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
PIN = "2.13.0"


@pytest.fixture
def bootstrap(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script, on a Linux machine without a GPU and with nothing installed."""
    spec = importlib.util.spec_from_file_location("bootstrap", ROOT / "infra" / "bootstrap.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module.platform, "system", lambda: "Linux")
    monkeypatch.setattr(module.shutil, "which", lambda _: None)
    monkeypatch.setattr(module, "installed", lambda *_: "")
    return module


class Pip:
    """Stands in for pip: remembers what it was told, and reports what it would install."""

    def __init__(self, *packages: str) -> None:
        self.told: list[tuple[str, ...]] = []
        self._packages = packages

    def __call__(self, python: str, *words: str) -> None:
        if "--report" in words:
            items = [{"metadata": {"name": name}} for name in self._packages]
            Path(words[words.index("--report") + 1]).write_text(json.dumps({"install": items}))
        else:
            self.told.append(words)


def install(bootstrap: ModuleType, pip: Pip, index: str = "https://cpu") -> list[tuple[str, ...]]:
    """What pip is told to install for torch."""
    setattr(bootstrap, "pip", pip)  # noqa: B010
    bootstrap.install_torch("python", PIN, index)
    return pip.told


def test_cuda_that_nothing_can_use_is_not_downloaded(bootstrap: ModuleType) -> None:
    (words,) = install(bootstrap, Pip("torch", "nvidia-cublas", "triton", "sympy"))
    assert words == ("install", "--no-deps", "--index-url", "https://cpu", f"torch=={PIN}")


def test_an_index_without_cuda_is_used_as_it_is(bootstrap: ModuleType) -> None:
    (words,) = install(bootstrap, Pip("torch", "sympy"))
    assert "--index-url" not in words
    assert words[-1] == f"torch=={PIN}"


def test_a_machine_with_a_gpu_gets_what_the_index_has(
    bootstrap: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bootstrap.shutil, "which", lambda name: f"/usr/bin/{name}")
    (words,) = install(bootstrap, Pip("torch", "nvidia-cublas"))
    assert "--index-url" not in words


def test_an_empty_index_means_take_it_as_it_comes(bootstrap: ModuleType) -> None:
    (words,) = install(bootstrap, Pip("torch", "nvidia-cublas"), index="")
    assert "--index-url" not in words


def test_torch_that_is_there_is_left_alone(
    bootstrap: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bootstrap, "installed", lambda *_: PIN)
    assert install(bootstrap, Pip("torch", "nvidia-cublas")) == []


def test_an_index_that_fails_is_named_with_the_way_out(bootstrap: ModuleType) -> None:
    class Offline(Pip):
        def __call__(self, python: str, *words: str) -> None:
            super().__call__(python, *words)
            if "--index-url" in words:
                raise SystemExit(1)

    with pytest.raises(SystemExit, match=r"https://cpu.*TORCH_CPU_INDEX="):
        install(bootstrap, Offline("nvidia-cublas"))


def test_the_constraints_pin_what_the_script_needs_and_require_no_cuda(
    bootstrap: ModuleType,
) -> None:
    pins = bootstrap.read_constraints()
    assert pins["torch"] == PIN
    assert "pip" in pins
    assert not any(bootstrap.CUDA.match(name) for name in pins)
    assert not any("+" in version for version in pins.values())


@pytest.mark.parametrize("extra", ["local", "dev"])
def test_the_size_of_the_download_is_told(
    bootstrap: ModuleType, extra: str, capsys: pytest.CaptureFixture[str]
) -> None:
    bootstrap.announce(extra)
    said = capsys.readouterr().out
    assert "packages, about" in said
    assert "MB" in said
