"""`forebay models evaluate`: a model whose answers are known, here and behind a gateway."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from forebay.assess import artifacts
from forebay.build import texts
from forebay.contract.rows import Classes, Options, Task, TextRow
from forebay.inference.backends.base import Backend, PreparedRow
from forebay.storage.artifacts import ArtifactStore
from tests.fixtures.artifacts import tiny, tiny_home, tiny_spec
from tests.fixtures.stack import ROOT, Stack
from tests.fixtures.waiting import PATIENCE_S
from tests.unit.test_cli import invoke

NAME = "tiny-classification"
TEXTS = texts.evaluation()[:80]


def toml_of(task: Task) -> str:
    """The table of a tiny model in a catalog."""
    spec = tiny_spec(task)
    fields = {"task": task, "backend": "onnx", "source": spec.source, "precision": "fp32"}
    told = "".join(f'{name} = "{value}"\n' for name, value in fields.items())
    return f"[models.{spec.name}]\n{told}threads = 1\n"


@pytest.fixture(autouse=True)
def a_catalog(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny(Task.CLASSIFICATION)
    (tmp_path / "models.toml").write_text(toml_of(Task.CLASSIFICATION))
    monkeypatch.setenv("FOREBAY_MODELS_FILE", str(tmp_path / "models.toml"))
    monkeypatch.setenv("FOREBAY_HOME", str(tiny_home()))


@pytest.fixture(scope="module")
def labels() -> list[str]:
    """What the model says of each text, run alone."""
    tiny(Task.CLASSIFICATION)
    backend = artifacts.warm(tiny_spec(Task.CLASSIFICATION), ArtifactStore(tiny_home()))
    try:
        return [label_of(backend, text) for text in TEXTS]
    finally:
        backend.close()


def label_of(backend: Backend, text: str) -> str:
    (row,) = backend.prepare([TextRow(text)], truncate=True, options=Options())
    assert isinstance(row, PreparedRow)
    (output,) = backend.run([row])
    assert isinstance(output, Classes)
    return output.labels[0]


def data_of(folder: Path, labels: list[str], *, wrong: int) -> Path:
    """A data file in which the model's answer to the last `wrong` texts is not the truth."""
    path = folder / f"{wrong}.jsonl"
    others = {"bad": "good", "good": "so-so", "so-so": "bad"}
    right = len(TEXTS) - wrong
    truth = [*labels[:right], *(others[label] for label in labels[right:])]
    rows = zip(TEXTS, truth, strict=True)
    path.write_text("".join(json.dumps({"text": a, "label": b}) + "\n" for a, b in rows))
    return path


def evaluated(*words: str) -> dict[str, Any]:
    done = invoke("models", "evaluate", NAME, "--json", "--truncate", *words)
    assert done.exit_code == 0, done.output
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def test_a_known_outcome_is_told_with_its_interval(labels: list[str], tmp_path: Path) -> None:
    told = evaluated("--data", str(data_of(tmp_path, labels, wrong=20)))
    accuracy = told["figures"][0]
    assert (accuracy["measure"], accuracy["value"]) == ("accuracy", 0.75)
    assert 0.6 < accuracy["low"] < 0.75 < accuracy["high"] < 0.9
    assert (told["examples"], told["rows"], told["refused"]) == (80, 80, 0)
    assert sum(one["support"] for one in told["details"]["labels"]) == 80
    assert sum(one["rows"] for one in told["details"]["confusions"]) == 20
    assert told["version"] == tiny(Task.CLASSIFICATION).manifest.version
    assert told["rows_s"] > 0


def test_the_table_says_the_same(labels: list[str], tmp_path: Path) -> None:
    path = str(data_of(tmp_path, labels, wrong=20))
    done = invoke("models", "evaluate", NAME, "--data", path, "--limit", "80", "--truncate")
    assert done.exit_code == 0, done.output
    assert "80 examples, 80 rows" in done.stdout
    assert "accuracy  0.7500" in done.stdout


