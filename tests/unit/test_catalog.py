"""Reading `models.toml`."""

from pathlib import Path

import pytest

from forebay.contract.errors import ConfigurationError, NotFound
from forebay.contract.model import Precision
from forebay.contract.rows import Task
from forebay.runtime.catalog import read

OWN = '[models.m]\ntask = "python"\nbackend = "python"\nsource = "a.py:M"\n'
ECHO = '[models.echo]\ntask = "echo"\nbackend = "echo"\n'
BUILT = '[models.it]\ntask = "embedding"\nbackend = "onnx"\nsource = "folder"\n[models.it.build]\n'
LOOKS_LIKE_ONE = '''
[models.a]
task = "echo"
backend = "echo"
description = """
[models.echo]
threads = 3
"""
'''.lstrip()
ROOT = Path(__file__).parents[2]


def catalog(folder: Path, text: str) -> Path:
    path = folder / "models.toml"
    path.write_bytes(text.encode())
    return path


def test_the_shipped_catalog_names_minilm_smollm2_and_echo() -> None:
    models = read(ROOT / "models.toml").models
    assert list(models) == ["minilm", "smollm2", "echo"]
    assert models["smollm2"].task is Task.GENERATION
    assert models["minilm"].task is Task.EMBEDDING
    assert all(spec.name == name for name, spec in models.items())


def test_a_model_is_found_by_name_and_an_unknown_one_is_told_what_there_is(
    tmp_path: Path,
) -> None:
    models = read(catalog(tmp_path, ECHO))
    assert models.find("echo").name == "echo"
    with pytest.raises(NotFound, match=r"no model 'gpt' here\. Models: echo\.") as caught:
        models.find("gpt")
    assert caught.value.param == "model"


def test_a_models_limits_are_read(tmp_path: Path) -> None:
    text = ECHO + "[models.echo.realtime]\nmax_rows = 9\n[models.echo.batch]\nmax_rows = 3\n"
    spec = read(catalog(tmp_path, text)).find("echo")
    assert (spec.realtime.max_rows, spec.batch.max_rows, spec.bulk.max_rows) == (9, 3, None)


def test_a_bound_of_the_bulk_lane_leaves_it_its_days_time(tmp_path: Path) -> None:
    spec = read(catalog(tmp_path, ECHO + "[models.echo.bulk]\nmax_rows = 9\n")).find("echo")
    assert (spec.bulk.max_rows, spec.bulk.deadline_s) == (9, 86_400)
    assert spec.realtime.deadline_s == 30


