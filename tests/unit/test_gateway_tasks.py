"""The predictions dialect on classifiers: inputs to rows, outputs as pipelines tell them."""

import struct
from typing import Any

import msgspec
import pytest

from forebay.contract.errors import ForebayError, InvalidInput
from forebay.contract.model import BackendName, ModelSpec
from forebay.contract.rows import (
    DEFAULT_OPTIONS,
    Aggregation,
    Classes,
    Entailment,
    Function,
    Options,
    Output,
    PairRow,
    Span,
    Spans,
    Task,
    TextRow,
)
from forebay.gateway import zero_shot
from forebay.gateway.dialects.replicate.inputs import Asked, rows_of
from forebay.gateway.dialects.replicate.outputs import is_single, output_of
from forebay.gateway.http import to_json
from forebay.gateway.pairs import MAX_PAIRED_CHARACTERS

BEST = {"label": "good", "score": 0.75}
OTHER = {"label": "bad", "score": 0.25}
A, B = TextRow("a"), TextRow("b")


def asked(task: Task, given: Any, *, most: int = 6) -> Asked:
    spec = ModelSpec(task, BackendName.ONNX, source="x", name="m")
    return rows_of(spec, msgspec.Raw(msgspec.json.encode(given)), most=most)


def told(given: Any, *outputs: Output) -> Any:
    """What a client reads, right after the request and any time later."""
    single = is_single(None, given)
    later = output_of(outputs, given, single=single)
    at_once = output_of(outputs, msgspec.Raw(msgspec.json.encode(given)), single=single)
    assert at_once == later
    return msgspec.json.decode(to_json(later))


def classes(*labels: dict[str, Any]) -> Classes:
    scores = struct.pack(f"<{len(labels)}f", *(label["score"] for label in labels))
    return Classes(tuple(label["label"] for label in labels), scores, 3)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"text": "a"}, Asked((A,), single=True)),
        ({"text": ["a", "b"], "truncate": True}, Asked((A, B), single=False, truncate=True)),
        ({"text": "a", "pair": "b"}, Asked((PairRow("a", "b"),), single=True)),
        ({"text": ["a"], "pair": ["b"]}, Asked((PairRow("a", "b"),), single=False)),
        (
            {"text": "a", "pair": ["b", "c"]},
            Asked((PairRow("a", "b"), PairRow("a", "c")), single=False),
        ),
        (
            {"text": "a", "top_k": 2, "function_to_apply": "none"},
            Asked((A,), single=True, options=Options(top_k=2, function=Function.NONE)),
        ),
        ({"text": "a", "top_k": None}, Asked((A,), single=True, options=Options(top_k=0))),
    ],
)
def test_a_classifier_takes_texts_and_pairs(given: Any, expected: Asked) -> None:
    assert asked(Task.CLASSIFICATION, given) == expected
    assert is_single(Task.CLASSIFICATION, given) is expected.single


