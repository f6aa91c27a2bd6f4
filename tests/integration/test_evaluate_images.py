"""`forebay models evaluate` and `profile` of what takes no text: images, tensors, pipelines."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from forebay.build import pipeline
from forebay.runtime.catalog import read
from forebay.storage.artifacts import ArtifactStore
from tests.fixtures import onnx_models
from tests.fixtures.image_families import LABELS, save
from tests.fixtures.pictures import encoded, text_line
from tests.fixtures.stack import ROOT
from tests.unit.test_cli import invoke

LINES = ("Two kettles boil", "A quiet harbour", "Nine white boats", "Rain by evening")

TRIPLED = """
[models.tripled]
task = "tensors"
backend = "onnx"
source = "onnx:tripled.onnx"
threads = 1
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the examples' orientation classifier is built, and a graph that triples numbers."""
    folder = tmp_path_factory.mktemp("measured")
    examples = (ROOT / "docs" / "examples" / "ocr.toml").read_text("utf-8")
    (folder / "ocr.py").write_bytes((ROOT / "docs" / "examples" / "ocr.py").read_bytes())
    (folder / "models.toml").write_text(examples + TRIPLED)
    onnx_models.scaled(folder / "tripled.onnx")
    catalog, store = read(folder / "models.toml"), ArtifactStore(folder / "home")
    for name in ("turned", "tripled"):
        pipeline.build(catalog.find(name), store)
    for number, text in enumerate(LINES):
        for label, upside_down in (("0", False), ("180", True)):
            image = text_line(text, upside_down=upside_down)
            (folder / f"{number}-{label}.png").write_bytes(encoded(image))
    return folder


