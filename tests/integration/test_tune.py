"""`forebay models tune` as users run it: on a tiny model, in a catalog of its own."""

import json
import os
import re
import signal
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import httpx
import msgspec
import psutil
import pytest

from forebay.contract.model import ModelSpec
from forebay.contract.rows import Task
from forebay.runtime import catalog, processor
from forebay.storage.artifacts import ArtifactStore
from forebay.tune import space
from tests.fixtures.artifacts import tiny, tiny_spec
from tests.fixtures.stack import running_stack
from tests.fixtures.user_models import WORDS
from tests.fixtures.waiting import PATIENCE_S

LIMIT_S = 180.0
COMMENT = "# what we tell apart"


class Place:
    """A folder with a catalog and a home of its own.

    Args:
        folder: the folder.
    """

    def __init__(self, folder: Path) -> None:
        self.models, self.home = folder / "models.toml", folder / "home"
        (folder / "words.py").write_text(WORDS)
        self.models.write_text(
            f'[models.tiny]  {COMMENT}\ntask = "classification"\nbackend = "onnx"\n'
            f'source = "{tiny_spec(Task.CLASSIFICATION).source}"\nprecision = "fp32"\n'
            "threads = 1  # one\n\n"
            '[models.words]\ntask = "python"\nbackend = "python"\nsource = "words.py:Words"\n\n'
            '[models.echo]\ntask = "echo"\nbackend = "echo"\n'
        )

    def spec(self) -> ModelSpec:
        return catalog.read(self.models).find("tiny")

    def run(self, *words: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "forebay.cli", "models", *words],
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
            env=self.environment,
        )

    @property
    def environment(self) -> Mapping[str, str]:
        return {
            **os.environ,
            "FOREBAY_HOME": str(self.home),
            "FOREBAY_MODELS_FILE": str(self.models),
        }


class Tuned(msgspec.Struct, frozen=True):
    """A place, how it was before a tuning, and what that said."""

    place: Place
    before: ModelSpec
    ended: "subprocess.CompletedProcess[str]"

    @property
    def result(self) -> dict[str, Any]:
        kept = self.place.home / "tuned" / "tiny" / "result.json"
        told: dict[str, Any] = json.loads(kept.read_bytes())
        return told


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Tuned:
    """A tiny model, tuned, and the choice written down."""
    tiny(Task.CLASSIFICATION)
    place = Place(tmp_path_factory.mktemp("tuned"))
    before = place.spec()
    asked = ("--slo", "p50=5s,p99=10s", "--min-accuracy", "0.9", "--cost-per-hour", "1.5")
    ended = place.run("tune", "tiny", *asked, "--minutes", "0.1", "--write", "--all")
    assert ended.returncode == 0, ended.stderr
    return Tuned(place, before, ended)


def test_the_choice_is_one_of_what_was_tried_and_meets_the_goals(tuned: Tuned) -> None:
    result = tuned.result
    chosen = result["found"][result["chosen"]]
    assert chosen["is_final"]
    assert chosen["accuracy"] >= 0.9
    assert chosen["rows_s"] > 0
    assert chosen["latency"]["meets"]
    assert chosen["latency"]["latency_ms"]["p50"] <= chosen["latency"]["latency_ms"]["p99"]
    assert chosen["memory_bytes"] > 20_000_000
    tried = {json.dumps(one["settings"], sort_keys=True) for one in result["found"]}
    offered = [
        one
        for build in space.builds(tuned.before)
        for one in space.serving(build, cores=processor.cores())
    ]
    names = [".".join(field) for field in (*space.BUILD_FIELDS, *space.SERVING_FIELDS)]
    possible = {
        json.dumps(
            {name: msgspec.to_builtins(space.value(one, tuple(name.split(".")))) for name in names},
            sort_keys=True,
        )
        for one in offered
    }
    assert tried <= possible
    assert result["found"][0]["is_current"]
    cost = 1.5 / chosen["rows_s"] / 3_600 * 1e6
    assert result["cost_per_million"] == pytest.approx(cost)


def test_what_is_printed_names_the_choice_the_price_and_the_plot(tuned: Tuned) -> None:
    said = tuned.ended.stdout
    assert "asked: p50 ≤ 5000 ms, p99 ≤ 10000 ms, accuracy ≥ 0.9" in said
    assert f"Chosen: {tuned.result['why']}" in said
    assert "A million rows cost" in said
    plot = re.search(r"^Plot: (.+)$", said, re.MULTILINE)
    assert plot is not None
    ElementTree.parse(plot[1])
    assert "tuning tiny: build: fp32: export" in tuned.ended.stderr
    assert "best so far" in tuned.ended.stderr


