"""`forebay autoscale simulate`: what it prints, and what it refuses."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from forebay.cli.main import app
from forebay.contract.errors import ForebayError

CATALOG = """
[models.echo]
task = "echo"
backend = "echo"
replicas = { min = 1, max = 3, idle_s = 7 }
"""


@pytest.fixture
def load(tmp_path: Path) -> Path:
    path = tmp_path / "load.csv"
    path.write_text("second,rows\n5,300\n60,10\n")
    return path


def test_it_tells_each_policy_of_each_trace_and_draws_it(tmp_path: Path, load: Path) -> None:
    words = ["autoscale", "simulate", str(load), "--rate", "20", "--output", str(tmp_path / "out")]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert "load: 310 rows in 1 minutes" in done.output
    for name in ("Forebay", "KEDA", "Knative", "RunPod"):
        assert name in done.output
    assert (tmp_path / "out" / "load.svg").read_text().startswith("<svg")


def test_as_json_it_is_for_programs(tmp_path: Path, load: Path) -> None:
    catalog = tmp_path / "models.toml"
    catalog.write_text(CATALOG)
    words = ["autoscale", "simulate", str(load), "--json", "--model", "echo"]
    done = CliRunner().invoke(app, [*words, "--models-file", str(catalog)])
    assert done.exit_code == 0, done.output
    (told,) = json.loads(done.stdout)
    assert (told["trace"], told["rows"], told["seconds"]) == ("load", 310, 61)
    ours = told["policies"][0]
    assert ours["policy"] == "Forebay"
    assert ours["starts"] >= 1
    # One is always there.
    assert ours["replica_hours"] >= 60 / 3600


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nowhere.csv"], "There is no trace"),
        (["bursts", "--max", "1", "--min", "2"], "less than"),
    ],
)
def test_what_makes_no_sense_is_refused(words: list[str], said: str) -> None:
    done = CliRunner().invoke(app, ["autoscale", "simulate", *words])
    assert isinstance(done.exception, ForebayError)
    assert said in done.exception.message
