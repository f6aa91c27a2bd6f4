"""An artifact's digest covers what changes answers, and nothing else."""

import msgspec
import pytest

from forebay.contract.manifest import FileEntry, Manifest, TextLimits, Versions
from forebay.contract.model import Precision
from forebay.contract.rows import Task

LIMITS = TextLimits(
    max_tokens=256, dimensions=384, vocabulary=30_522, pad_id=0, prefix=(101,), suffix=(102,)
)
FILES = (FileEntry("model.onnx", 10, "aa" * 32), FileEntry("tokenizer.json", 20, "bb" * 32))
MANIFEST = Manifest(
    model="minilm",
    task=Task.EMBEDDING,
    precision=Precision.INT8,
    source="package:x/model",
    source_sha256="cc" * 32,
    limits=LIMITS,
    samples=("one", "two"),
    files=FILES,
    versions=Versions("0.1.0", "2", "5", "1", "1"),
)
replace = msgspec.structs.replace


def test_the_digest_is_this_very_one() -> None:
    """Artifacts on disk are found by it: a changed formula would orphan every one of them."""
    assert MANIFEST.digest == "97919d26ef4b10f10b9e13b1503a6392d542831776db7e305766899714b64db6"
    assert MANIFEST.version == MANIFEST.digest[:12]


@pytest.mark.parametrize(
    "other",
    [
        replace(MANIFEST, limits=replace(LIMITS, max_tokens=128)),
        replace(MANIFEST, limits=replace(LIMITS, suffix=(103,))),
        replace(MANIFEST, precision=Precision.FP32),
        replace(MANIFEST, task=Task.ECHO),
        replace(MANIFEST, format=2),
        replace(MANIFEST, files=FILES[:1]),
        replace(MANIFEST, files=(FILES[0], replace(FILES[1], sha256="dd" * 32))),
        replace(MANIFEST, files=(FILES[0], replace(FILES[1], path="vocab.txt"))),
    ],
)
def test_what_changes_answers_changes_the_digest(other: Manifest) -> None:
    assert other.digest != MANIFEST.digest


@pytest.mark.parametrize(
    "other",
    [
        replace(MANIFEST, files=FILES[::-1]),
        replace(MANIFEST, model="another"),
        replace(MANIFEST, samples=()),
        replace(MANIFEST, source="models/copy"),
        replace(MANIFEST, versions=Versions("0.2.0", "2", "5", "1", "1")),
    ],
)
def test_what_does_not_change_answers_leaves_the_digest(other: Manifest) -> None:
    assert other.digest == MANIFEST.digest


def test_a_manifest_survives_its_file() -> None:
    again = msgspec.json.decode(msgspec.json.encode(MANIFEST), type=Manifest)
    assert again == MANIFEST
    assert again.digest == MANIFEST.digest