def test_the_choice_is_written_and_its_comments_stay(tuned: Tuned) -> None:
    text = tuned.place.models.read_text("utf-8")
    assert COMMENT in text
    assert "# one" in text
    result = tuned.result
    for name, value in result["found"][result["chosen"]]["settings"].items():
        told = msgspec.to_builtins(space.value(tuned.place.spec(), tuple(name.split("."))))
        assert told == value
    others = tomllib.loads(text)["models"]
    assert others["echo"] == {"task": "echo", "backend": "echo"}
    assert re.search(r"^tiny .* here ", tuned.place.run("list").stdout, re.MULTILINE)


def test_the_choice_is_served_by_a_worker(tuned: Tuned, tmp_path: Path) -> None:
    result = tuned.result
    version = result["found"][result["chosen"]]["version"]
    artifact = ArtifactStore(tuned.place.home).open("tiny")
    assert artifact.manifest.version == version
    settings = {"models_file": str(tuned.place.models)}
    with (
        running_stack(tuned.place.home, tmp_path, **settings) as stack,
        httpx.Client(base_url=stack.url, timeout=PATIENCE_S) as client,
    ):
        body = {"version": "tiny", "input": {"text": "A river."}}
        made = client.post("/v1/predictions", json=body, headers={"Prefer": "wait"}).json()
    assert made["status"] == "succeeded", made
    assert made["version"].endswith(version)


def test_goals_that_nothing_meets_end_with_what_came_nearest(tuned: Tuned) -> None:
    before = tuned.place.models.read_bytes()
    ended = tuned.place.run("tune", "tiny", "--slo", "p50=0.001ms", "--minutes", "0.1", "--write")
    assert ended.returncode == 1
    assert "forebay: Nothing meets p50 ≤ 0.001 ms:" in ended.stderr
    assert "comes nearest" in ended.stderr
    # What was built before is found again.
    assert "build: fp32:" not in ended.stderr
    assert tuned.place.models.read_bytes() == before


def test_a_users_class_is_tuned_by_its_rows_at_once(tuned: Tuned, tmp_path: Path) -> None:
    data = tmp_path / "rows.jsonl"
    data.write_text('{"text": "a"}\n{"text": "b", "times": 2}\n')
    ended = tuned.place.run("tune", "words", "--data", str(data), "--minutes", "0.1", "--json")
    assert ended.returncode == 0, ended.stderr
    told = json.loads(ended.stdout)
    assert len({one["settings"]["batch.max_rows"] for one in told["found"]}) == len(told["found"])
    assert told["found"][told["chosen"]]["rows_s"] > 0
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"text": ""}\n')
    ended = tuned.place.run("tune", "words", "--data", str(bad), "--minutes", "0.1")
    assert ended.returncode == 1
    assert "The model refuses row 1 of the traffic" in ended.stderr


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("echo",), "there is no model in it to be tuned"),
        (("words",), "--data FILE"),
        (("tiny", "--slo", "fast"), "'fast' is no latency goal"),
        (("nothing",), "There is no model 'nothing' here"),
        (("tiny", "--data", "nowhere"), "nowhere can't be read"),
    ],
)
def test_what_cant_be_tuned_is_refused_at_once(
    tuned: Tuned, words: tuple[str, ...], told: str
) -> None:
    ended = tuned.place.run("tune", *words)
    assert ended.returncode == 1
    assert told in ended.stderr
    assert not ended.stdout


def _heed_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_ctrl_c_prints_what_was_measured_and_leaves_no_process(
    tuned: Tuned, tmp_path: Path
) -> None:
    before = tuned.place.models.read_bytes()
    data = tmp_path / "rows.jsonl"
    data.write_text('{"text": "a"}\n')
    words = ("models", "tune", "words", "--slo", "p99=10s", "--data", str(data),
             "--minutes", "1", "--all", "--write")  # fmt: skip
    with subprocess.Popen(
        [sys.executable, "-m", "forebay.cli", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=tuned.place.environment,
        # Tests that a shell runs in the background ignore it, and so would their children.
        preexec_fn=_heed_interrupts,
    ) as process:
        try:
            assert process.stderr is not None
            # How many there are to try depends on the machine; something has been measured by then.
            assert any("best so far" in line for line in process.stderr)
            children = psutil.Process(process.pid).children(recursive=True)
            assert children
            process.send_signal(signal.SIGINT)
            said, _ = process.communicate(timeout=LIMIT_S)
        finally:
            process.kill()
    assert process.returncode == 130
    assert re.search(r"^(now, )?tried .*\d+ \(\d+–\d+\)", said, re.MULTILINE), said
    assert "Chosen" not in said
    assert tuned.place.models.read_bytes() == before
    _, alive = psutil.wait_procs(children, timeout=PATIENCE_S)
    assert not alive