def test_a_catalog_can_not_be_changed_once_read(tmp_path: Path) -> None:
    models = read(catalog(tmp_path, ECHO)).models
    with pytest.raises(TypeError):
        del models["echo"]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[models", " is not valid TOML: Expected ']'"),
        ("", " names no model: add a [models.NAME] table."),
        ("[models]\n", " names no model: add a [models.NAME] table."),
        ("models = 3\n", ", line 1: models: expected a table, got `int`."),
        ("[models]\necho = 3\n", ", line 2: models.echo: expected a table, got `int`."),
        (ECHO + "[other]\n", ", line 4: other: there is no such field; there are models."),
        (ECHO + "a = " + "[" * 5_000, " nests too deeply."),
        ("[models.echo]\n", ", line 1: models.echo.task: missing."),
        (
            ECHO + "max_row = 1\n",
            ", line 4: models.echo.max_row: there is no such field; there are",
        ),
        (ECHO + 'threads = "many"\n', ", line 4: models.echo.threads: expected `int`, got `str`."),
        (
            ECHO.replace('"echo"\nbackend', '"ecko"\nbackend'),
            ", line 2: models.echo.task: invalid enum value 'ecko'; there are embedding, ",
        ),
        (
            "# Models.\n\n" + ECHO + "\n[models.echo.batch]\nmax_rows = 'x'\n",
            ", line 8: models.echo.batch.max_rows: expected `int`, got `str`.",
        ),
        (
            ECHO + "batch.max_row = 1\n",
            ", line 4: models.echo.batch.max_row: there is no such field; there are max_rows, ",
        ),
        (
            ECHO + "batch = { max_rows = 0 }\n",
            ", line 4: models.echo.batch.max_rows: must be at least 1.",
        ),
        (
            ECHO + "[models.echo.bulk]\ndeadline_s = -1\n",
            ", line 5: models.echo.bulk.deadline_s: must be more than 0, and finite.",
        ),
        (
            ECHO + ECHO.replace("echo]", '"a.b"]') + "threads = -1\n",
            ", line 7: models.a.b.threads: must be from 0 to 1,024.",
        ),
        (ECHO.replace("echo]", '"E C"]'), ", line 1: models.E C: a model's name is"),
        (ECHO + 'name = "x"\n', ", line 4: models.echo.name: there is no such field; there are"),
        ("[[models.x]]\n", ", line 1: models.x: expected a table, got `array`."),
        (ECHO + "'a`b' = 1\n", ", line 4: models.echo.a`b: there is no such field; there are"),
        (ECHO + '"batch.x" = 1\n', ", line 4: models.echo.batch.x: there is no such field;"),
        (
            LOOKS_LIKE_ONE + ECHO + 'threads = "many"\n',
            ", line 11: models.echo.threads: expected `int`, got `str`.",
        ),
        (
            ECHO.replace("\n", "\r\n") + "threads = 1.5\n",
            ", line 4: models.echo.threads: expected `int`, got `float`.",
        ),
        (ECHO + "join = 1\n", ", line 4: models.echo.join: expected `bool | null`, got `int`."),
        (
            OWN + '[models.m.sample]\nok = [1]\nx = [1, "a"]\n',
            ", line 7: models.m.sample.x[1]: expected `int`, got `str`.",
        ),
        (OWN + "sample.x = 1\n", ", line 5: models.m.sample.x: expected `array`, got `int`."),
        (
            OWN + 'steps = ["a", 1]\n',
            ", line 5: models.m.steps[1]: expected `str`, got `int`.",
        ),
        (
            OWN + "[models.m.versions.v2]\nweight = 70\n[models.m.versions.v3]\nweight = 60\n",
            ", line 8: models.m.versions.v3.weight: must be less: all weights come to 100 at most.",
        ),
        (
            OWN + "[models.m.versions.v2]\n[models.m.versions.default]\nweight = 60\n",
            ", line 6: models.m.versions.default: must be named otherwise: the model's own table "
            "is the version 'default'.",
        ),
        (ECHO + "batch = 3\n", ", line 4: models.echo.batch: expected a table, got `int`."),
        (ECHO + ECHO, " is not valid TOML: Cannot declare"),
        (
            ECHO + "build = { prune = 0.5 }\n",
            ", line 4: models.echo.build: must be left out: nothing",
        ),
        (BUILT + "prune = 1.0\n", ", line 6: models.it.build.prune: must be from 0 up to, not"),
        (BUILT + "max_fp32 = 2\n", ", line 6: models.it.build.max_fp32: must be from 0 to 1."),
        (
            BUILT + 'fuse = "maybe"\n',
            ", line 6: models.it.build.fuse: invalid enum value 'maybe'; there are off, on, ",
        ),
        (
            BUILT + "distill = { layers = 2, text = 1 }\n",
            ", line 6: models.it.build.distill.text: there is no such field; there are layers, ",
        ),
        (
            BUILT + '[models.it.build.distill]\ntexts = "t"\nlayers = 0\n',
            ", line 8: models.it.build.distill.layers: must be at least 1.",
        ),
        (
            BUILT + '[models.it.build.distill]\ntexts = "t"\nlayers = 3\n',
            ", line 5: models.it.build.min_accuracy: must be given beside `distill`",
        ),
    ],
)
def test_a_wrong_catalog_is_refused_and_model_field_and_line_are_named(
    tmp_path: Path, text: str, told: str
) -> None:
    path = catalog(tmp_path, text)
    with pytest.raises(ConfigurationError) as caught:
        read(path)
    assert caught.value.message.startswith(f"{path}{told}")