@pytest.mark.parametrize(
    ("task", "given", "param"),
    [
        (Task.CLASSIFICATION, {"pair": "a"}, "input.text"),
        (Task.CLASSIFICATION, {"text": "a", "pair": ""}, "input.pair"),
        (Task.CLASSIFICATION, {"text": "a", "pair": []}, "input.pair"),
        (Task.CLASSIFICATION, {"text": ["a", "b"], "pair": ["c"]}, "input.pair"),
        (Task.CLASSIFICATION, {"text": ["a"], "pair": "c" * 7}, None),
        (Task.CLASSIFICATION, {"text": "a", "pair": ["c"] * 7}, "input.pair"),
        (Task.CLASSIFICATION, {"text": "a", "top_k": 0}, "input.top_k"),
        (
            Task.CLASSIFICATION,
            {"text": "a", "function_to_apply": "tanh"},
            "input.function_to_apply",
        ),
        (Task.CLASSIFICATION, {"text": "a", "labels": ["b"]}, "input.labels"),
        (Task.RERANKING, {"text": "a"}, "input.pair"),
        (Task.RERANKING, {}, "input.text"),
        (Task.RERANKING, ["a"], "input"),
        (Task.RERANKING, {"query": "a"}, "input.documents"),
        (Task.RERANKING, {"documents": ["a"]}, "input.query"),
        (Task.RERANKING, {"query": "", "documents": ["a"]}, "input.query"),
        (Task.RERANKING, {"query": "a", "documents": []}, "input.documents"),
        (Task.RERANKING, {"query": "a", "documents": "b"}, "input.documents"),
        (Task.RERANKING, {"query": "a", "documents": ["b", ""]}, "input.documents[1]"),
        (Task.RERANKING, {"query": "a", "documents": ["b"] * 7}, "input.documents"),
        (Task.RERANKING, {"query": "a", "documents": ["b"], "top_n": 0}, "input.top_n"),
        (Task.RERANKING, {"query": "a", "documents": ["b"], "text": "c"}, "input.text"),
        (Task.CLASSIFICATION, {"query": "a", "documents": ["b"]}, "input.query"),
        (Task.TOKEN_CLASSIFICATION, {"text": "a", "pair": "b"}, "input.pair"),
        (
            Task.TOKEN_CLASSIFICATION,
            {"text": "a", "aggregation_strategy": "max"},
            "input.aggregation_strategy",
        ),
        (Task.ZERO_SHOT, {"text": "a"}, "input.labels"),
        (Task.ZERO_SHOT, {"text": "a", "labels": []}, "input.labels"),
        (Task.ZERO_SHOT, {"text": "a", "labels": ["b", ""]}, "input.labels[1]"),
        (Task.ZERO_SHOT, {"text": "a", "labels": " , "}, "input.labels"),
        (Task.ZERO_SHOT, {"text": ["a"] * 4, "labels": ["b", "c"]}, "input.labels"),
        (
            Task.ZERO_SHOT,
            {"text": "a", "labels": ["b"], "hypothesis_template": "no {label}"},
            "input.hypothesis_template",
        ),
    ],
)
def test_a_wrong_input_names_the_field(task: Task, given: Any, param: str | None) -> None:
    if param is None:
        assert len(asked(task, given).rows) == 1
        return
    with pytest.raises(InvalidInput) as refused:
        asked(task, given)
    assert refused.value.param == param


