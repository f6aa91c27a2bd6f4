"""What every backend and task promises: one suite that each passes, and the embedder's terms."""

import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import permutations
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image
from torch._dynamo.utils import counters

from forebay.build import pipeline
from forebay.contract.errors import (
    ArtifactError,
    BackendFailed,
    ConfigurationError,
    ErrorKind,
    InvalidInput,
    TooLong,
)
from forebay.contract.execution import TorchOptions
from forebay.contract.image import ImageTable
from forebay.contract.model import BackendName, ModelSpec, Precision
from forebay.contract.rows import (
    Classes,
    Embedding,
    Entailment,
    ImageRow,
    NamedTensor,
    Options,
    Output,
    PairRow,
    Row,
    Spans,
    Task,
    TensorsRow,
    TextRow,
    TokensRow,
    Value,
    ValueRow,
)
from forebay.inference.backends.base import Backend, PreparedRow
from forebay.inference.backends.echo import Echo
from forebay.inference.backends.load import load
from forebay.inference.backends.onnx import OnnxModel
from forebay.inference.backends.python import PythonModel
from forebay.inference.backends.text import TextModel
from forebay.inference.backends.torch import TorchModel
from forebay.inference.tasks import text as texts
from forebay.inference.tasks.base import Tokens
from forebay.inference.tasks.embedding import Embeddings
from forebay.networks.running import Runner
from forebay.storage.artifacts import Artifact, ArtifactStore
from forebay.storage.descriptions import Descriptions
from tests.fixtures import onnx_models
from tests.fixtures.artifacts import TINY, minilm_spec, tiny, tiny_home, tiny_spec
from tests.fixtures.pictures import encoded
from tests.fixtures.user_models import user_model

LONG = "the river " * 200
CLS, SEP = 101, 102


class Case(msgspec.Struct, frozen=True):
    """A backend with rows it takes, rows it refuses, and what makes two outputs the same."""

    backend: Backend
    version: str
    good: tuple[Row, ...]
    bad: tuple[Row, ...]
    same: Callable[[Output, Output], bool]


def vector(output: Output) -> npt.NDArray[np.float64]:
    assert isinstance(output, Embedding)
    return np.frombuffer(output.vector, "<f4").astype(np.float64)


def cosine(one: Output, other: Output) -> float:
    a, b = vector(one), vector(other)
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


@pytest.fixture(scope="module")
def embedder(minilm: Artifact) -> OnnxModel:
    backend = OnnxModel(minilm.folder, minilm.manifest, threads=1)
    backend.warm()
    return backend


TEXTS = ("a short one", "The quick brown fox jumps over the lazy dog.", "of rivers, and the sea")
BAD_PAIRS = (
    PairRow(LONG, "a"),
    PairRow("a", LONG),
    PairRow(LONG * 9, LONG * 9),
    TextRow("a"),
    ValueRow(b"1"),
)
BAD_TEXTS = (TextRow(LONG), TextRow(LONG * 9), ValueRow(b"1"))
GOOD_AND_BAD: dict[Task, tuple[tuple[Row, ...], tuple[Row, ...]]] = {
    Task.CLASSIFICATION: (
        (*map(TextRow, TEXTS), PairRow(TEXTS[0], TEXTS[1]), TokensRow((5, 9, 7))),
        (*BAD_TEXTS, PairRow(LONG, "a"), TokensRow(()), TokensRow((10_000,))),
    ),
    Task.RERANKING: (tuple(PairRow("it", text) for text in TEXTS), BAD_PAIRS),
    Task.ZERO_SHOT: (tuple(PairRow(text, "It is new.") for text in TEXTS), BAD_PAIRS),
    Task.TOKEN_CLASSIFICATION: (
        tuple(map(TextRow, TEXTS)),
        (*BAD_TEXTS, TokensRow((5,)), PairRow("a", "b")),
    ),
}


