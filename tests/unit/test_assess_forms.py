"""Data files: what their lines look like, what is wrong with one, and what is counted."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from forebay.assess import lines as lines_module
from forebay.assess.chance import differences
from forebay.assess.comparison import compare, read
from forebay.assess.evaluation import Evaluation, evaluate
from forebay.assess.forms.base import Example
from forebay.assess.forms.likeness import Pairs
from forebay.assess.forms.values import same
from forebay.assess.lines import Lines
from forebay.assess.local import Answer
from forebay.contract.errors import InvalidInput, TooLong, Unavailable
from forebay.contract.rows import Task


class Told:
    """Answers what it was made with, in order; errors too."""

    version = "told"

    def __init__(self, *outputs: Any) -> None:
        self._outputs = iter(outputs)
        self.inputs: list[dict[str, Any]] = []

    def answers(self, examples: Iterable[Example]) -> Iterator[tuple[Example, Answer]]:
        for example in examples:
            self.inputs.append(example.input)
            output = next(self._outputs)
            failed = isinstance(output, Exception)
            yield example, Answer(error=output) if failed else Answer(output)


def file_of(folder: Path, *rows: Any) -> Path:
    path = folder / "data.jsonl"
    text = "\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows)
    path.write_text(text + "\n")
    return path


def evaluated(task: Task, path: Path, told: Told, **options: Any) -> Evaluation:
    return evaluate("m", task, told, Lines(path), through="a test", **options)


def figures(found: Evaluation) -> dict[str, float]:
    return {figure.measure: figure.value for figure in found.figures}


def classes(*labels: str) -> list[dict[str, Any]]:
    return [{"label": label, "score": 0.9 / 2**place} for place, label in enumerate(labels)]


def test_one_label_a_row(tmp_path: Path) -> None:
    path = file_of(
        tmp_path,
        {"text": "a", "label": "x"},
        "",
        {"text": "b", "pair": "c", "label": "y"},
        {"text": "d", "label": "y"},
    )
    told = Told(classes("x", "y"), classes("y", "x"), classes("x", "y"))
    found = evaluated(Task.CLASSIFICATION, path, told)
    assert told.inputs[1] == {"text": "b", "pair": "c", "top_k": None, "truncate": False}
    assert (found.examples, found.refused, found.form) == (3, 0, "label")
    assert figures(found)["accuracy"] == pytest.approx(2 / 3)
    assert figures(found)["ECE"] == pytest.approx(0.9 - 2 / 3)
    assert [(one.label, one.support) for one in found.details.labels] == [("x", 1), ("y", 2)]
    (confusion,) = found.details.confusions
    assert (confusion.truth, confusion.predicted, confusion.rows) == ("y", "x", 1)


def test_scores_that_are_no_shares_have_no_calibration(tmp_path: Path) -> None:
    path = file_of(tmp_path, {"text": "a", "label": "x"})
    found = evaluated(Task.CLASSIFICATION, path, Told([{"label": "x", "score": 7.5}]))
    assert figures(found) == {"accuracy": 1, "macro F1": 1}


def test_several_labels_a_row(tmp_path: Path) -> None:
    path = file_of(tmp_path, {"text": "a", "labels": ["x", "y"]}, {"text": "b", "labels": []})
    scored = [{"label": "x", "score": 0.8}, {"label": "y", "score": 0.2}]
    quiet = [{"label": "x", "score": 0.1}, {"label": "y", "score": 0.2}]
    found = evaluated(Task.CLASSIFICATION, path, Told(scored, quiet))
    assert figures(found) == pytest.approx(
        {"micro F1": 2 / 3, "macro F1": 0.5, "all labels right": 0.5}
    )


def test_zero_shot_brings_its_labels(tmp_path: Path) -> None:
    row = {"text": "a", "candidate_labels": ["x", "y"], "label": "y"}
    told = Told({"sequence": "a", "labels": ["y", "x"], "scores": [0.7, 0.3]})
    found = evaluated(Task.ZERO_SHOT, file_of(tmp_path, row), told, truncate=True)
    asked = {"text": "a", "labels": ("x", "y"), "multi_label": False, "truncate": True}
    assert told.inputs == [asked]
    assert figures(found)["accuracy"] == 1


def test_entities_of_texts_and_of_tags(tmp_path: Path) -> None:
    path = file_of(
        tmp_path,
        {"text": "Ada met him", "entities": [{"entity": "PER", "start": 0, "end": 3}]},
        {"tokens": ["to", "York"], "tags": ["O", "B-LOC"]},
    )
    told = Told(
        [
            {"entity_group": "PER", "start": 0, "end": 3},
            {"entity_group": "PER", "start": 4, "end": 7},
        ],
        [{"entity_group": "PER", "start": 3, "end": 7}],
    )
    found = evaluated(Task.TOKEN_CLASSIFICATION, path, told)
    assert told.inputs[1]["text"] == "to York"
    assert figures(found) == pytest.approx({"F1": 2 / 5, "precision": 1 / 3, "recall": 1 / 2})
    assert {one.label: one.support for one in found.details.labels} == {"PER": 1, "LOC": 1}


def test_rankings_by_places_and_by_grades(tmp_path: Path) -> None:
    documents = ["a", "b", "c"]
    path = file_of(
        tmp_path,
        {"query": "q", "documents": documents, "relevant": [2]},
        {"query": "q", "documents": documents, "relevance": [0, 3, 1]},
    )
    order = [{"index": place} for place in (1, 2, 0)]
    found = evaluated(Task.RERANKING, path, Told(order, order))
    assert figures(found)["MRR"] == pytest.approx((1 / 2 + 1) / 2)
    assert figures(found)["MAP"] == pytest.approx((1 / 2 + 1) / 2)
    assert found.columns["NDCG@10"] == pytest.approx([1 / np.log2(3), 1.0])


def test_an_embedding_model_orders_documents_by_cosine(tmp_path: Path) -> None:
    path = file_of(tmp_path, {"query": "q", "documents": ["a", "b"], "relevant": [1]})
    told = Told([[2, 0], [-5, 0.1], [1, 1]])
    found = evaluated(Task.EMBEDDING, path, told)
    assert told.inputs == [{"text": ["q", "a", "b"], "truncate": False}]
    assert figures(found) == {"NDCG@10": 1, "MRR": 1, "MAP": 1}
    assert (found.examples, found.rows) == (1, 3)


def test_pairs_and_triplets_of_vectors(tmp_path: Path) -> None:
    rows = [{"text": "a", "pair": "b", "score": score} for score in (0, 3, 5)]
    vectors = ([[1, 0], [0, 1]], [[1, 0], [1, 1]], [[1, 0], [2, 0]])
    found = evaluated(Task.EMBEDDING, file_of(tmp_path, *rows), Told(*vectors))
    assert figures(found)["Spearman"] == pytest.approx(1)
    for alone in (rows[:1], [rows[0]] * 2):
        found = evaluated(Task.EMBEDDING, file_of(tmp_path, *alone), Told(*vectors))
        assert (found.figures, found.undefined) == ((), ("Spearman", "Pearson"))
        assert differences(Pairs.measures, found.table(), found.table()) == []
    row = {"anchor": "a", "positive": "b", "negative": "c"}
    told = Told([[1, 0], [1, 1], [0, 1]], [[1, 0], [0, 1], [1, 1]])
    found = evaluated(Task.EMBEDDING, file_of(tmp_path, row, row), told)
    assert figures(found)["accuracy"] == 0.5


def test_values_are_the_same_within_a_tolerance(tmp_path: Path) -> None:
    rows = [{"input": {"x": 1}, "output": [1.0, "a"]}, {"input": {"x": 2}, "output": None}]
    found = evaluated(
        Task.PYTHON, file_of(tmp_path, *rows), Told([1.001, "a"], None), tolerance=0.01
    )
    assert figures(found) == {"exact match": 1}
    told = Told(5)
    evaluated(Task.ECHO, file_of(tmp_path, {"input": 5, "output": 5}), told)
    assert told.inputs == [{"value": 5}]


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        (1, 1.0, True),
        (True, 1, False),
        (True, True, True),
        ({"a": [1]}, {"a": [1.05]}, True),
        ({"a": 1}, {"b": 1}, False),
        ([1], [1, 2], False),
        ("1", 1, False),
        (None, False, False),
    ],
)
def test_what_is_the_same(one: object, other: object, equal: bool) -> None:
    assert same(one, other, tolerance=0.1) is equal


@pytest.mark.parametrize(
    ("task", "row", "why"),
    [
        (Task.CLASSIFICATION, "{", "line 1"),
        (Task.CLASSIFICATION, "[]", "Expected `object`"),
        (Task.CLASSIFICATION, {"text": "a"}, "needs `label`"),
        (Task.CLASSIFICATION, {"text": "a", "label": "x", "tag": 1}, "unknown field `tag`"),
        (Task.CLASSIFICATION, {"text": 7, "label": "x"}, r"\$.text"),
        (Task.CLASSIFICATION, {"text": "a", "label": "x", "candidate_labels": ["x"]}, "zero-shot"),
        (Task.ZERO_SHOT, {"text": "a", "label": "x"}, "candidate_labels"),
        (Task.TOKEN_CLASSIFICATION, {"text": "a"}, "`tokens` and `tags`"),
        (Task.TOKEN_CLASSIFICATION, {"tokens": ["a"], "tags": ["O", "O"]}, "1 tokens and 2 tags"),
        (Task.TOKEN_CLASSIFICATION, {"tokens": ["a"], "tags": ["PER"]}, "'PER' is no tag"),
        (
            Task.TOKEN_CLASSIFICATION,
            {"text": "a", "entities": [{"entity": "X", "start": 0, "end": 2}]},
            "no characters 0 to 2",
        ),
        (Task.RERANKING, {"query": "q", "documents": ["a"]}, "`relevant`"),
        (Task.RERANKING, {"query": "q", "documents": ["a"], "relevant": [1]}, "no document 1"),
        (Task.RERANKING, {"query": "q", "documents": ["a"], "relevant": []}, "none of its"),
        (Task.RERANKING, {"query": "q", "documents": ["a"], "relevance": [1, 2]}, "2 grades"),
        (Task.EMBEDDING, {"text": "a", "pair": "b"}, "score"),
        (Task.PYTHON, {"input": {}}, "output"),
    ],
)
def test_a_wrong_line_is_named_with_what_is_wrong(
    task: Task, row: Any, why: str, tmp_path: Path
) -> None:
    path = file_of(tmp_path, row)
    with pytest.raises(InvalidInput, match=why) as raised:
        evaluated(task, path, Told())
    assert raised.value.message.startswith(f"{path}, line 1: ")


def test_a_label_that_the_model_does_not_have_is_named_with_its_line(tmp_path: Path) -> None:
    path = file_of(tmp_path, {"text": "a", "label": "x"}, "", {"text": "b", "label": "z"})
    told = Told(classes("x", "y"), classes("x", "y"))
    with pytest.raises(InvalidInput, match=r"line 3: 'z' is none of this model's labels: 'x', 'y'"):
        evaluated(Task.CLASSIFICATION, path, told)


def test_what_the_model_refuses_is_left_out_and_told(tmp_path: Path) -> None:
    path = file_of(tmp_path, *[{"text": "a", "label": "x"}] * 2)
    found = evaluated(Task.CLASSIFICATION, path, Told(TooLong("too long"), classes("x")))
    assert (found.examples, found.refused, found.lines) == (1, 1, [2])
    assert (found.refusals[0].line, found.refusals[0].error) == (1, "too long")
    with pytest.raises(InvalidInput, match=r"No row .* line 1: too long"):
        evaluated(Task.CLASSIFICATION, path, Told(TooLong("too long"), TooLong("too long")))
    with pytest.raises(Unavailable):
        evaluated(Task.CLASSIFICATION, path, Told(Unavailable("nobody there")))


def test_files_that_are_none_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidInput, match="can't be read"):
        Lines(tmp_path / "none.jsonl")
    empty = file_of(tmp_path, "")
    with pytest.raises(InvalidInput, match="no rows"):
        evaluated(Task.ECHO, empty, Told())
    monkeypatch.setattr(lines_module, "MAX_BYTES", 10)
    with pytest.raises(InvalidInput, match="line 2: it has more than 10 bytes"):
        list(Lines(file_of(tmp_path, "short", "much longer than that")))


def test_a_limit_is_kept_and_the_digest_is_of_the_lines_that_were_read(tmp_path: Path) -> None:
    path = file_of(tmp_path, "1", "", "2", "3")
    some, more = Lines(path, limit=2), Lines(path)
    assert [line.number for line in some] == [1, 3]
    assert [line.number for line in more] == [1, 3, 4]
    assert some.sha256 != more.sha256
    spaced = Lines(file_of(tmp_path, " 1", "2 "))
    assert list(spaced)
    assert spaced.sha256 == some.sha256


def test_evaluations_are_compared_over_the_rows_that_both_answered(tmp_path: Path) -> None:
    path = file_of(tmp_path, *[{"text": f"{n}", "label": "x"} for n in range(40)])
    right, wrong = classes("x", "y"), classes("y", "x")
    good = evaluated(Task.CLASSIFICATION, path, Told(*[right] * 40))
    bad = evaluated(Task.CLASSIFICATION, path, Told(TooLong("long"), *[right, wrong] * 20))
    found = compare(good, bad)
    assert found.examples == 39
    first = found.differences[0]
    assert (first.measure, first.here, first.test) == ("accuracy", 1, "McNemar")
    assert first.p_value == pytest.approx(2 * 0.5**19)
    assert "hardly chance" in found.verdict
    assert "equally good" in compare(good, good).verdict

    (tmp_path / "report.json").write_text(json.dumps({"model": "m"}))
    with pytest.raises(InvalidInput, match="is no evaluation"):
        read(tmp_path / "report.json")
    other = evaluated(Task.ECHO, file_of(tmp_path, {"input": 1, "output": 1}), Told(1))
    with pytest.raises(InvalidInput, match="of other rows"):
        compare(good, other)