def test_a_text_that_would_be_sent_too_often_is_refused() -> None:
    text = "x" * (MAX_PAIRED_CHARACTERS // 5)
    for task, given in (
        (Task.RERANKING, {"text": text, "pair": ["a"] * 6}),
        (Task.RERANKING, {"query": text, "documents": ["a"] * 6}),
        (Task.ZERO_SHOT, {"text": text, "labels": ["a"] * 6}),
    ):
        with pytest.raises(InvalidInput, match="send fewer at a time"):
            asked(task, given)


def test_a_template_is_only_ever_filled_in() -> None:
    rows = zero_shot.questions("a", ["{b}", "c"], "{0.__class__} {:>9} {}!")
    assert rows[0].pair == "{0.__class__} {:>9} {b}!"


def test_zero_shot_asks_once_for_each_label_and_text() -> None:
    given = {"text": ["a", "b"], "labels": "c, d", "hypothesis_template": "{}?"}
    assert asked(Task.ZERO_SHOT, given) == Asked(
        tuple(PairRow(text, pair) for text in "ab" for pair in ("c?", "d?")), single=False
    )


def test_labelled_tokens_may_be_grouped() -> None:
    given = {"text": "a", "aggregation_strategy": "simple"}
    assert asked(Task.TOKEN_CLASSIFICATION, given).options == Options(
        aggregation=Aggregation.SIMPLE
    )
    assert asked(Task.TOKEN_CLASSIFICATION, {"text": "a"}).options == DEFAULT_OPTIONS


@pytest.mark.parametrize(
    ("given", "rows", "expected"),
    [
        ({"text": "a"}, [[BEST]], [BEST]),
        ({"text": ["a", "b"]}, [[BEST], [OTHER]], [BEST, OTHER]),
        ({"text": ["a"]}, [[BEST]], [BEST]),
        ({"text": "a", "top_k": None}, [[BEST, OTHER]], [BEST, OTHER]),
        ({"text": "a", "top_k": 1}, [[BEST]], [BEST]),
        ({"text": ["a", "b"], "top_k": 1}, [[BEST], [OTHER]], [[BEST], [OTHER]]),
        ({"text": "a", "pair": "b"}, [[BEST]], BEST),
        ({"text": "a", "pair": "b", "top_k": 2}, [[BEST, OTHER]], [BEST, OTHER]),
        ({"text": "a", "pair": ["b", "c"]}, [[BEST], [OTHER]], [BEST, OTHER]),
    ],
)
def test_classes_are_told_as_the_pipeline_tells_them(
    given: Any, rows: list[list[dict[str, Any]]], expected: Any
) -> None:
    assert told(given, *(classes(*row) for row in rows)) == expected


@pytest.mark.parametrize("documents", [["b", "c"], [{"text": "b"}, "c"]])
def test_a_reranker_takes_a_query_and_documents(documents: list[Any]) -> None:
    given = {"query": "a", "documents": documents, "top_n": 1, "truncate": True}
    expected = Asked((PairRow("a", "b"), PairRow("a", "c")), single=False, truncate=True)
    assert asked(Task.RERANKING, given) == expected
    assert not is_single(Task.RERANKING, given)


def test_a_reranker_takes_pairs_of_texts_as_before() -> None:
    given = {"text": "a", "pair": ["b"], "top_k": None}
    expected = Asked((PairRow("a", "b"),), single=False, options=Options(top_k=0))
    assert asked(Task.RERANKING, given) == expected


def test_documents_are_told_the_best_first_and_the_earlier_of_two_as_good() -> None:
    given = {"query": "a", "documents": ["b", "c", "d"]}
    rows = [classes({"label": "LABEL_0", "score": score}) for score in (0.25, 0.75, 0.25)]
    best = {"index": 1, "relevance_score": 0.75}
    others = [{"index": 0, "relevance_score": 0.25}, {"index": 2, "relevance_score": 0.25}]
    assert told(given, *rows) == [best, *others]
    assert told({**given, "top_n": 1}, *rows) == [best]
    assert told({**given, "top_n": None}, *rows) == [best, *others]
    assert told({"query": "a", "documents": ["b"]}, rows[1]) == [
        {"index": 0, "relevance_score": 0.75}
    ]


def test_what_is_no_relevance_is_no_order() -> None:
    given = {"query": "a", "documents": ["b"]}
    with pytest.raises(ForebayError, match="no relevance"):
        told(given, classes(BEST, OTHER))


def test_spans_are_told_as_the_pipeline_tells_them() -> None:
    token = Spans((Span("B-PER", 0.5, "Ada", 0, 3, 1),), 3)
    group = Spans((Span("PER", 0.5, "Ada", 0, 3),), 3)
    assert told({"text": "Ada"}, token) == [
        {"entity": "B-PER", "score": 0.5, "index": 1, "word": "Ada", "start": 0, "end": 3}
    ]
    assert told({"text": ["Ada", "it"]}, group, Spans((), 2)) == [
        [{"entity_group": "PER", "score": 0.5, "word": "Ada", "start": 0, "end": 3}],
        [],
    ]


def test_rankings_are_told_as_the_pipeline_tells_them() -> None:
    answers = (Entailment(0.0, 0.0, 5), Entailment(0.0, -1000.0, 5))
    even = {"sequence": "a", "labels": ["b", "c"], "scores": [0.5, 0.5]}
    each = {"sequence": "a", "labels": ["c", "b"], "scores": [1.0, 0.5]}
    assert told({"text": "a", "labels": ["b", "c"]}, *answers) == even
    assert told({"text": "a", "labels": "b,c", "multi_label": True}, *answers) == each
    assert told({"text": ["a", "a"], "labels": ["b"]}, *answers) == [
        {"sequence": "a", "labels": ["b"], "scores": [0.5]},
        {"sequence": "a", "labels": ["b"], "scores": [1.0]},
    ]