def near(one: Output, other: Output) -> bool:
    """Whether a classifier says the same twice, scores within 1e-5."""
    match one, other:
        case (Classes(), Classes()):
            a, b = (np.frombuffer(output.scores, "<f4") for output in (one, other))
            return one.labels == other.labels and bool(np.abs(a - b).max() <= 1e-5)
        case (Entailment(), Entailment()):
            return (
                one.tokens == other.tokens
                and abs(one.entails - other.entails) <= 1e-4
                and abs(one.contradicts - other.contradicts) <= 1e-4
            )
        case (Spans(), Spans()):
            plain = [
                [msgspec.structs.replace(span, score=round(span.score, 4)) for span in output.spans]
                for output in (one, other)
            ]
            return plain[0] == plain[1]
        case _:
            return False


@pytest.fixture(scope="module")
def torch_model() -> Callable[[Task, bool], TorchModel]:
    made: dict[tuple[Task, bool], TorchModel] = {}

    def of(task: Task, compiled: bool) -> TorchModel:
        if (task, compiled) not in made:
            artifact = tiny(task, BackendName.TORCH)
            model = TorchModel(
                artifact.folder,
                artifact.manifest,
                threads=1,
                streams=2,
                options=TorchOptions(compile=compiled),
            )
            model.warm()
            made[task, compiled] = model
        return made[task, compiled]

    return of


@pytest.fixture(scope="module")
def tiny_model() -> Callable[[Task], OnnxModel]:
    made: dict[Task, OnnxModel] = {}

    def of(task: Task) -> OnnxModel:
        if task not in made:
            artifact = tiny(task)
            made[task] = OnnxModel(artifact.folder, artifact.manifest, threads=1)
            made[task].warm()
        return made[task]

    return of


def of_a_file(kind: str, folder: Path) -> Case:
    """A model that is an ONNX file: one that doubles tensors, or the same as scores of pixels."""
    images = kind == "images"
    spec = ModelSpec(
        task=Task.IMAGE_CLASSIFICATION if images else Task.TENSORS,
        backend=BackendName.ONNX,
        source=f"onnx:{(onnx_models.brightness if images else onnx_models.scaled)(folder / 'm')}",
        precision=Precision.FP32,
        image=ImageTable(height=2, width=2, labels=("red", "green", "blue")),
        threads=1,
        name="file",
    )
    store = ArtifactStore(folder / "home")
    version = pipeline.build(spec, store).artifact.manifest.version
    backend = load(spec, store)
    if images:
        pictures = ((9, 5, "red"), (1, 1, "navy"), (3, 700, "lime"))
        return Case(
            backend=backend,
            version=version,
            good=tuple(ImageRow(encoded(Image.new("RGB", (w, h), c))) for w, h, c in pictures),
            bad=(ImageRow(b"no image"), TextRow("text"), ImageRow(b"")),
            same=near,
        )
    return Case(
        backend=backend,
        version=version,
        good=(plain([[1.0, 2.0]]), plain([[3.0, 4.0], [5.0, 6.0]]), plain([[7.0, 8.0]])),
        bad=(
            TextRow("text"),
            TensorsRow(()),
            TensorsRow((NamedTensor("x", "FP32", (1, 2), b"short"),)),
            TensorsRow((NamedTensor("x", "FP64", (1, 2), bytes(16)),)),
            TensorsRow((NamedTensor("x", "FP32", (2,), bytes(8)),)),
            TensorsRow((NamedTensor("x", "FP32", (0, 2), b""),)),
            TensorsRow((NamedTensor("y", "FP32", (1, 2), bytes(8)),)),
        ),
        same=lambda a, b: a == b,
    )


def plain(values: list[list[float]]) -> TensorsRow:
    array = np.array(values, "<f4")
    return TensorsRow((NamedTensor("x", "FP32", array.shape, array.tobytes()),))


TORCH = [(task, False) for task in TINY]
COMPILED = (Task.CLASSIFICATION, True)


TEXT_MODELS = ["onnx", *TINY, *TORCH, pytest.param(COMPILED, marks=pytest.mark.slow)]


