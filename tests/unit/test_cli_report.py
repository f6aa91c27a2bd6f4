"""What `forebay models report` prints, and what the docs say about it and about builds."""

import json
import re
import tomllib
from pathlib import Path

import msgspec
import pytest

from forebay.contract.build_steps import Effect, StepReport
from forebay.contract.generation import GenerationTable, Speculation
from forebay.contract.manifest import Drafts, Fluency, Pace
from forebay.contract.model import Precision
from forebay.contract.recipe import BuildSpec
from forebay.runtime import catalog
from forebay.storage.artifacts import ArtifactStore
from tests.unit.test_artifacts import REPORT, build
from tests.unit.test_cli import invoke

DOCS = Path(__file__).parents[2] / "docs" / "models.md"
CATALOG = '[models.minilm]\ntask = "embedding"\nbackend = "onnx"\nsource = "folder"\n'
STEPS = (
    StepReport("export", "full precision", Effect(90_000_000, 1.0, 1.0, 1.0, 1.0), 9.0),
    StepReport("quantize", "8 bits", Effect(36_000_000, 0.99732, 0.923, 1.0, 1.97), 5.0),
    StepReport(
        "fuse", "6 attentions", Effect(36_000_000, 0.99731, 0.92, 1.0, 1.9), 2.0, False, "slower"
    ),
)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with nothing built, and a catalog with one model."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FOREBAY_HOME", str(tmp_path / "home"))
    (tmp_path / "models.toml").write_text(CATALOG)
    return tmp_path / "home"


def publish(home: Path, *, steps: tuple[StepReport, ...] = STEPS, reported: bool = True) -> None:
    draft = home.parent / "draft"
    report = msgspec.structs.replace(REPORT, steps=steps)
    ArtifactStore(home).publish(draft, build(draft), report=report if reported else None)


def test_a_report_has_a_row_for_each_step_and_says_what_its_columns_are(home: Path) -> None:
    publish(home)
    told = invoke("models", "report", "minilm")
    assert told.exit_code == 0
    first, head, *rows = told.output.splitlines()
    assert first.startswith("minilm ")
    assert "1.8 times FP32's speed" in first
    assert head.split() == [
        *("step", "what", "MB", "closeness", "same", "invariance", "speed", "s"),
    ]
    assert [row.split()[0] for row in rows] == ["export", "quantize", "fuse", "closeness:"]
    assert "36.0  0.99732" in rows[1]
    assert "not kept: slower" in rows[2]
    assert "mean cosine to FP32" in rows[3]


def test_a_report_as_json_is_the_file(home: Path) -> None:
    publish(home)
    told = json.loads(invoke("models", "report", "minilm", "--json").output)
    kept = ArtifactStore(home).current("minilm") / "report.json"
    assert told == json.loads(kept.read_text("utf-8"))
    assert [step["step"] for step in told["steps"]] == ["export", "quantize", "fuse"]


def test_a_report_of_before_steps_is_still_one_line(home: Path) -> None:
    publish(home, steps=())
    assert len(invoke("models", "report", "minilm").output.splitlines()) == 1


def test_what_is_not_built_or_has_no_report_says_what_to_run(home: Path) -> None:
    assert "forebay models build minilm" in str(invoke("models", "report", "minilm").exception)
    publish(home, reported=False)
    assert "without a report" in str(invoke("models", "report", "minilm").exception)


def test_the_tables_in_the_docs_are_ones_that_a_catalog_takes() -> None:
    blocks = re.findall(r"```toml\n(.*?)```", DOCS.read_text("utf-8"), re.DOTALL)
    builds = [
        table["build"]
        for block in blocks
        for table in tomllib.loads(block)["models"].values()
        if "build" in table
    ]
    assert len(builds) == 2
    for table in builds:
        msgspec.convert(table, BuildSpec).check("models.x.build")


def test_the_docs_name_every_field_of_the_tables() -> None:
    text = DOCS.read_text("utf-8")
    for field in BuildSpec.__struct_fields__:
        assert f"`{field}`" in text, field


def test_a_report_of_a_model_that_writes_text_says_how_good_fast_and_large_it_is(
    home: Path,
) -> None:
    fluency = Fluency(
        tokens=900, perplexity=12.5, full_perplexity=10.0, ratio=0.8, same=0.75, company=1.0
    )
    pace = Pace(
        tokens_s=99.6,
        rows=8,
        rows_tokens_s=540.2,
        prompt_tokens=14,
        first_token_ms=31.4,
        token_bytes=46_080,
        context=2_048,
        slots=8,
    )
    draft = home.parent / "draft"
    report = msgspec.structs.replace(REPORT, accuracy=None, fluency=fluency, pace=pace)
    ArtifactStore(home).publish(draft, build(draft), report=report)
    first, second = invoke("models", "report", "minilm").output.splitlines()
    assert (
        "perplexity 12.50 where full precision has 10.00 (ratio 0.800), the same likeliest token "
        "on 75.0%, 100% of texts alike alone and in company" in first
    )
    assert "times as fast as PyTorch in FP32" in first
    assert "100 tokens/s of one text, and 540 of 8 at once" in second
    assert "the first token of a prompt of 14 comes after 31 ms" in second
    assert "46 kB: 94 MB for a slot of 2,048 tokens, and 755 MB for all 8 slots" in second


def test_a_report_says_what_drafts_are_worth(home: Path) -> None:
    lookup = Drafts(Speculation.LOOKUP, 240, 80, 60, 200.4, 133.6, 1.49)
    none = Drafts(Speculation.DRAFT, 240, 0, 0, 133.0, 133.6, 1.0, model="small")
    draft = home.parent / "draft"
    report = msgspec.structs.replace(REPORT, drafts=(lookup, none))
    ArtifactStore(home).publish(draft, build(draft), report=report)
    told = invoke("models", "report", "minilm").output
    assert (
        "With drafts by lookup a text alone is written 1.49 times as fast (200 tokens/s, 134 "
        "without): of 80 drafted tokens 75% were right." in told
    )
    assert (
        "Drafts by small are not worth their checks here: of 240 tokens none was drafted." in told
    )


def test_the_docs_have_a_model_that_writes_text(tmp_path: Path) -> None:
    page = (DOCS.parent / "text-models.md").read_text("utf-8")
    told = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    (tmp_path / "models.toml").write_text(told[0])
    spec = catalog.read(tmp_path / "models.toml").find("smollm2")
    assert spec.precision is Precision.INT8
    assert spec.generation == GenerationTable(slots=8, context=2_048)
    assert not spec.is_watched
