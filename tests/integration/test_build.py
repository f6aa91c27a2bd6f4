"""Real builds: the sample model, and a tiny one made on the spot."""

import json
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from forebay.build import bars, pipeline, texts
from forebay.contract.errors import BuildFailed
from forebay.contract.manifest import Accuracy
from forebay.contract.model import BackendName, ModelSpec, Precision
from forebay.contract.rows import Embedding, Task, TextRow
from forebay.inference.backends.base import PreparedRow
from forebay.inference.backends.load import load
from forebay.storage.artifacts import Artifact, ArtifactStore
from tests.fixtures.artifacts import minilm_spec
from tests.fixtures.waiting import PATIENCE_S

WORDS = ("the", "a", "river", "runs", "to", "sea", "and", "of", "in", "it", "is", "was", "for")

# Prints the process's own peak memory, not ru_maxrss: a child inherits its parent's at fork.
SERVE = """
import json, sys
from pathlib import Path
from forebay.contract.rows import TextRow
from forebay.inference.backends.load import load
from forebay.runtime.catalog import read
from forebay.storage.artifacts import ArtifactStore
backend = load(read(Path(sys.argv[1])).find("minilm"), ArtifactStore(sys.argv[2]))
backend.warm()
rows = backend.prepare([TextRow("the river runs to the sea " * 8)] * 32, truncate=False)
backend.run(rows)
status = Path("/proc/self/status").read_text().splitlines()
peak = next(line for line in status if line.startswith("VmHWM"))
loaded = [name for name in ("torch", "transformers", "onnx") if name in sys.modules]
print(json.dumps({"peak_kb": int(peak.split()[1]), "loaded": loaded}))
"""


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A two-layer BERT of random weights, saved as sentence-transformers saves one."""
    import torch
    from transformers import BertConfig, BertModel

    folder = tmp_path_factory.mktemp("tiny")
    special = {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3}
    vocabulary = special | {word: len(special) + i for i, word in enumerate(WORDS)}
    torch.manual_seed(1)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
    )
    BertModel(config).save_pretrained(folder)
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    parts = (("Transformer", ""), ("Pooling", "1_Pooling"), ("Normalize", "2_Normalize"))
    (folder / "modules.json").write_text(
        json.dumps([{"type": f"x.{name}", "path": path} for name, path in parts])
    )
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode_mean_tokens": true}')
    return folder


@pytest.fixture
def spec(tiny: Path) -> ModelSpec:
    return ModelSpec(
        task=Task.EMBEDDING, backend=BackendName.ONNX, source=str(tiny), name="tiny", threads=1
    )


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path / "home")


@pytest.fixture
def no_chatter(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> Iterator[None]:
    """Nothing is logged at warning or above, and nothing printed, while the test runs."""
    yield
    assert [r for r in caplog.records if r.levelno >= logging.WARNING] == []
    out, err = capfd.readouterr()
    assert (out, err) == ("", "")


def files(artifact: Artifact) -> dict[str, bytes]:
    return {f.path: (artifact.folder / f.path).read_bytes() for f in artifact.manifest.files}


def test_the_sample_model_loses_little_and_rows_do_not_disturb_one_another(
    minilm_home: Path,
) -> None:
    report = ArtifactStore(minilm_home).report("minilm")
    assert report is not None
    accuracy = report.accuracy
    assert accuracy is not None
    assert accuracy.texts >= 300
    assert accuracy.mean_cosine >= 0.998
    assert accuracy.min_cosine >= 0.99
    assert accuracy.neighbour_agreement >= 0.94
    assert accuracy.invariance >= 0.9999
    assert report.bytes < 0.45 * report.fp32_bytes
    assert report.speed.rows_s > 0


def test_the_sample_models_manifest_tells_its_limits_and_where_it_came_from(
    minilm: Artifact,
) -> None:
    manifest = minilm.manifest
    assert manifest.text == msgspec.structs.replace(
        manifest.text, max_tokens=256, dimensions=384, vocabulary=30_522, pad_id=0
    )
    assert (manifest.text.prefix, manifest.text.suffix) == ((101,), (102,))
    assert manifest.source == minilm_spec().source
    assert manifest.versions.torch.startswith("2.13.0")
    assert {file.path for file in manifest.files} == {
        "model.onnx",
        "weights.bin",
        "tokenizer.json",
    }
    tokenizer = json.loads((minilm.folder / "tokenizer.json").read_text("utf-8"))
    assert (tokenizer["truncation"], tokenizer["padding"]) == (None, None)


def test_an_artifact_carries_no_trace_of_the_machine_that_built_it(minilm: Artifact) -> None:
    content = (minilm.folder / "model.onnx").read_bytes()
    for trace in (b"site-packages", b".py", str(Path.home()).encode(), os.fsencode(Path.cwd())):
        assert trace not in content, trace


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")
def test_serving_the_sample_model_imports_no_torch_and_stays_small(minilm_home: Path) -> None:
    catalog = Path(__file__).parents[2] / "models.toml"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", SERVE, str(catalog), str(minilm_home)],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.stderr == ""
    told = json.loads(done.stdout)
    assert told["loaded"] == []
    assert told["peak_kb"] < 180_000


@pytest.mark.slow
def test_building_the_sample_model_again_gives_the_same_digest(
    minilm: Artifact, store: ArtifactStore
) -> None:
    steps: list[tuple[str, float]] = []
    again = pipeline.build(
        minilm_spec(), store, progress=lambda step, done: steps.append((step, done))
    )
    assert again.artifact.manifest.digest == minilm.manifest.digest
    assert list(dict.fromkeys(step for step, _ in steps)) == list(pipeline.steps(minilm_spec()))
    assert all(0 <= done <= 1 for _, done in steps)
    assert steps[-1] == ("publish", 1.0)


@pytest.mark.usefixtures("no_chatter")
def test_a_small_model_is_built_twice_to_the_same_bytes_and_can_be_served(
    spec: ModelSpec, store: ArtifactStore
) -> None:
    first = pipeline.build(spec, store)
    second = pipeline.build(spec, ArtifactStore(store.current("tiny").parents[2] / "again"))
    assert files(first.artifact) == files(second.artifact)
    assert first.artifact.manifest.digest == second.artifact.manifest.digest
    assert store.report("tiny") == first.report

    backend = load(spec, store)
    backend.warm()
    rows = [
        row
        for row in backend.prepare(
            [TextRow("the river runs to the sea"), TextRow("it")], truncate=False
        )
        if isinstance(row, PreparedRow)
    ]
    together, alone = backend.run(rows), [backend.run([row])[0] for row in rows]
    for one, other in zip(together, alone, strict=True):
        assert isinstance(one, Embedding)
        assert isinstance(other, Embedding)
        a, b = (np.frombuffer(output.vector, "<f4") for output in (one, other))
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_full_precision_is_a_build_too(spec: ModelSpec, store: ArtifactStore) -> None:
    full = msgspec.structs.replace(spec, precision=Precision.FP32)
    built = pipeline.build(full, store)
    assert built.report.accuracy is not None
    assert built.report.accuracy.mean_cosine == pytest.approx(1, abs=1e-6)
    assert built.report.smoothing == 0
    graph = onnx.load(built.artifact.folder / "model.onnx", load_external_data=False).graph
    assert "MatMulIntegerToFloat" not in {node.op_type for node in graph.node}
    load(full, store).warm()


def test_a_result_under_the_bar_is_not_published_and_what_was_stays_current(
    spec: ModelSpec, store: ArtifactStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = pipeline.build(msgspec.structs.replace(spec, precision=Precision.FP32), store)
    monkeypatch.setattr(bars, "MIN_MEAN_COSINE", 1.1)
    with pytest.raises(BuildFailed, match=r"not published: its mean cosine to FP32 .* is [01]\."):
        pipeline.build(spec, store)
    assert store.open("tiny") == before.artifact
    assert len(store.entries()) == 1


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"mean_cosine": 0.99499}, "mean cosine to FP32"),
        ({"invariance": 0.99989}, "batch invariance"),
        ({"mean_cosine": float("nan")}, "mean cosine to FP32"),
    ],
)
def test_each_measure_has_a_bar(changes: dict[str, Any], said: str) -> None:
    passing = Accuracy(
        texts=10, mean_cosine=0.995, min_cosine=0.5, neighbour_agreement=0.5, invariance=0.9999
    )
    bars.check("minilm", passing)
    with pytest.raises(BuildFailed, match=said):
        bars.check("minilm", msgspec.structs.replace(passing, **changes))


def test_a_model_that_runs_no_graph_has_nothing_to_build(store: ArtifactStore) -> None:
    echo = ModelSpec(task=Task.ECHO, backend=BackendName.ECHO, name="echo")
    with pytest.raises(BuildFailed, match="nothing to build"):
        pipeline.build(echo, store)


def test_a_missing_library_is_named_with_what_to_install(
    spec: ModelSpec, store: ArtifactStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "_LIBRARIES", ("torch", "no_such_library"))
    with pytest.raises(BuildFailed, match=r"needs no_such_library: run `pip install 'forebay"):
        pipeline.build(spec, store)


@pytest.mark.usefixtures("no_chatter")
@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"hidden_size": 48},
            "in {copy} have another shape than config.json gives for 'embeddings",
        ),
        ({"num_hidden_layers": 3}, r"in {copy} lack 'encoder\.layer\.2.* and 15 others"),
        ({"model_type": "no_such_type"}, "{copy}/config.json says .* of the kind 'no_such_type'"),
    ],
)
def test_weights_that_do_not_fit_their_config_are_refused_not_made_up(
    spec: ModelSpec,
    store: ArtifactStore,
    tiny: Path,
    tmp_path: Path,
    changes: dict[str, Any],
    said: str,
) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in tiny.iterdir():
        (copy / path.name).symlink_to(path)
    config = json.loads((tiny / "config.json").read_text())
    (copy / "config.json").unlink()
    (copy / "config.json").write_text(json.dumps(config | changes))
    with pytest.raises(BuildFailed, match=said.replace("{copy}", str(copy))):
        pipeline.build(msgspec.structs.replace(spec, source=str(copy)), store)


def test_calibration_and_evaluation_share_no_text_and_cover_many_lengths() -> None:
    calibration, evaluation = texts.calibration(), texts.evaluation()
    assert not set(calibration) & set(evaluation)
    assert len(set(calibration)) == len(calibration) >= 150
    assert len(set(evaluation)) == len(evaluation) >= 300
    for part in (calibration, evaluation):
        words = [len(text.split()) for text in part]
        assert min(words) <= 3
        assert max(words) >= 150
        assert 15 < np.mean(words) < 40


def test_a_source_that_breaks_later_is_refused_and_what_was_built_goes_on_serving(
    spec: ModelSpec, store: ArtifactStore, tiny: Path, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    shutil.copytree(tiny, source)
    spec = msgspec.structs.replace(spec, source=str(source), precision=Precision.FP32)
    built = pipeline.build(spec, store).artifact

    weights, tokenizer = source / "model.safetensors", source / "tokenizer.json"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-9])
    with pytest.raises(BuildFailed, match=r"model\.safetensors is not a whole safetensors file"):
        pipeline.build(spec, store)
    weights.write_bytes(whole)
    tokenizer.rename(source / "elsewhere.json")
    with pytest.raises(BuildFailed, match=r"tokenizer\.json is missing"):
        pipeline.build(spec, store)
    weights.rename(source / "pytorch_model.bin")
    with pytest.raises(BuildFailed, match=r"pytorch_model\.bin is a pickle"):
        pipeline.build(spec, store)

    assert store.open(spec.name) == built
    load(spec, store).warm()