@pytest.fixture(params=["echo", "python", "images", "tensors", *TEXT_MODELS])
def case(request: pytest.FixtureRequest) -> Case:
    return made_case(request)


@pytest.fixture(params=TEXT_MODELS)
def text_case(request: pytest.FixtureRequest) -> Case:
    return made_case(request)


def made_case(request: pytest.FixtureRequest) -> Case:
    if isinstance(request.param, tuple):
        in_torch: TorchModel = request.getfixturevalue("torch_model")(*request.param)
        good, bad = GOOD_AND_BAD[request.param[0]]
        return Case(backend=in_torch, version=in_torch.version, good=good, bad=bad, same=near)
    if isinstance(request.param, Task):
        model: OnnxModel = request.getfixturevalue("tiny_model")(request.param)
        good, bad = GOOD_AND_BAD[request.param]
        return Case(backend=model, version=model.version, good=good, bad=bad, same=near)
    if request.param in ("images", "tensors"):
        return of_a_file(request.param, request.getfixturevalue("tmp_path"))
    if request.param == "python":
        class_ = PythonModel(user_model(request.getfixturevalue("tmp_path")))
        return Case(
            backend=class_,
            version=class_.description.digest[:12],
            good=(
                ValueRow(b'{"text": "a"}'),
                ValueRow(b'{"text": "b"}'),
                ValueRow(b'{"text":"c"}'),
            ),
            bad=(TextRow("text"), TokensRow((1,)), ValueRow(b"{}"), ValueRow(b'{"text": 1}')),
            same=lambda a, b: a == b,
        )
    if request.param == "echo":
        return Case(
            backend=Echo(),
            version="echo",
            good=(ValueRow(b"1"), ValueRow(b'{"a": [2]}'), ValueRow(b"null")),
            bad=(TextRow("text"), TokensRow((1,))),
            same=lambda a, b: a == b,
        )
    embedder: OnnxModel = request.getfixturevalue("embedder")
    minilm: Artifact = request.getfixturevalue("minilm")
    return Case(
        backend=embedder,
        version=minilm.manifest.version,
        good=(
            TextRow("a short one"),
            TextRow("The quick brown fox jumps over the lazy dog by the river bank. " * 12),
            TokensRow((2_748, 2_062, 2_003, 2_009)),
            TextRow(""),
        ),
        bad=(TextRow(LONG), TokensRow(()), TokensRow((30_522,)), ValueRow(b"1")),
        same=lambda a, b: cosine(a, b) >= 0.9999,
    )


def ready(backend: Backend, rows: Sequence[Row], *, truncate: bool = False) -> list[PreparedRow]:
    prepared = backend.prepare(rows, truncate=truncate)
    assert all(isinstance(row, PreparedRow) for row in prepared), prepared
    return [row for row in prepared if isinstance(row, PreparedRow)]


def refusal(backend: Backend, row: Row, *, truncate: bool = False) -> InvalidInput:
    (refused,) = backend.prepare([row], truncate=truncate)
    assert isinstance(refused, InvalidInput)
    return refused


