"""Drift, whole: a real worker and a real server, traffic as it was and traffic that is not."""

import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest

from forebay.assess.reference import leave_reference
from forebay.build import texts
from forebay.contract.rows import Task
from forebay.storage.artifacts import ArtifactStore
from forebay.storage.references import REFERENCE, References
from tests.fixtures.artifacts import tiny, tiny_spec
from tests.fixtures.fleet import Fleet, fleet
from tests.fixtures.stack import ROOT
from tests.fixtures.waiting import PATIENCE_S, eventually_sync
from tests.integration.test_evaluate import toml_of
from tests.unit.test_cli import invoke

NAME = "tiny-classification"
WATCHED = f"[models.{NAME}.drift]\nsample = 1.0\n"
USUAL = texts.evaluation()
OTHER = [
    "Река впадает в озеро, и вода приводит в движение турбину. " * (n % 3 + 3) for n in range(300)
]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, redis_url: str, key_prefix: str) -> Path:
    """A home of this test's own with the tiny classifier in it, and no reference."""
    home = tmp_path / "home"
    built = tiny(Task.CLASSIFICATION).folder.parent
    shutil.copytree(built, home / "artifacts" / NAME, ignore=shutil.ignore_patterns(REFERENCE))
    catalog = tmp_path / "catalog.toml"
    catalog.write_text(toml_of(Task.CLASSIFICATION) + WATCHED)
    for name, value in (
        ("HOME", home),
        ("MODELS_FILE", catalog),
        ("REDIS_URL", redis_url),
        ("KEY_PREFIX", key_prefix),
    ):
        monkeypatch.setenv(f"FOREBAY_{name}", str(value))
    return home


@pytest.fixture
def running(home: Path, tmp_path: Path, redis_url: str, key_prefix: str) -> Iterator[Fleet]:
    """A gateway that serves the model to who asks."""
    settings = {
        "home": str(home),
        "models_file": str(tmp_path / "catalog.toml"),
        "redis_url": redis_url,
        "key_prefix": key_prefix,
    }
    with fleet(tmp_path, **settings) as started:
        started.start("gateway")
        yield started


def serve(running: Fleet, given: Sequence[str]) -> None:
    """Have a worker answer these, and stop it: then it has told all it has counted."""
    worker = running.start("worker", NAME)
    body = {"version": NAME, "input": {"text": list(given), "truncate": True}}

    def answered() -> dict[str, Any]:
        try:
            answer = httpx.post(
                f"{running.url}/v1/predictions",
                json=body,
                headers={"Prefer": "wait"},
                timeout=PATIENCE_S,
            )
        except httpx.TransportError:
            return {}  # the gateway is still starting
        told: dict[str, Any] = answer.json()
        return told if answer.status_code == 201 else {}

    told = eventually_sync(answered, what=lambda: running.said)
    assert told["status"] == "succeeded", told
    worker.terminate()
    assert worker.wait(PATIENCE_S) == 0, running.said


def drift(*words: str) -> dict[str, Any]:
    done = invoke("models", "drift", NAME, "--json", *words)
    assert done.exit_code == 0, (done.output, done.exception)
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def verdicts(told: dict[str, Any]) -> dict[str, str]:
    return {one["statistic"]: one["verdict"] for one in told["statistics"]}


def test_the_same_texts_are_stable_and_others_are_flagged(home: Path, running: Fleet) -> None:
    version = tiny(Task.CLASSIFICATION).manifest.version
    no_reference = invoke("models", "drift", NAME)
    assert f"There is no reference for {NAME} {version}" in str(no_reference.exception)

    reference = leave_reference(tiny_spec(Task.CLASSIFICATION), ArtifactStore(home))
    assert reference.sketch.inputs == reference.sketch.outputs == len(USUAL)
    told = drift()
    assert told["verdict"] == "too few rows"

    serve(running, USUAL * 2)
    told = drift()
    statistics = {"alphabet", "density", "label", "pieces", "score", "size", "tokens"}
    assert verdicts(told) == dict.fromkeys(statistics, "stable")
    assert (told["verdict"], told["version"]) == ("stable", version)
    assert told["reference"] == "shipped texts"

    serve(running, OTHER * 3)
    flagged = drift()
    assert flagged["verdict"] == "drifted"
    assert verdicts(flagged)["alphabet"] == "drifted"
    assert verdicts(flagged)["size"] == "drifted"
    alphabet = next(one for one in flagged["statistics"] if one["statistic"] == "alphabet")
    assert "cyrillic" in [move["bin"] for move in alphabet["moves"]]
    table = invoke("models", "drift", NAME, "--since", "7d")
    assert "cyrillic: 0% to" in table.stdout


def test_what_was_served_can_be_made_the_reference(home: Path, running: Fleet) -> None:
    too_few = invoke("models", "drift", NAME, "--set-reference")
    assert "looked at 0 rows, and a reference needs 100" in str(too_few.exception)
    serve(running, OTHER)
    done = invoke("models", "drift", NAME, "--set-reference")
    assert done.exit_code == 0, done.exception
    assert str(home / "references" / f"{NAME}.json") in done.stdout
    told = drift()
    assert told["verdict"] == "stable"
    assert told["reference"].startswith("traffic, ")
    assert "secret" not in (home / "references" / f"{NAME}.json").read_text()


@pytest.mark.parametrize("since", ["yesterday", "2999-01-01", "2026-02-30", "-1d"])
def test_a_day_that_is_none_is_refused(since: str, home: Path) -> None:
    done = invoke("models", "drift", NAME, f"--since={since}")
    assert "--since takes days, as 7d" in str(done.exception)


def test_a_model_that_is_not_watched_says_so(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "catalog.toml").write_text('[models.echo]\ntask = "echo"\nbackend = "echo"\n')
    assert "say `watch = true`" in str(invoke("models", "drift", "echo").exception)
    (tmp_path / "catalog.toml").write_text(toml_of(Task.CLASSIFICATION))
    monkeypatch.setenv("FOREBAY_REDIS_URL", "redis://127.0.0.1:1/0")
    assert "can't be asked" in str(invoke("models", "drift", NAME).exception)


def test_the_docs_name_the_commands_as_they_are() -> None:
    page = (ROOT / "docs" / "measuring.md").read_text("utf-8")
    for command in ("forebay models drift minilm --since 7d", "--set-reference"):
        assert command in page


def test_a_build_leaves_a_reference_that_its_digest_does_not_cover(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = tiny(Task.CLASSIFICATION).manifest.digest
    done = invoke("models", "build", NAME)
    assert done.exit_code == 0, (done.output, done.exception)
    store = ArtifactStore(home)
    assert store.open(NAME).manifest.digest == before
    found = References(store).find(NAME, version=before[:12])
    assert found is not None
    assert found.sketch.rows("label") == len(USUAL)
