"""The namespace and the layers: what import-linter can't see."""

import importlib
import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from forebay.contract.errors import ConfigurationError

ROOT = Path(__file__).parents[2]
TREES = ("shared", "services", "workers")
SERVING = (
    "forebay.inference.worker",
    "forebay.inference.backends.images",
    "forebay.inference.backends.onnx",
    "forebay.inference.backends.tensors",
)
HEAVY = ("torch", "transformers", "onnx", "onnxscript")


def packages() -> list[Path]:
    """Every package: a folder with `__init__.py` below one of the namespace roots."""
    return sorted(
        init.parent for tree in TREES for init in (ROOT / tree / "forebay").rglob("__init__.py")
    )


def modules() -> Iterator[str]:
    for tree in TREES:
        for path in sorted((ROOT / tree / "forebay").rglob("*.py")):
            if path.stem == "__main__":
                continue  # runs when imported
            parts = path.relative_to(ROOT / tree).with_suffix("").parts
            yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@pytest.mark.parametrize("tree", TREES)
def test_the_namespace_has_no_init_of_its_own(tree: str) -> None:
    """One `__init__.py` there would hide the two other trees."""
    assert (ROOT / tree / "forebay").is_dir()
    assert not (ROOT / tree / "forebay" / "__init__.py").exists()


def test_the_namespace_spreads_over_the_three_trees() -> None:
    import forebay

    assert {Path(folder) for folder in forebay.__path__} == {
        ROOT / tree / "forebay" for tree in TREES
    }


def test_each_package_says_that_it_is_typed() -> None:
    top = {package.relative_to(ROOT).parts[:3] for package in packages()}
    assert top
    assert [parts for parts in sorted(top) if not ROOT.joinpath(*parts, "py.typed").is_file()] == []


def test_no_folder_of_modules_lacks_an_init() -> None:
    folders = {path.parent for tree in TREES for path in (ROOT / tree / "forebay").rglob("*.py")}
    assert sorted(folders - set(packages())) == []


@pytest.mark.parametrize("name", list(modules()))
def test_every_module_can_be_imported(name: str) -> None:
    if name == "forebay.inference.generation.vllm" and importlib.util.find_spec("vllm") is None:
        with pytest.raises(ConfigurationError, match=r"pip install 'forebay\[vllm\]'"):
            importlib.import_module(name)
        return
    importlib.import_module(name)


@pytest.mark.parametrize("name", SERVING)
def test_serving_imports_nothing_that_only_a_build_needs(name: str) -> None:
    loaded = subprocess.run(
        [sys.executable, "-c", f"import sys, {name}; print(*sys.modules)"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split()
    assert name in loaded
    assert [module for module in loaded if module in HEAVY] == []