class TestEveryBackend:
    def test_names_the_version_that_answers(self, case: Case) -> None:
        assert case.backend.version == case.version

    def test_gives_output_i_for_row_i_in_any_order(self, case: Case) -> None:
        alone = [case.backend.run(ready(case.backend, [row]))[0] for row in case.good]
        assert not any(case.same(a, b) for a, b in permutations(alone, 2))
        for order in ([0, 1, 2], [2, 0, 1], [1, 1, 0]):
            outputs = case.backend.run(ready(case.backend, [case.good[i] for i in order]))
            assert all(
                case.same(output, alone[i]) for output, i in zip(outputs, order, strict=True)
            )

    def test_gives_a_row_the_same_result_alone_as_in_company(self, case: Case) -> None:
        rows = ready(case.backend, case.good)
        together = case.backend.run(rows)
        for row, output in zip(rows, together, strict=True):
            assert case.same(case.backend.run([row])[0], output)

    def test_refuses_a_bad_row_before_running_and_leaves_its_neighbours(self, case: Case) -> None:
        for bad in case.bad:
            first, refused, last = case.backend.prepare(
                [case.good[0], bad, case.good[1]], truncate=False
            )
            assert isinstance(refused, InvalidInput), bad
            assert refused.row == 1
            assert refused.info().row == 1
            assert isinstance(first, PreparedRow)
            assert isinstance(last, PreparedRow)
            assert len(case.backend.run([first, last])) == 2

    def test_takes_no_rows_and_gives_none(self, case: Case) -> None:
        assert case.backend.prepare([], truncate=False) == []
        assert case.backend.run([]) == []

    def test_counts_at_least_one_of_length_a_row(self, case: Case) -> None:
        assert all(row.length >= 1 for row in ready(case.backend, case.good))

    def test_answers_the_same_from_several_threads_at_once(self, case: Case) -> None:
        alone = [case.backend.run(ready(case.backend, [row]))[0] for row in case.good]
        streams = 2 if isinstance(case.backend, TextModel) else case.backend.streams
        with ThreadPoolExecutor(streams) as threads:
            batches = [ready(case.backend, case.good) for _ in range(4 * streams)]
            for outputs in threads.map(case.backend.run, batches):
                assert all(map(case.same, outputs, alone))

    def test_may_be_warmed_again(self, case: Case) -> None:
        case.backend.warm()
        case.backend.warm()
        assert case.backend.run(ready(case.backend, case.good))


@pytest.mark.parametrize("task", TINY)
def test_a_classifier_that_is_told_other_labels_does_not_warm(task: Task) -> None:
    artifact = tiny(task)
    limits = msgspec.structs.replace(artifact.manifest.text, dimensions=99)
    manifest = msgspec.structs.replace(artifact.manifest, limits=limits)
    with pytest.raises(ArtifactError, match="doesn't do what its manifest says"):
        OnnxModel(artifact.folder, manifest, threads=1).warm()
    with pytest.raises(ArtifactError, match="names no labels"):
        OnnxModel(artifact.folder, msgspec.structs.replace(artifact.manifest, head=None), threads=1)


@pytest.mark.parametrize("task", TINY)
def test_a_row_over_the_limit_is_cut_to_it_only_if_asked(
    tiny_model: Callable[[Task], OnnxModel], task: Task
) -> None:
    model = tiny_model(task)
    long = "the river runs to the sea and " * 10_000
    row = TextRow(long) if isinstance(GOOD_AND_BAD[task][0][0], TextRow) else PairRow(long, "a")
    error = refusal(model, row)
    assert isinstance(error, TooLong)
    assert "at least" in error.message
    assert "truncate: true" in error.message
    (cut,) = ready(model, [row], truncate=True)
    assert cut.length == 64
    assert len(model.run([cut])) == 1


def test_options_go_with_each_row_of_a_batch(tiny_model: Callable[[Task], OnnxModel]) -> None:
    model = tiny_model(Task.CLASSIFICATION)
    rows = [
        row
        for options in (Options(), Options(top_k=2), Options(top_k=0), Options(top_k=9))
        for row in model.prepare([TextRow("a")], truncate=False, options=options)
        if isinstance(row, PreparedRow)
    ]
    told = [output.labels for output in model.run(rows) if isinstance(output, Classes)]
    assert [len(labels) for labels in told] == [1, 2, 3, 3]
    assert all(labels == told[3][: len(labels)] for labels in told)


def test_a_hypothesis_is_never_cut(tiny_model: Callable[[Task], OnnxModel]) -> None:
    error = refusal(tiny_model(Task.ZERO_SHOT), PairRow("a", "the sea " * 60), truncate=True)
    assert isinstance(error, TooLong)
    assert "is held against is too long" in error.message


