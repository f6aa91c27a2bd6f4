"""From a Hugging Face folder to answers, for each family and task: those of transformers' pipeline.

The models are tiny and of random weights; their tokenizers are trained on the build's own texts.
"""

import logging
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from forebay.build import bars, pipeline
from forebay.contract.errors import BuildFailed
from forebay.contract.model import BackendName, ModelSpec, Precision
from forebay.contract.rows import (
    DEFAULT_OPTIONS,
    Aggregation,
    Classes,
    Entailment,
    Function,
    Options,
    Output,
    PairRow,
    Row,
    Spans,
    Task,
    TextRow,
)
from forebay.gateway import zero_shot
from forebay.inference.backends.base import Backend, PreparedRow
from forebay.inference.backends.load import load
from forebay.storage.artifacts import ArtifactStore
from tests.fixtures.families import FAMILIES, save

TOLERANCE = 1e-4

TEXTS = (
    "The river runs to the sea.",
    "it",
    "Ada Lovelace met Babbage in London — naïve? 世界 🙂",
    "A turbine takes water as it comes. " * 2,
)
LONG = "The queue holds what nobody has had time for yet. " * 40
PAIRS = (
    ("What runs to the sea?", "The river runs to the sea, as rivers do."),
    ("it", "is"),
    ("Who met Babbage?", "Ada Lovelace met him in London, in 1833."),
)
TAGS = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")


class Made(msgspec.Struct, frozen=True):
    """A source, and what serves the artifact built of it."""

    folder: Path
    backend: Backend
    store: ArtifactStore


def spec_of(task: Task, folder: Path, precision: Precision = Precision.FP32) -> ModelSpec:
    return ModelSpec(
        task=task,
        backend=BackendName.ONNX,
        source=str(folder),
        precision=precision,
        threads=1,
        name="tiny",
    )


def made(task: Task, folder: Path, home: Path, precision: Precision = Precision.FP32) -> Made:
    spec, store = spec_of(task, folder, precision), ArtifactStore(home)
    pipeline.build(spec, store)
    backend = load(spec, store)
    backend.warm()
    return Made(folder, backend, store)


def answers(
    backend: Backend,
    rows: Sequence[Row],
    *,
    truncate: bool = False,
    options: Options = DEFAULT_OPTIONS,
) -> list[Output]:
    prepared = backend.prepare(rows, truncate=truncate, options=options)
    ready = [row for row in prepared if isinstance(row, PreparedRow)]
    assert len(ready) == len(rows), prepared
    return backend.run(ready)


def reference(task: str, folder: Path) -> Any:
    from transformers import pipeline as of_transformers

    made: Any = of_transformers
    return made(task, model=str(folder), device="cpu")


def told(output: Output) -> list[dict[str, Any]]:
    assert isinstance(output, Classes)
    scores = struct.unpack(f"<{len(output.labels)}f", output.scores)
    return [{"label": label, "score": s} for label, s in zip(output.labels, scores, strict=True)]


def same(got: Sequence[dict[str, Any]], expected: Sequence[dict[str, Any]]) -> None:
    """Scores within the tolerance, all else equal."""
    assert len(got) == len(expected)
    for one, other in zip(got, expected, strict=True):
        assert one["score"] == pytest.approx(float(other["score"]), abs=TOLERANCE)
        assert {**one, "score": 0} == {**other, "score": 0}


@pytest.fixture(autouse=True)
def no_chatter() -> Iterator[None]:
    """What transformers says about its own pipelines is not this suite's business."""
    from transformers.utils import logging as own

    quiet: Any = own
    before = quiet.get_verbosity()
    quiet.set_verbosity(logging.CRITICAL)
    quiet.disable_progress_bar()
    yield
    quiet.set_verbosity(before)


