"""Classifiers behind `forebay up`: what `POST /v1/predictions` answers is what pipelines answer."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from forebay.contract.rows import Task
from tests.fixtures.artifacts import TINY, tiny, tiny_home, tiny_spec
from tests.fixtures.stack import Stack, running_stack
from tests.fixtures.waiting import PATIENCE_S

TOLERANCE = 1e-4
TEXTS = ["The river runs to the sea.", "Ada met him in London — naïve? 🙂"]
QUERY, DOCUMENT = "What runs to the sea?", "The river does, as rivers do."
LABELS = ["water", "people in London", "databases"]


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack that serves a tiny model of each task, under the task's name."""
    folder = tmp_path_factory.mktemp("stack")
    models = folder / "models.toml"
    text = ""
    for task in TINY:
        tiny(task)
        spec = tiny_spec(task)
        text += (
            f'[models.{spec.name}]\ntask = "{task.value}"\nbackend = "onnx"\nthreads = 1\n'
            f'source = "{spec.source}"\nprecision = "fp32"\n'
        )
    models.write_text(text)
    with running_stack(tiny_home(), folder, models_file=str(models)) as running:
        yield running


def asked(stack: Stack, task: Task, **given: Any) -> Any:
    """The output of a prediction; a client that comes back for it reads the same."""
    body = {"version": tiny_spec(task).name, "input": given}
    with httpx.Client(base_url=stack.url, timeout=PATIENCE_S) as client:
        made = client.post("/v1/predictions", json=body, headers={"Prefer": "wait"}).json()
        assert made["status"] == "succeeded", made
        later = client.get(f"/v1/predictions/{made['id']}").json()
    assert later["output"] == made["output"]
    return made["output"]


def posted(stack: Stack, path: str, body: dict[str, Any]) -> Any:
    """What a path answers."""
    with httpx.Client(base_url=stack.url, timeout=PATIENCE_S) as client:
        return client.post(path, json=body).raise_for_status().json()


def pipeline(name: str, task: Task) -> Any:
    from transformers import pipeline as of_transformers

    library: Any = of_transformers
    return library(name, model=tiny_spec(task).source, device="cpu")


def approximately(value: Any) -> Any:
    """The same in JSON, each number within the tolerance."""
    if isinstance(value, dict):
        return {key: approximately(item) for key, item in value.items()}
    if isinstance(value, list):
        return [approximately(item) for item in value]
    number = hasattr(value, "__float__") and not isinstance(value, int)
    return pytest.approx(float(value), abs=TOLERANCE) if number else value


@pytest.mark.slow
class TestAnswersAreThePipelines:
    def test_of_texts_and_pairs(self, tasks: Stack) -> None:
        task = Task.CLASSIFICATION
        expected = pipeline("text-classification", task)
        both = {"text": QUERY, "text_pair": DOCUMENT}
        for got, like in (
            (asked(tasks, task, text=TEXTS[0]), expected(TEXTS[0])),
            (asked(tasks, task, text=TEXTS), expected(TEXTS)),
            (asked(tasks, task, text=TEXTS, top_k=2), expected(TEXTS, top_k=2)),
            (asked(tasks, task, text=TEXTS[0], top_k=None), expected(TEXTS[0], top_k=None)),
            (asked(tasks, task, text=QUERY, pair=DOCUMENT), expected(both)),
        ):
            assert got == approximately(like)

    def test_of_a_query_and_documents(self, tasks: Stack) -> None:
        expected = pipeline("text-classification", Task.RERANKING)
        got = asked(tasks, Task.RERANKING, text=QUERY, pair=[DOCUMENT, *TEXTS])
        like = [expected({"text": QUERY, "text_pair": pair}) for pair in (DOCUMENT, *TEXTS)]
        assert got == approximately(like)

    def test_of_a_query_and_documents_in_order(self, tasks: Stack) -> None:
        name, documents = tiny_spec(Task.RERANKING).name, [DOCUMENT, *TEXTS]
        expected = pipeline("text-classification", Task.RERANKING)
        scores = [expected({"text": QUERY, "text_pair": one})["score"] for one in documents]
        order = sorted(range(3), key=lambda index: -scores[index])
        like = [{"index": index, "relevance_score": scores[index]} for index in order]
        both = {"query": QUERY, "documents": documents}
        assert asked(tasks, Task.RERANKING, **both) == approximately(like)
        told = posted(tasks, "/v1/rerank", {"model": name, **both})
        assert told["results"] == approximately(like)

    def test_of_texts_that_are_moderated(self, tasks: Stack) -> None:
        name = tiny_spec(Task.CLASSIFICATION).name
        expected = pipeline("text-classification", Task.CLASSIFICATION)(TEXTS, top_k=None)
        told = posted(tasks, "/v1/moderations", {"model": name, "input": TEXTS})
        for result, labels in zip(told["results"], expected, strict=True):
            scores = {each["label"]: each["score"] for each in labels}
            assert result["category_scores"] == approximately(scores)
            assert result["categories"] == {each: scores[each] > 0.5 for each in scores}

    @pytest.mark.parametrize("aggregation", ["none", "simple"])
    def test_of_parts_of_texts(self, tasks: Stack, aggregation: str) -> None:
        task = Task.TOKEN_CLASSIFICATION
        expected = pipeline("token-classification", task)
        got = asked(tasks, task, text=TEXTS, aggregation_strategy=aggregation)
        assert got == approximately(expected(TEXTS, aggregation_strategy=aggregation))

    @pytest.mark.parametrize("multi_label", [False, True])
    def test_of_labels_made_up_on_the_spot(self, tasks: Stack, multi_label: bool) -> None:
        task = Task.ZERO_SHOT
        expected = pipeline("zero-shot-classification", task)
        got = asked(tasks, task, text=TEXTS, labels=LABELS, multi_label=multi_label)
        like = expected(TEXTS, candidate_labels=LABELS, multi_label=multi_label)
        assert got == approximately(like)
        one = expected(TEXTS[0], candidate_labels=LABELS[:1])
        assert asked(tasks, task, text=TEXTS[0], labels=LABELS[0]) == approximately(one)


@pytest.mark.slow
def test_what_a_model_does_not_take_is_refused_by_its_field(tasks: Stack) -> None:
    with httpx.Client(base_url=tasks.url, timeout=PATIENCE_S) as client:
        refused = client.post(
            "/v1/predictions",
            json={"version": tiny_spec(Task.RERANKING).name, "input": {"text": "a"}},
        )
    assert refused.status_code == 422
    assert "give a pair too" in refused.json()["detail"]