def test_an_artifact_built_for_another_task_does_not_load() -> None:
    tiny(Task.CLASSIFICATION)
    store, spec = ArtifactStore(tiny_home()), tiny_spec(Task.CLASSIFICATION)
    assert isinstance(load(spec, store), OnnxModel)
    other = msgspec.structs.replace(spec, task=Task.ZERO_SHOT)
    with pytest.raises(ArtifactError, match=r"built with task 'classification'.*'zero-shot'"):
        load(other, store)


def test_echo_gives_back_the_very_bytes() -> None:
    rows = [ValueRow(b' {"spaces":  "kept"} '), ValueRow(b"")]
    backend = Echo()
    assert backend.run(ready(backend, rows)) == [Value(row.json) for row in rows]


def test_an_embedding_has_the_manifests_dimensions_unit_length_and_counts_tokens(
    embedder: OnnxModel, minilm: Artifact
) -> None:
    (output,) = embedder.run(ready(embedder, [TextRow("Hello world")]))
    assert isinstance(output, Embedding)
    assert vector(output).shape == (minilm.manifest.text.dimensions,)
    assert np.linalg.norm(vector(output)) == pytest.approx(1, abs=1e-5)
    assert output.tokens == 4  # [CLS] hello world [SEP]


def test_embeddings_of_like_texts_are_alike(embedder: OnnxModel) -> None:
    texts = ("How do I reset my password?", "I forgot my login details", "A recipe for rye bread")
    question, like, unlike = embedder.run(ready(embedder, [TextRow(text) for text in texts]))
    assert cosine(question, like) > 0.5 > 0.2 > cosine(question, unlike)


@pytest.mark.parametrize("ids", [(7_592, 2_088), (CLS, 7_592, 2_088, SEP)])
def test_ids_with_or_without_special_tokens_are_the_text_they_stand_for(
    embedder: OnnxModel, ids: tuple[int, ...]
) -> None:
    text, tokens = embedder.run(ready(embedder, [TextRow("hello world"), TokensRow(ids)]))
    assert isinstance(tokens, Embedding)
    assert tokens.tokens == 4
    assert cosine(text, tokens) > 0.999999


def test_ids_with_half_of_the_special_tokens_get_all_of_them(embedder: OnnxModel) -> None:
    for ids in ((CLS,), (CLS, 7_592), (7_592, SEP)):
        (row,) = ready(embedder, [TokensRow(ids)])
        assert row.data.tolist() == [CLS, *ids, SEP]


@pytest.mark.parametrize(
    ("ids", "said"),
    [((), "no tokens"), ((5, -1), "-1 is no token id"), ((5, 30_522), "30522 is no token id")],
)
def test_ids_that_are_none_of_the_models_are_refused(
    embedder: OnnxModel, ids: tuple[int, ...], said: str
) -> None:
    error = refusal(embedder, TokensRow(ids))
    assert said in error.message
    assert error.kind is ErrorKind.INVALID_INPUT


@pytest.mark.parametrize("row", [TextRow(LONG), TokensRow((1_996, 2_314) * 200)])
def test_a_row_over_the_limit_is_told_its_tokens_the_limit_and_the_way_out(
    embedder: OnnxModel, row: Row
) -> None:
    error = refusal(embedder, row)
    assert isinstance(error, TooLong)
    assert "402 tokens" in error.message
    assert "256" in error.message
    assert "truncate: true" in error.message


@pytest.mark.parametrize("row", [TextRow(LONG), TokensRow((1_996, 2_314) * 200)])
def test_truncation_keeps_the_first_tokens_and_the_special_ones(
    embedder: OnnxModel, row: Row
) -> None:
    (cut,) = ready(embedder, [row], truncate=True)
    assert cut.length == 256
    assert cut.data.tolist() == [CLS, *[1_996, 2_314] * 127, SEP]
    (output,) = embedder.run([cut])
    assert isinstance(output, Embedding)
    assert output.tokens == 256


def test_a_row_of_exactly_the_limit_is_taken(embedder: OnnxModel) -> None:
    assert ready(embedder, [TokensRow((1_996,) * 254)])[0].length == 256
    assert isinstance(refusal(embedder, TokensRow((1_996,) * 255)), TooLong)