@pytest.fixture(scope="module", params=FAMILIES)
def classifier(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = save(
        request.param,
        "SequenceClassification",
        tmp_path_factory.mktemp(request.param),
        labels=("bad", "so-so", "good"),
    )
    return made(Task.CLASSIFICATION, folder, tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module", params=FAMILIES)
def tagger(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = save(
        request.param,
        "TokenClassification",
        tmp_path_factory.mktemp(request.param),
        labels=TAGS,
    )
    return made(Task.TOKEN_CLASSIFICATION, folder, tmp_path_factory.mktemp("home"))


@pytest.mark.slow
class TestEveryFamilyClassifies:
    def test_texts_as_the_pipeline_does(self, classifier: Made) -> None:
        expected = reference("text-classification", classifier.folder)
        rows = [TextRow(text) for text in TEXTS]
        outputs = answers(classifier.backend, rows, options=Options(top_k=0))
        assert len({output.labels for output in outputs if isinstance(output, Classes)}) >= 1
        for text, output in zip(TEXTS, outputs, strict=True):
            same(told(output), expected(text, top_k=None))

    def test_pairs_as_the_pipeline_does(self, classifier: Made) -> None:
        expected = reference("text-classification", classifier.folder)
        outputs = answers(classifier.backend, [PairRow(*pair) for pair in PAIRS])
        for (text, pair), output in zip(PAIRS, outputs, strict=True):
            same(told(output), [expected({"text": text, "text_pair": pair})])

    @pytest.mark.parametrize(
        ("text", "pair"),
        [(LONG, "short"), ("short", LONG), (LONG, LONG), ("four words are here " * 9, LONG)],
    )
    def test_pairs_that_are_cut_as_the_pipeline_does(
        self, classifier: Made, text: str, pair: str
    ) -> None:
        expected = reference("text-classification", classifier.folder)
        (output,) = answers(classifier.backend, [PairRow(text, pair)], truncate=True)
        same(told(output), [expected({"text": text, "text_pair": pair}, truncation=True)])
        assert isinstance(output, Classes)
        assert output.tokens == 64

    def test_a_text_that_is_cut_as_the_pipeline_does(self, classifier: Made) -> None:
        expected = reference("text-classification", classifier.folder)
        (output,) = answers(classifier.backend, [TextRow(LONG)], truncate=True)
        same(told(output), expected(LONG, truncation=True))


@pytest.mark.slow
class TestEveryFamilyLabelsTokens:
    @pytest.mark.parametrize("aggregation", Aggregation)
    def test_as_the_pipeline_does(self, tagger: Made, aggregation: Aggregation) -> None:
        expected = reference("token-classification", tagger.folder)
        options = Options(aggregation=aggregation)
        texts = (*TEXTS, LONG)
        outputs = answers(
            tagger.backend, [TextRow(text) for text in texts], truncate=True, options=options
        )
        found = 0
        for text, output in zip(texts, outputs, strict=True):
            assert isinstance(output, Spans)
            spans = msgspec.to_builtins(output.spans)
            names = ("entity", "score", "word", "start", "end", "index")
            dicts = [dict(zip(names, span, strict=True)) for span in spans]
            if aggregation is Aggregation.SIMPLE:
                dicts = [
                    {"entity_group": one["entity"], **{k: one[k] for k in names[1:5]}}
                    for one in dicts
                ]
            same(dicts, expected(text, aggregation_strategy=aggregation.value))
            found += len(dicts)
        assert found > 0


@pytest.mark.parametrize(
    ("labels", "config", "function"),
    [
        (("relevance",), {}, Function.SIGMOID),
        (("a", "b", "c"), {"problem_type": "multi_label_classification"}, Function.SIGMOID),
        (("stars",), {"problem_type": "regression"}, Function.NONE),
        (("a", "b"), {}, Function.SOFTMAX),
    ],
)
def test_scores_are_made_as_the_configuration_says(
    tmp_path: Path, labels: tuple[str, ...], config: dict[str, Any], function: Function
) -> None:
    folder = save("bert", "SequenceClassification", tmp_path / "m", labels=labels, **config)
    one = made(Task.CLASSIFICATION, folder, tmp_path / "home")
    head = one.store.open("tiny").manifest.head
    assert head is not None
    assert (head.labels, head.function) == (labels, function)
    expected = reference("text-classification", folder)
    for asked in (None, *Function):
        options = Options(top_k=0, function=asked)
        for text in TEXTS:
            (output,) = answers(one.backend, [TextRow(text)], options=options)
            kwargs = {} if asked is None else {"function_to_apply": asked.value}
            same(told(output), expected(text, top_k=None, **kwargs))


def test_a_reranker_scores_pairs_and_takes_nothing_else(tmp_path: Path) -> None:
    folder = save("bert", "SequenceClassification", tmp_path / "m", labels=("LABEL_0",))
    one = made(Task.RERANKING, folder, tmp_path / "home")
    expected = reference("text-classification", folder)
    outputs = answers(one.backend, [PairRow(*pair) for pair in PAIRS])
    for (text, pair), output in zip(PAIRS, outputs, strict=True):
        same(told(output), [expected({"text": text, "text_pair": pair})])
    (refused,) = one.backend.prepare([TextRow("a")], truncate=False)
    assert not isinstance(refused, PreparedRow)


@pytest.mark.slow
@pytest.mark.parametrize(
    "labels",
    [
        ("CONTRADICTION", "NEUTRAL", "ENTAILMENT"),
        ("entailment", "neutral", "contradiction"),
        ("entailment", "not_entailment"),
    ],
)
def test_zero_shot_ranks_labels_as_the_pipeline_does(
    tmp_path: Path, labels: tuple[str, ...]
) -> None:
    folder = save("bert", "SequenceClassification", tmp_path / "m", labels=labels)
    one = made(Task.ZERO_SHOT, folder, tmp_path / "home")
    expected = reference("zero-shot-classification", folder)
    names = ["water", "databases", "people in London"]
    for text in (*TEXTS, LONG):
        for template in (zero_shot.TEMPLATE, "This is about {}, is it not?"):
            for asked, multi in ((names, False), (names, True), (names[:1], False)):
                rows = zero_shot.questions(text, asked, template)
                outputs = answers(one.backend, rows, truncate=True)
                entailments = [o for o in outputs if isinstance(o, Entailment)]
                got = zero_shot.ranking(text, asked, entailments, multi_label=multi)
                other = expected(
                    text, candidate_labels=asked, hypothesis_template=template, multi_label=multi
                )
                assert (got.sequence, got.labels) == (text, other["labels"])
                assert got.scores == pytest.approx(other["scores"], abs=TOLERANCE)


@pytest.mark.slow
@pytest.mark.parametrize("task", [Task.CLASSIFICATION, Task.TOKEN_CLASSIFICATION])
def test_eight_bits_agree_with_full_precision_and_rows_do_not_disturb_one_another(
    tmp_path: Path, task: Task
) -> None:
    head = "Token" if task is Task.TOKEN_CLASSIFICATION else "Sequence"
    folder = save("bert", f"{head}Classification", tmp_path / "m", labels=("O", "B-X", "I-X"))
    built = pipeline.build(spec_of(task, folder, Precision.INT8), ArtifactStore(tmp_path / "home"))
    agreement = built.report.agreement
    assert agreement is not None
    assert built.report.accuracy is None
    assert agreement.same >= bars.MIN_SAME
    assert 0 < agreement.mean_difference <= bars.MAX_MEAN_DIFFERENCE
    assert agreement.variance <= bars.MAX_VARIANCE
    assert built.report.bytes < built.report.fp32_bytes


@pytest.mark.parametrize(
    ("task", "labels", "said"),
    [
        (Task.RERANKING, ("a", "b"), "has 2 labels, and a reranker has one"),
        (Task.ZERO_SHOT, ("a", "b"), "must start with 'entail'"),
        (
            Task.TOKEN_CLASSIFICATION,
            ("a", "b"),
            r"is of a DistilBertForSequenceClassification, and .* ForTokenClassification",
        ),
    ],
)
def test_a_model_that_is_not_for_the_task_is_refused_with_the_reason(
    tmp_path: Path, task: Task, labels: tuple[str, ...], said: str
) -> None:
    folder = save("distilbert", "SequenceClassification", tmp_path / "m", labels=labels)
    with pytest.raises(BuildFailed, match=said):
        pipeline.build(spec_of(task, folder), ArtifactStore(tmp_path / "home"))


def test_a_model_that_decodes_is_refused(tmp_path: Path) -> None:
    import transformers

    library: Any = transformers
    folder = save("bert", "SequenceClassification", tmp_path / "m", labels=("a", "b"))
    library.BartConfig(vocab_size=600, d_model=16).save_pretrained(folder)
    with pytest.raises(BuildFailed, match="'bart' that decodes"):
        pipeline.build(spec_of(Task.CLASSIFICATION, folder), ArtifactStore(tmp_path / "home"))
