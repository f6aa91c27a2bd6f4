"""Weights from a hub, by `huggingface_hub` itself: a hub on this machine answers it."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from tests.fixtures.hub import COMMIT, TOKEN, Hub
from tests.fixtures.waiting import PATIENCE_S

REPO = "someone/tiny-embedder"
PINNED = f"hf:{REPO}@{COMMIT}"

RESOLVE = """
import sys
from forebay.build import source
from forebay.contract.errors import BuildFailed
try:
    found = source.resolve(sys.argv[1])
except BuildFailed as error:
    print(error.message)
    raise SystemExit(1)
print(found.folder)
"""


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """What the repository holds."""
    folder = tmp_path / "repository"
    (folder / "1_Pooling").mkdir(parents=True)
    (folder / "onnx").mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "bert"}))
    for name in ("tokenizer.json", "modules.json", "1_Pooling/config.json", "onnx/x.safetensors"):
        (folder / name).write_text(json.dumps({"this is": name}))  # the hub shares equal files
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    (folder / "README.md").write_text("# A model\n")
    save_file({"w": np.ones((2, 2), np.float32)}, str(folder / "model.safetensors"))
    return folder


@pytest.fixture
def hub(files: Path) -> Iterator[Hub]:
    """A hub that shows it to those who have a token."""
    with Hub(files, REPO, private=True).running() as running:
        yield running


def resolve(source: str, home: Path, hub: Hub | None, **variables: str) -> tuple[int, str]:
    """Exit code and what is said where a build looks for a source."""
    url = hub.url if hub else "http://127.0.0.1:1"
    done = subprocess.run(
        [sys.executable, "-c", RESOLVE, source],
        env={
            **{name: value for name, value in os.environ.items() if not name.startswith("HF_")},
            "HF_ENDPOINT": url,
            "HF_HOME": str(home / "hub-cache"),
            "HF_TOKEN": TOKEN,
            "HF_HUB_DISABLE_TELEMETRY": "1",
            **variables,
        },
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stdout.strip()


def test_what_a_build_reads_is_fetched_once_and_nothing_else(
    tmp_path: Path, hub: Hub, files: Path
) -> None:
    code, told = resolve(PINNED, tmp_path, hub)
    assert code == 0, told
    wanted = {"config.json", "tokenizer.json", "modules.json", "1_Pooling/config.json"}
    assert sorted(hub.asked) == sorted({*wanted, "model.safetensors"})
    fetched = Path(told)
    assert fetched.name == COMMIT
    weights = "model.safetensors"
    assert (fetched / weights).read_bytes() == (files / weights).read_bytes()

    hub.asked.clear()
    assert resolve(PINNED, tmp_path, hub) == (0, told)
    assert hub.asked == []
    # And what is here is enough, wherever the hub is.
    assert resolve(PINNED, tmp_path, None) == (0, told)
    assert resolve(PINNED, tmp_path, hub, HF_HUB_OFFLINE="1") == (0, told)


@pytest.mark.parametrize("source", [f"hf:{REPO}", f"hf:{REPO}@main"])
def test_a_revision_that_is_not_a_commit_is_refused_and_the_commit_told(
    tmp_path: Path, hub: Hub, source: str
) -> None:
    code, told = resolve(source, tmp_path, hub)
    assert code == 1
    assert "may mean other weights tomorrow: pin a commit" in told
    assert told.endswith(f"Today it is `{PINNED}`.")
    code, told = resolve(source, tmp_path, None)
    assert code == 1
    assert "can't be told which it is today: The hub at http://127.0.0.1:1 can't be asked" in told


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (f"hf:{REPO}@{'0' * 40}", "has no revision '0000"),
        (f"hf:someone/else@{COMMIT}", "There is no model someone/else at http://127.0.0.1:"),
        ("hf:tiny-embedder", "write `hf:owner/name@COMMIT`"),
    ],
)
def test_what_is_not_there_is_told(tmp_path: Path, hub: Hub, source: str, said: str) -> None:
    code, told = resolve(source, tmp_path, hub)
    assert code == 1
    assert said in told


def test_without_the_token_it_is_said_which_variable_to_set(tmp_path: Path, hub: Hub) -> None:
    code, told = resolve(PINNED, tmp_path, hub, HF_TOKEN="")
    assert code == 1
    assert "or it is private" in told
    assert "set HF_TOKEN" in told


def test_a_hub_that_is_away_is_told_by_its_url(tmp_path: Path) -> None:
    code, told = resolve(PINNED, tmp_path, None)
    assert code == 1
    assert "is not in the cache on this machine. The hub at http://127.0.0.1:1" in told


def test_a_repository_of_pickles_is_refused_before_anything_is_fetched(
    tmp_path: Path, hub: Hub, files: Path
) -> None:
    (files / "model.safetensors").unlink()
    code, told = resolve(PINNED, tmp_path, hub)
    assert code == 1
    assert "only as pytorch_model.bin, a pickle" in told
    assert hub.asked == []
    (files / "pytorch_model.bin").unlink()
    assert "has no weights" in resolve(PINNED, tmp_path, hub)[1]
