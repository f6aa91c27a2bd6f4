"""Pinned versions."""

from pathlib import Path

import pytest

from forebay.contract.errors import InvalidInput, NotFound
from forebay.contract.model import BackendName, ModelSpec
from forebay.contract.rows import Task
from forebay.gateway.versions import StoredVersions, check_pin
from forebay.storage.artifacts import ArtifactStore

DIGEST = "0123456789abcdef" * 4
MODEL = ModelSpec(Task.EMBEDDING, BackendName.ONNX, source="x", name="minilm")
ECHO = ModelSpec(Task.ECHO, BackendName.ECHO, name="echo")


class Serving:
    """Says that one version serves."""

    def __init__(self, digest: str | None) -> None:
        self._digest = digest

    def serving(self, spec: ModelSpec) -> str | None:
        return self._digest


@pytest.mark.parametrize("pin", [DIGEST, DIGEST[:12], DIGEST[:40]])
def test_the_version_that_serves_may_be_pinned_whole_or_by_its_first_characters(pin: str) -> None:
    check_pin(Serving(DIGEST), MODEL, pin, param="version")


def test_another_version_is_not_answered_in_its_place() -> None:
    with pytest.raises(NotFound, match="no version 'ffffffffffff' here: 0123456789ab serves"):
        check_pin(Serving(DIGEST), MODEL, "f" * 12, param="version")


def test_a_pin_that_is_too_short_to_mean_one_version_is_refused() -> None:
    with pytest.raises(InvalidInput, match="at least 12") as caught:
        check_pin(Serving(DIGEST), MODEL, DIGEST[:6], param="version")
    assert caught.value.param == "version"


def test_a_pin_that_can_not_be_checked_is_refused() -> None:
    with pytest.raises(NotFound, match="can't tell"):
        check_pin(Serving(None), MODEL, DIGEST, param="version")


def test_the_store_tells_what_is_current(tmp_path: Path) -> None:
    folder = tmp_path / "artifacts" / "minilm"
    (folder / DIGEST).mkdir(parents=True)
    (folder / "current").write_text(DIGEST + "\n")
    assert StoredVersions(ArtifactStore(tmp_path)).serving(MODEL) == DIGEST


def test_of_a_model_that_is_not_built_nothing_can_be_told(tmp_path: Path) -> None:
    assert StoredVersions(ArtifactStore(tmp_path)).serving(MODEL) is None


def test_a_backend_without_artifacts_is_its_own_version(tmp_path: Path) -> None:
    assert StoredVersions(ArtifactStore(tmp_path)).serving(ECHO) == "echo"