def test_a_catalog_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    assert set(read(catalog(tmp_path, "\ufeff" + ECHO)).models) == {"echo"}


def test_a_spec_knows_the_catalogs_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    catalog(tmp_path, ECHO)
    monkeypatch.chdir(tmp_path)
    assert read(Path("models.toml")).find("echo").folder == str(tmp_path)


def test_a_missing_catalog_says_how_to_name_another(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="FOREBAY_MODELS_FILE"):
        read(tmp_path / "none.toml")


def test_a_catalog_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "models.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigurationError, match="can't be read"):
        read(tmp_path / "models.toml")
    with pytest.raises(ConfigurationError, match="can't be read"):
        read(tmp_path)


def test_the_examples_of_pytorch_and_providers_are_catalogs(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "backends.md").read_text("utf-8")
    in_torch, providers = (part.partition("```")[0] for part in page.split("```toml\n")[1:])
    onnx = '[models.minilm]\ntask = "embedding"\nbackend = "onnx"\nsource = "x"\n'
    path = tmp_path / "models.toml"
    path.write_text(in_torch + onnx + providers)
    catalog = read(path)
    assert catalog.find("minilm-torch").precision is Precision.BF16
    assert dict(catalog.find("minilm").onnx.sessions)["CUDAExecutionProvider"] == {"device_id": 1}


def test_a_pipelines_steps_are_models_of_the_catalog(tmp_path: Path) -> None:
    pipeline = '[models.flow]\ntask = "pipeline"\nbackend = "pipeline"\n'
    spec = read(catalog(tmp_path, ECHO + pipeline + 'steps = ["echo", "echo"]\n')).find("flow")
    assert spec.steps == ("echo", "echo")
    assert not spec.joins
    assert not spec.is_built
    for steps, said in (('["gone"]', "'gone' is no model here"), ('["flow"]', "flow → flow goes")):
        path = catalog(tmp_path, ECHO + pipeline + f"steps = {steps}\n")
        with pytest.raises(ConfigurationError, match=f"line 7: models.flow.steps: {said}"):
            read(path)


def test_steps_are_checked_through_versions_too(tmp_path: Path) -> None:
    pipeline = '[models.{}]\ntask = "pipeline"\nbackend = "pipeline"\nsteps = {}\n'
    inner = pipeline.format("inner", '["echo"]') + "[models.inner.versions.v2]\nsteps = {}\n"
    outer = pipeline.format("outer", '["{}"]')
    found = read(catalog(tmp_path, ECHO + outer.format("inner@v2") + inner.format('["echo"]')))
    assert found.find("outer").steps == ("inner@v2",)
    assert found.find("inner@v2").steps == ("echo",)
    for step, of_v2, said in (
        ("inner", "gone", r"line 13: models\.inner\.versions\.v2\.steps: 'gone' is no model here"),
        (
            "inner@v3",
            "echo",
            r"line 7: models\.outer\.steps: 'inner' has no version 'v3'; there",
        ),
        ("inner", "outer", r"line 13: .*v2\.steps: outer → inner@v2 → outer goes in a circle"),
        ("inner@v2", "outer", r"line 13: .*v2\.steps: outer → inner@v2 → outer goes in a circle"),
    ):
        path = catalog(tmp_path, ECHO + outer.format(step) + inner.format(f'["{of_v2}"]'))
        with pytest.raises(ConfigurationError, match=said):
            read(path)
    # What only another version leads to is no circle.
    text = ECHO + outer.format("inner@default") + inner.format('["outer"]')
    assert read(catalog(tmp_path, text)).find("inner@v2").steps == ("outer",)