def test_what_is_too_long_is_left_out_unless_it_may_be_cut(
    labels: list[str], tmp_path: Path
) -> None:
    path = data_of(tmp_path, labels, wrong=0)
    long = json.dumps({"text": "long " * 100, "label": "good"}) + "\n"
    path.write_text(long + path.read_text())
    done = invoke("models", "evaluate", NAME, "--data", str(path), "--json")
    told = json.loads(done.stdout)
    assert told["refused"] >= 1
    assert told["refused"] + told["examples"] == 81
    assert told["refusals"][0]["line"] == 1
    assert "this model takes 64" in told["refusals"][0]["error"]
    assert evaluated("--data", str(path))["refused"] == 0


def test_two_reports_of_the_same_rows_are_compared(labels: list[str], tmp_path: Path) -> None:
    data, report = data_of(tmp_path, labels, wrong=0), tmp_path / "report.json"
    first = evaluated("--data", str(data), "--output", str(report))
    assert first["comparison"] is None
    kept = msgspec.json.decode(report.read_bytes())
    assert sum(kept["columns"]["correct"]) == 80
    # As if a worse model had been evaluated on the same rows.
    kept["columns"]["correct"][:12] = [0.0] * 12
    kept["version"] = "worse"
    report.write_bytes(msgspec.json.encode(kept))
    compared = evaluated("--data", str(data), "--against", str(report))["comparison"]
    accuracy = compared["differences"][0]
    assert (accuracy["here"], accuracy["there"], accuracy["test"]) == (1.0, 0.85, "McNemar")
    assert accuracy["p_value"] == pytest.approx(2 / 2**12)
    assert "is better, and that is hardly chance" in compared["verdict"]


def test_a_version_that_is_kept_can_be_compared_with(labels: list[str], tmp_path: Path) -> None:
    data = str(data_of(tmp_path, labels, wrong=5))
    version = tiny(Task.CLASSIFICATION).manifest.version
    compared = evaluated("--data", data, "--against", version[:8])["comparison"]
    assert compared["version"] == version
    assert all(one["here"] == one["there"] for one in compared["differences"])
    assert "equally good" in compared["verdict"]


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("--against", "fp32"), "is in full precision already"),
        (("--against", "0000"), "has no artifacts that begin with '0000'"),
        (("--url", "ftp://x"), "can't be a gateway's URL"),
        (("--output", "/nowhere/at/all.json"), "/nowhere/at/all.json can't be written"),
    ],
)
def test_what_can_not_be_done_says_why(
    words: tuple[str, ...], why: str, labels: list[str], tmp_path: Path
) -> None:
    data = str(data_of(tmp_path, labels, wrong=0))
    done = invoke("models", "evaluate", NAME, "--data", data, "--limit", "3", *words)
    assert done.exit_code == 1
    assert why in str(done.exception)


def test_a_wrong_line_ends_it_with_the_lines_number(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_text('{"text": "a", "label": "good"}\n{"text": "b", "label": "fine"}\n')
    done = invoke("models", "evaluate", NAME, "--data", str(path))
    assert f"{path}, line 2: 'fine' is none of this model's labels" in str(done.exception)


COMMAND = "forebay models evaluate minilm --data docs/examples/pairs.jsonl"


def test_the_command_of_the_docs_runs_here_and_through_a_gateway(stack: Stack) -> None:
    assert COMMAND in (ROOT / "docs" / "measuring.md").read_text("utf-8")
    told = []
    for more in ((), ("--url", stack.url)):
        words = [*COMMAND.split()[1:], "--json", *more]
        done = subprocess.run(
            [sys.executable, "-m", "forebay.cli", *words, "--models-file", "models.toml"],
            cwd=ROOT,
            env={**os.environ, "FOREBAY_HOME": str(stack.home)},
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        told.append(json.loads(done.stdout))
    here, there = told
    assert here["figures"][0]["measure"] == "Spearman"
    assert here["figures"][0]["value"] > 0.7
    assert there["figures"][0]["value"] == pytest.approx(here["figures"][0]["value"], abs=0.02)
    assert (there["version"], there["rows"]) == (here["version"], here["rows"])
    assert there["through"] == stack.url
