"""`forebay models profile`: where the time of real graphs and of real classes goes."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from forebay.assess.profile import trace
from forebay.contract.errors import ForebayError
from forebay.contract.rows import Task
from tests.fixtures.artifacts import tiny, tiny_home
from tests.fixtures.stack import ROOT
from tests.integration.test_evaluate import toml_of
from tests.unit.test_cli import invoke

NAME = "tiny-classification"

NET = """
import torch
from typing import TypedDict

class Row(TypedDict):
    size: int

class Net:
    samples = [{"size": 8}, {"size": 64}]

    def predict(self, rows: list[Row]) -> list[float]:
        print("what a class prints is no part of the profile")
        return [float((torch.ones(row["size"], 64) @ torch.ones(64, 64)).sum()) for row in rows]
"""


@pytest.fixture(autouse=True)
def a_catalog(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny(Task.CLASSIFICATION)
    (tmp_path / "net.py").write_text(NET)
    python = '[models.{0}]\ntask = "python"\nbackend = "python"\nsource = "{1}"\n'
    (tmp_path / "models.toml").write_text(
        toml_of(Task.CLASSIFICATION)
        + python.format("net", "net.py:Net")
        + python.format("language", f"{ROOT}/docs/examples/language.py:Language")
    )
    monkeypatch.setenv("FOREBAY_MODELS_FILE", str(tmp_path / "models.toml"))
    monkeypatch.setenv("FOREBAY_HOME", str(tiny_home()))


def profiled(*words: str) -> dict[str, Any]:
    done = invoke("models", "profile", *words, "--json")
    assert done.exit_code == 0, (done.output, done.exception)
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def test_a_graph_is_told_by_operator_and_by_node(tmp_path: Path) -> None:
    told = profiled(NAME, "--trace", str(tmp_path / "trace.json"))
    kinds = {one["name"]: one for one in told["kinds"]}
    assert told["by"] == "ONNX Runtime"
    assert kinds.keys() >= {"MatMul", "Softmax", "Gather"}
    assert kinds["MatMul"]["calls"] % told["batches"] == 0
    for several in (told["kinds"], told["nodes"], told["stages"]):
        assert sum(one["share"] for one in several) == pytest.approx(1)
    assert [one["total_ms"] for one in told["kinds"]] == sorted(
        (one["total_ms"] for one in told["kinds"]), reverse=True
    )
    assert [one["name"] for one in told["stages"]] == ["prepare", "graph", "outputs"]
    products = [one for one in told["nodes"] if one["kind"] == "MatMul"]
    assert all(re.fullmatch(r"\d+x\d+x\d+.*", one["shapes"]) for one in products)

    events = json.loads((tmp_path / "trace.json").read_bytes())
    assert sum(event["name"] == "model_run" for event in events) == told["batches"]
    assert all(event["ph"] in "XM" for event in events)


def test_rows_batches_and_lengths_can_be_given(tmp_path: Path) -> None:
    told = profiled(NAME, "--batch", "4", "--tokens", "30")
    assert told["rows"] == 4 * told["batches"]
    assert told["tokens"] == pytest.approx(30 * told["rows"], rel=0.1)

    rows = tmp_path / "rows.txt"
    rows.write_text('a short one\n{"text": "another of the same", "label": "good"}\n')
    assert profiled(NAME, "--rows", str(rows))["rows"] % 2 == 0
    assert profiled(NAME, "--samples")["rows"] > 0


def test_the_table_names_the_costliest(tmp_path: Path) -> None:
    done = invoke("models", "profile", NAME, "--samples", "--trace", str(tmp_path / "t.json"))
    assert done.exit_code == 0, (done.output, done.exception)
    assert "MatMul" in done.stdout
    assert "ui.perfetto.dev" in done.stdout


def test_a_class_of_the_users_own_that_runs_torch_is_told_by_its_operators(
    tmp_path: Path,
) -> None:
    told = profiled("net", "--trace", str(tmp_path / "trace.json"))
    assert told["by"] == "torch"
    nodes = {one["name"]: one for one in told["nodes"]}
    assert "64x64" in nodes["aten::mm"]["shapes"]
    events = json.loads((tmp_path / "trace.json").read_bytes())["traceEvents"]
    whole_ms = sum(one["dur"] for one in events if one["name"] == "aten::matmul") / 1000
    # matmul only calls mm: its own time is what is left.
    own_ms = sum(
        one["total_ms"] for one in told["nodes"] if one["name"] in ("aten::matmul", "aten::mm")
    )
    assert 0 < own_ms <= whole_ms * 1.001


def test_any_other_class_is_told_by_its_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.delitem(sys.modules, "torch", raising=False)
    told = profiled("language")
    assert told["by"] == "Python calls"
    assert any("counted" in one["name"] for one in told["nodes"])
    done = invoke("models", "profile", "language", "--trace", "trace.json")
    assert "leaves no trace" in str(done.exception)


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ((NAME, "--rows", "none.txt"), "none.txt can't be read"),
        ((NAME, "--rows", "models.toml", "--samples"), "not both"),
        ((NAME, "--tokens", "30", "--trace", "/nowhere/t.json"), "can't be written"),
        (("language", "--tokens", "30"), "for models of texts"),
    ],
)
def test_what_can_not_be_done_says_why(words: tuple[str, ...], why: str) -> None:
    done = invoke("models", "profile", *words)
    assert done.exit_code == 1
    assert why in str(done.exception)


def test_time_inside_another_operator_is_that_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "trace.json"
    event = {"ph": "X", "cat": "cpu_op", "pid": 1, "tid": 1}
    spans = (("aten::a", 0, 100), ("aten::b", 10, 30), ("aten::c", 15, 5), ("aten::b", 50, 20))
    path.write_text(
        json.dumps([{**event, "name": n, "ts": ts, "dur": dur} for n, ts, dur in spans])
    )
    own = [(call.name, call.self_us) for call in trace.read(path).calls]
    assert own == [("aten::a", 50), ("aten::b", 25), ("aten::c", 5), ("aten::b", 20)]
    path.write_text("{")
    with pytest.raises(ForebayError, match=r"trace\.json can't be read"):
        trace.read(path)
