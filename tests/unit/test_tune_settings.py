"""The chosen settings: pasted or written, with nothing else of the catalog changed."""

import tomllib
from pathlib import Path

import msgspec
import pytest

from forebay.contract.errors import ConfigurationError
from forebay.contract.model import ModelSpec, Precision
from forebay.runtime import catalog
from forebay.tune import settings

CATALOG = """\
#:schema ./docs/models.schema.json
# Ours.

[models.first] # the first
task = "embedding"
backend = "onnx"
source = "folder"  # not here
threads = 1        # measured

# Small batches.
[models.first.batch]
max_tokens = 256   # enough

[models.echo]
task = "echo"
backend = "echo"
batch.max_rows = 7
"""


def chosen(path: Path, **batch: float) -> ModelSpec:
    spec = catalog.read(path).find("first")
    return msgspec.structs.replace(
        spec,
        precision=Precision.FP32,
        threads=2,
        batch=msgspec.structs.replace(spec.batch, **batch),
    )


def written(path: Path, text: str = CATALOG) -> Path:
    path.write_text(text, "utf-8")
    return path


def test_what_is_written_is_the_settings_and_comments_and_order_stay(tmp_path: Path) -> None:
    path = written(tmp_path / "models.toml")
    before = catalog.read(path)
    spec = chosen(path, max_tokens=1_024, max_padding=0.3)
    path.chmod(0o640)
    settings.Edit(path, spec).write()
    assert path.read_text("utf-8") == CATALOG.replace(
        "threads = 1        # measured\n",
        'threads = 2        # measured\nprecision = "fp32"\n',
    ).replace("max_tokens = 256   # enough\n", "max_tokens = 1024   # enough\nmax_padding = 0.3\n")
    after = catalog.read(path)
    assert after.find("first") == spec
    assert after.find("echo") == before.find("echo")
    assert path.stat().st_mode & 0o777 == 0o640
    assert [one.name for one in tmp_path.iterdir()] == ["models.toml"]


def test_settings_that_are_there_already_change_nothing(tmp_path: Path) -> None:
    path = written(tmp_path / "models.toml")
    settings.Edit(path, catalog.read(path).find("first")).write()
    assert path.read_text("utf-8") == CATALOG


@pytest.mark.parametrize(
    "table",
    [
        'first = { task = "embedding", backend = "onnx", source = "folder" }\n',
        'first.task = "embedding"\nfirst.backend = "onnx"\nfirst.source = "folder"\n'
        "first.batch.max_rows = 4\n",
    ],
)
def test_a_catalog_that_is_written_another_way_is_changed_right(tmp_path: Path, table: str) -> None:
    path = written(tmp_path / "models.toml", f"[models]\n{table}")
    spec = chosen(path, max_rows=8)
    settings.Edit(path, spec).write()
    assert catalog.read(path).find("first") == spec


VERSIONS = (
    CATALOG
    + """
[models.first.versions.new]
weight = 10
precision = "fp32"  # another

[models.first.versions.same]
"""
)


def test_a_version_is_changed_in_its_own_table(tmp_path: Path) -> None:
    path = written(tmp_path / "models.toml", VERSIONS)
    spec = msgspec.structs.replace(catalog.read(path).find("first@new"), threads=4)
    settings.Edit(path, spec).write()
    assert path.read_text("utf-8") == VERSIONS.replace("# another\n", "# another\nthreads = 4\n")
    told = tomllib.loads(settings.snippet(spec))
    assert told["models"]["first"]["versions"]["new"]["threads"] == 4


def test_what_would_change_another_version_is_left_to_people(tmp_path: Path) -> None:
    path = written(tmp_path / "models.toml", VERSIONS)
    spec = msgspec.structs.replace(catalog.read(path).find("first"), threads=4)
    with pytest.raises(ConfigurationError) as refused:
        settings.Edit(path, spec)
    assert "first@new, first@same would change with it" in refused.value.message
    assert "paste the settings by hand" in refused.value.message
    assert path.read_text("utf-8") == VERSIONS


def test_a_link_stays_one_and_its_file_is_changed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    real = written(tmp_path / "real" / "models.toml")
    link = tmp_path / "models.toml"
    link.symlink_to(real)
    settings.Edit(link, chosen(link)).write()
    assert link.is_symlink()
    assert catalog.read(real).find("first").threads == 2


def test_a_catalog_that_is_wrong_by_now_is_left_as_it_is(tmp_path: Path) -> None:
    path = written(tmp_path / "models.toml")
    spec = chosen(path)
    path.write_text(CATALOG.replace("threads = 1", 'threads = "one"'), "utf-8")
    before = path.read_bytes()
    with pytest.raises(ConfigurationError, match="line 8"):
        settings.Edit(path, spec)
    assert path.read_bytes() == before


def test_the_snippet_says_all_that_was_settled(tmp_path: Path) -> None:
    path = written(tmp_path / "models.toml")
    told = tomllib.loads(settings.snippet(chosen(path, max_rows=8)))
    assert told["models"]["first"]["batch"] == {
        "max_rows": 8,
        "max_tokens": 256,
        "max_padding": 0.15,
    }
    assert told["models"]["first"]["threads"] == 2
    assert told["models"]["first"]["precision"] == "fp32"