def test_a_very_long_text_is_judged_and_cut_from_its_start_alone(
    embedder: OnnxModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "the river " * 100_000
    seen: list[int] = []
    assert isinstance(embedder.task, Embeddings)
    inner = embedder.task.texts
    tokenizer: Any = inner.tokenizer

    class Watching:
        def encode(self, text: str) -> Any:
            seen.append(len(text))
            return tokenizer.encode(text)

        def encode_batch_fast(self, texts: list[str]) -> Any:
            seen.extend(map(len, texts))
            return tokenizer.encode_batch_fast(texts)

    monkeypatch.setattr(inner, "tokenizer", Watching())
    assert "at least " in refusal(embedder, TextRow(text)).message
    (cut,) = ready(embedder, [TextRow(text)], truncate=True)
    assert cut.data.tolist() == [CLS, *[1_996, 2_314] * 127, SEP]
    assert max(seen) <= texts.GLANCE_CHARACTERS * 256


def test_a_long_text_of_few_tokens_is_taken_unless_it_is_enormous(embedder: OnnxModel) -> None:
    spread = " " * 50_000
    (row,) = ready(embedder, [TextRow(f"hello{spread}world")])
    assert row.data.tolist() == [CLS, 7_592, 2_088, SEP]
    error = refusal(embedder, TextRow("x" * (texts.MAX_CHARACTERS + 1)), truncate=True)
    assert isinstance(error, TooLong)
    assert "100,001 characters" in error.message
    late = " " * 50_000 + "river " * 10_000
    assert ready(embedder, [TextRow(late)], truncate=True)[0].length == 256


@pytest.mark.parametrize("backend", [BackendName.ONNX, BackendName.TORCH])
def test_a_closed_backend_says_so_and_holds_nothing(backend: BackendName) -> None:
    artifact = tiny(Task.CLASSIFICATION, backend)
    kind = OnnxModel if backend is BackendName.ONNX else TorchModel
    model = kind(artifact.folder, artifact.manifest, threads=1)
    rows = ready(model, [TextRow("x")])
    held = weakref.ref(model._graph)
    model.close()
    with pytest.raises(BackendFailed, match="closed"):
        model.run(rows)
    inside = vars(held()).values()
    assert not any(isinstance(one, torch.nn.Module | Runner) for one in inside)
    assert getattr(held(), "_session", None) is None


def test_a_closed_python_model_says_so(tmp_path: Path) -> None:
    backend = PythonModel(user_model(tmp_path))
    rows = ready(backend, [ValueRow(b'{"text": "a"}')])
    backend.close()
    with pytest.raises(BackendFailed, match="closed"):
        backend.run(rows)


def test_a_row_that_can_not_be_run_fails_its_batch_and_not_the_next(text_case: Case) -> None:
    backend = text_case.backend
    rows = ready(backend, text_case.good)
    poison = Tokens(1, np.array([10**9]))  # prepare would have refused it
    with pytest.raises(BackendFailed) as caught:
        backend.run([*rows, poison])
    assert "ind" not in caught.value.message
    assert caught.value.__cause__ is not None
    assert len(backend.run(rows)) == len(rows)


def test_a_manifest_that_promises_other_dimensions_does_not_warm(minilm: Artifact) -> None:
    limits = msgspec.structs.replace(minilm.manifest.text, dimensions=768)
    manifest = msgspec.structs.replace(minilm.manifest, limits=limits)
    backend = OnnxModel(minilm.folder, manifest, threads=1)
    with pytest.raises(ArtifactError, match="doesn't do what its manifest says"):
        backend.warm()


def test_an_artifact_whose_graph_or_tokenizer_is_broken_does_not_load(
    minilm: Artifact, tmp_path: Path
) -> None:
    for name in ("model.onnx", "tokenizer.json"):
        for path in minilm.folder.iterdir():
            (tmp_path / path.name).unlink(missing_ok=True)
            (tmp_path / path.name).symlink_to(path)
        (tmp_path / name).unlink()
        (tmp_path / name).write_bytes(b"{}")
        with pytest.raises(ArtifactError, match=name):
            OnnxModel(tmp_path, minilm.manifest, threads=1)


def test_an_execution_provider_this_machine_lacks_is_named_with_those_it_has(
    minilm: Artifact,
) -> None:
    with pytest.raises(ConfigurationError, match=r"no Nonsense.*CPUExecutionProvider"):
        OnnxModel(minilm.folder, minilm.manifest, threads=1, providers=(("Nonsense", {}),))


def test_a_device_that_is_not_there_is_named() -> None:
    artifact = tiny(Task.CLASSIFICATION, BackendName.TORCH)
    with pytest.raises(ConfigurationError, match=r"PyTorch .* finds .* 'cuda:77' is asked for"):
        TorchModel(artifact.folder, artifact.manifest, threads=1, device="cuda:77")


def test_an_artifact_of_another_backend_does_not_load() -> None:
    tiny(Task.CLASSIFICATION)
    store = ArtifactStore(tiny_home())
    spec = msgspec.structs.replace(
        tiny_spec(Task.CLASSIFICATION), backend=BackendName.TORCH, name="tiny-classification"
    )
    with pytest.raises(ArtifactError, match=r"built with backend 'onnx'.*'torch'"):
        load(spec, store)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
def test_a_torch_artifact_that_is_damaged_does_not_load(tmp_path: Path, name: str) -> None:
    artifact = tiny(Task.CLASSIFICATION, BackendName.TORCH)
    for path in artifact.folder.iterdir():
        (tmp_path / path.name).symlink_to(path)
    (tmp_path / name).unlink()
    (tmp_path / name).write_bytes(b"{}")
    with pytest.raises(ArtifactError, match=name):
        TorchModel(tmp_path, artifact.manifest, threads=1)


@pytest.mark.slow
def test_nothing_is_compiled_once_rows_are_served(
    torch_model: Callable[[Task, bool], TorchModel],
) -> None:
    model = torch_model(*COMPILED)
    before = counters["stats"]["unique_graphs"]
    assert before > 0
    for words in (1, 5, 11, 30, 55):
        for rows in (1, 2, 3, 5, 8):
            model.run(ready(model, [TextRow("it " * words)] * rows))
    assert counters["stats"]["unique_graphs"] == before


class TestLoad:
    def test_gives_the_backend_that_the_spec_names(self, minilm_home: Path) -> None:
        store = ArtifactStore(minilm_home)
        assert isinstance(load(minilm_spec(), store), OnnxModel)
        echo = ModelSpec(task=Task.ECHO, backend=BackendName.ECHO, name="echo")
        assert isinstance(load(echo, store), Echo)

    def test_a_python_model_is_described_in_the_stores_home_once_it_is_warm(
        self, tmp_path: Path
    ) -> None:
        spec = user_model(tmp_path)
        backend = load(spec, ArtifactStore(tmp_path / "home"))
        backend.warm()
        told = Descriptions(tmp_path / "home").read("words", source=spec.source)
        assert told is not None
        assert told.version == backend.version

    @pytest.mark.parametrize(
        ("field", "value"), [("source", "elsewhere"), ("precision", Precision.FP32)]
    )
    def test_refuses_an_artifact_built_for_something_else(
        self, minilm_home: Path, field: str, value: Any
    ) -> None:
        spec = msgspec.structs.replace(minilm_spec(), **{field: value})
        with pytest.raises(ArtifactError, match=f"built with {field}.*forebay models build minilm"):
            load(spec, ArtifactStore(minilm_home))

    def test_says_what_to_run_where_nothing_is_built(self, tmp_path: Path) -> None:
        with pytest.raises(ArtifactError, match="run `forebay models build minilm`"):
            load(minilm_spec(), ArtifactStore(tmp_path))