@pytest.fixture(autouse=True)
def a_catalog(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOREBAY_MODELS_FILE", str(home / "models.toml"))
    monkeypatch.setenv("FOREBAY_HOME", str(home / "home"))


def file_of(path: Path, *rows: Any) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def said(verb: str, name: str, *words: str) -> dict[str, Any]:
    done = invoke("models", verb, name, "--json", *words)
    assert done.exit_code == 0, (done.output, done.exception)
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def refused(verb: str, name: str, *words: str) -> str:
    done = invoke("models", verb, name, *words)
    assert done.exit_code == 1, done.output
    return str(done.exception)


def test_images_are_held_against_their_labels(home: Path) -> None:
    rows = [
        {"file": f"{number}-{label}.png", "label": label}
        for number in range(len(LINES))
        for label in ("0", "180")
    ]
    right = said("evaluate", "turned", "--data", file_of(home / "right.jsonl", *rows))
    assert right["figures"][0] == {"measure": "accuracy", "value": 1.0, "low": 1.0, "high": 1.0}
    assert {one["label"]: one["support"] for one in right["details"]["labels"]} == {
        "0": len(LINES),
        "180": len(LINES),
    }
    wrong = [rows[0] | {"label": "180"}, *rows[1:]]
    told = said("evaluate", "turned", "--data", file_of(home / "wrong.jsonl", *wrong))
    assert told["figures"][0]["value"] == 1 - 1 / len(rows)
    assert told["details"]["confusions"] == [{"truth": "180", "predicted": "0", "rows": 1}]


def test_eight_bits_are_held_against_full_precision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save("vit", tmp_path / "vit")
    (tmp_path / "models.toml").write_text(
        '[models.seen]\ntask = "image-classification"\nbackend = "onnx"\nsource = "vit"\n'
        'precision = "int8"\nthreads = 1\n'
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FOREBAY_MODELS_FILE", "models.toml")
    monkeypatch.setenv("FOREBAY_HOME", "home")
    pipeline.build(read(Path("models.toml")).find("seen"), ArtifactStore(Path("home")))
    (tmp_path / "a.png").write_bytes(encoded(text_line("A quiet harbour")))
    data = file_of(tmp_path / "a.jsonl", {"file": "a.png", "label": LABELS[0]})
    told = said("evaluate", "seen", "--data", data, "--against", "fp32")
    assert told["comparison"]["examples"] == 1
    assert told["comparison"]["version"] != told["version"]


def test_a_line_of_images_that_is_wrong_is_told_by_its_number(home: Path) -> None:
    fine = {"file": "0-0.png", "label": "0"}
    for row, why in (
        ({"file": "none.png", "label": "0"}, f"{home}/none.png can't be read: No such file"),
        ({"label": "0"}, "it needs `file`, a path, or `image`"),
        ({"file": "0-0.png", "labels": ["0"]}, "it needs `label`, and not `labels`"),
        ({"file": "0-0.png", "label": "90"}, "'90' is none of this model's labels: '0', '180'"),
    ):
        path = file_of(home / "bad.jsonl", fine, row)
        assert f"{path}, line 2: {why}" in refused("evaluate", "turned", "--data", path)
    damaged = {"image": "bm90IGFuIGltYWdl", "label": "0"}
    told = said("evaluate", "turned", "--data", file_of(home / "damaged.jsonl", fine, damaged))
    assert (told["examples"], told["refused"], told["refusals"][0]["line"]) == (1, 1, 2)


def test_tensors_are_held_against_those_expected(home: Path) -> None:
    rows = [
        {"input": {"x": [[1.0, 2.0]]}, "output": {"y": [[3.0, 6.0]]}},
        {"input": {"x": [[1.0], [2.0]]}, "output": {"y": [[3.0], [6.5]]}},
        {"input": {"x": [[4.0]]}, "output": {"y": [[12.0, 0.0]]}},
        {
            "input": {"x": {"datatype": "FP32", "shape": [1, 1], "data": "AACAPw=="}},
            "output": {"y": {"datatype": "FP32", "shape": [1, 1], "data": "AABAQA=="}},
        },
    ]
    path = file_of(home / "tensors.jsonl", *rows)
    told = {
        one["measure"]: one["value"]
        for one in said("evaluate", "tripled", "--data", path)["figures"]
    }
    # The second line is off by a half, the third of another shape: as far off as 12 and 0 from 0.
    assert told == {"match": 0.5, "mean difference": (0.25 + 6) / 4, "largest difference": 12.0}
    loose = said("evaluate", "tripled", "--data", path, "--tolerance", "0.1")
    assert loose["figures"][0]["value"] == 0.75
    unknown = file_of(home / "unknown.jsonl", {"input": {"x": [[1.0]]}, "output": {"z": [1]}})
    assert "'z' is no output of this model: there is 'y'" in refused(
        "evaluate", "tripled", "--data", unknown
    )


def test_a_pipeline_is_evaluated_behind_a_gateway_and_profiled_by_its_steps(home: Path) -> None:
    path = file_of(home / "pages.jsonl", {"input": {"image": ""}, "output": []})
    assert "name a gateway with --url, or a step: detect, turned, recognise" in refused(
        "evaluate", "ocr", "--data", path
    )
    assert "Profile these: detect, turned, recognise." in refused("profile", "ocr")


def test_graphs_of_images_and_tensors_are_profiled_by_operator(home: Path) -> None:
    images = said("profile", "turned", "--trace", str(home / "trace.json"))
    assert images["by"] == "ONNX Runtime"
    assert images["kinds"][0]["name"] in {"Conv", "FusedConv"}
    assert [one["name"] for one in images["stages"]] == ["prepare", "graph", "outputs"]
    names = "".join(f"{number}-0.png\n" for number in range(len(LINES)))
    (home / "files.txt").write_text(names)
    files = said("profile", "turned", "--rows", str(home / "files.txt"), "--batch", "2")
    assert files["rows"] == 2 * files["batches"]
    data = file_of(home / "rows.jsonl", {"input": {"x": [[1.0] * 9]}, "output": {"y": [[3.0] * 9]}})
    for words in ((), ("--rows", data), ("--samples",)):
        assert {one["name"] for one in said("profile", "tripled", *words)["kinds"]} == {"Mul"}
    assert np.isclose(sum(one["share"] for one in files["nodes"]), 1)
    (home / "files.txt").write_text("none.png\n")
    assert "none.png can't be read" in refused(
        "profile", "turned", "--rows", str(home / "files.txt")
    )
