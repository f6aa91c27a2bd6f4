"""Pipelines without lanes: the ids of calls, the values they take and give, what a class may be."""

import asyncio
import json
import sys
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from forebay.contract.errors import (
    ArtifactError,
    ConfigurationError,
    ErrorInfo,
    ErrorKind,
    StepFailed,
)
from forebay.contract.messages import decode_computation
from forebay.contract.model import BackendName, BulkLimits, LaneLimits, ModelSpec
from forebay.contract.model_rules import checked
from forebay.contract.prediction import Lane, StepTime, Timing
from forebay.contract.rows import (
    Classes,
    Embedding,
    Entailment,
    ImageRow,
    Options,
    PairRow,
    Span,
    Spans,
    Task,
    Tensors,
    TensorsRow,
    TextRow,
    TokensRow,
    Value,
    ValueRow,
)
from forebay.contract.steps import MAX_DEPTH, check_steps
from forebay.contract.versions import Version
from forebay.inference.steps import Label, Models
from forebay.inference.steps.caller import Answer, Sending
from forebay.inference.steps.calls import Calls, Origin
from forebay.inference.steps.model import PipelineModel
from forebay.inference.steps.values import row_of, value_of
from forebay.runtime.catalog import Catalog
from forebay.storage.descriptions import Description

DEADLINE_MS = 30_000
STEPS = {
    "echo": ModelSpec(Task.ECHO, BackendName.ECHO, name="echo"),
    "words": ModelSpec(Task.PYTHON, BackendName.PYTHON, source="a:B", name="words"),
    "mood": ModelSpec(Task.CLASSIFICATION, BackendName.ONNX, source="x", name="mood"),
    "narrow": ModelSpec(
        Task.ECHO,
        BackendName.ECHO,
        name="narrow",
        realtime=LaneLimits(max_rows=3),
        bulk=BulkLimits(max_rows=2),
    ),
}
NAMED = ("several", "several@default", "several@v2")
SEVERAL = ModelSpec(
    Task.ECHO, BackendName.ECHO, name="several", versions={"v2": Version(weight=50.0)}
)
CATALOG = Catalog(
    {**STEPS, "several": SEVERAL},
    {"several@v2": msgspec.structs.replace(SEVERAL, versions={}, version="v2", name="several@v2")},
)


class Echoes:
    """Answers what is asked with its own rows, and keeps it."""

    def __init__(self) -> None:
        self.sent: list[Sending] = []

    async def ask(self, sendings: Sequence[Sending]) -> list[Answer]:
        self.sent += sendings
        return [
            Answer([Value(row.json) for row in _rows(one) if isinstance(row, ValueRow)],
                   Timing(1.0, 2.0, 4.0))
            for one in sendings
        ]  # fmt: skip

    @property
    def ids(self) -> list[str]:
        return [one.submission.id.text for one in self.sent]


def _rows(sending: Sending) -> tuple[Any, ...]:
    (part,) = sending.submission.parts
    return decode_computation(part.message).rows


async def which(spec: ModelSpec, key: str) -> ModelSpec:
    """The version that has all requests."""
    return CATALOG.version(spec, "v2")


def calls(
    echoes: Echoes, *, prediction: str = "flow-0-1", row: int = 0, lane: Lane = Lane.REALTIME
) -> Calls:
    origin = Origin(prediction, row, lane, DEADLINE_MS, "00-trace-span-01")
    return Calls(origin, echoes.ask, which=which, now_ms=lambda: 10_000, retain_ms=60_000)


def models(echoes: Echoes, **origin: Any) -> Models:
    return Models(STEPS, calls(echoes, **origin))


async def ids_of(code: str, **origin: Any) -> list[str]:
    """Ids of calls written as `step:row,row step:row …`."""
    echoes = Echoes()
    called = models(echoes, **origin)
    for call in code.split():
        step, _, rows = call.partition(":")
        await called[step](rows.split(","))
    return echoes.ids


async def test_the_same_calls_of_the_same_row_have_the_same_ids() -> None:
    first = await ids_of("echo:a echo:b,c narrow:a echo:a")
    assert await ids_of("echo:a echo:b,c narrow:a echo:a") == first
    assert len(set(first)) == 4
    assert [id_.rpartition("-")[0] for id_ in first] == ["echo-0", "echo-0", "narrow-0", "echo-0"]


async def test_ids_do_not_hang_on_the_order_of_calls_but_on_what_they_ask() -> None:
    first = await ids_of("echo:a echo:b echo:a")
    assert sorted(await ids_of("echo:b echo:a echo:a")) == sorted(first)
    # What a second run asks otherwise is new, what it asks again is found.
    other = await ids_of("echo:a echo:other echo:a")
    assert [id_ in first for id_ in other] == [True, False, True]


async def test_other_rows_and_predictions_and_options_have_other_ids() -> None:
    (first,) = await ids_of("echo:a")
    assert first not in await ids_of("echo:a", row=1)
    assert first not in await ids_of("echo:a", prediction="flow-0-2")
    echoes = Echoes()
    await models(echoes)["mood"](["a"])
    await models(echoes)["mood"](["a"], top_k=2)
    await models(echoes)["mood"](["a"], truncate=True)
    assert len(set(echoes.ids)) == 3


async def test_a_step_with_versions_goes_to_the_one_that_is_chosen_or_named() -> None:
    echoes = Echoes()
    called = Models({name: CATALOG.find(name) for name in NAMED}, calls(echoes))
    for name in NAMED:
        await called[name]([1])
    lanes = [one.submission.id.model for one in echoes.sent]
    assert lanes == ["several@v2", "several", "several@v2"]
    assert len(set(echoes.ids)) == 3
    # What was asked before under another name is asked anew: it might be another model.
    chain = PipelineModel(msgspec.structs.replace(pipeline(*NAMED), name="chain"), CATALOG)
    echoes = Echoes()
    await chain.run(b"{}", Models(chain.steps, calls(echoes)))
    assert [one.submission.id.model for one in echoes.sent] == lanes


async def test_a_call_is_cut_into_parts_that_its_steps_lane_can_take() -> None:
    echoes = Echoes()
    rows = list(range(600))
    assert await models(echoes)["echo"](rows) == rows
    assert [len(_rows(one)) for one in echoes.sent] == [256, 256, 88]
    for lane, sizes in ((Lane.REALTIME, [3, 1]), (Lane.BULK, [2, 2])):
        echoes = Echoes()
        assert await models(echoes, lane=lane)["narrow"](rows[:4]) == rows[:4]
        assert [len(_rows(one)) for one in echoes.sent] == sizes
        assert {one.submission.lane for one in echoes.sent} == {lane}
    assert await models(echoes)["echo"]([]) == []


async def test_lane_deadline_and_trace_are_the_pipelines_and_results_outlive_its_deadline() -> None:
    echoes = Echoes()
    await models(echoes, lane=Lane.BULK)["echo"]([1])
    (sent,) = echoes.sent
    (part,) = sent.submission.parts
    computation = decode_computation(part.message)
    assert computation.deadline_at_ms == DEADLINE_MS
    assert computation.traceparent == "00-trace-span-01"
    assert sent.submission.deadline_ms == 20_000
    assert sent.submission.retain_ms == 80_000


async def test_times_add_up_by_step_and_count_the_longest_part() -> None:
    echoes = Echoes()
    own = calls(echoes)
    called = Models(STEPS, own)
    await called["echo"](list(range(600)))
    await asyncio.gather(called["echo"]([1]), called["narrow"]([1]))
    assert own.times == (
        StepTime("echo", 2, 601, 6.0, 8.0),
        StepTime("narrow", 1, 1, 3.0, 4.0),
    )


class Point(msgspec.Struct):
    x: int


async def test_outputs_are_read_as_the_type_that_is_asked_for() -> None:
    called = models(Echoes())
    assert await called["words"]([Point(1), {"x": 2}], as_=Point) == [Point(1), Point(2)]
    with pytest.raises(StepFailed, match=r"'words' failed: what it gave is no .*Point.*x") as told:
        await called["words"]([{"y": 1}], as_=Point)
    assert told.value.kind is ErrorKind.STEP_FAILED


@pytest.mark.parametrize("rows", ["text", b"bytes", {"text": "a"}])
async def test_a_call_takes_a_list(rows: Any) -> None:
    with pytest.raises(TypeError, match="takes a list of rows"):
        await models(Echoes())["mood"](rows)


async def test_a_text_that_no_model_takes_fails_the_step() -> None:
    with pytest.raises(StepFailed, match=r"'mood' failed: Row 1: .* no model takes") as told:
        await models(Echoes())["mood"](["a", "x" * 1_000_001])
    assert told.value.kind is ErrorKind.TOO_LONG


async def test_only_steps_may_be_called() -> None:
    with pytest.raises(KeyError, match="'nobody' is not among the pipeline's steps: echo, words"):
        models(Echoes())["nobody"]
    assert list(models(Echoes())) == list(STEPS)


@pytest.mark.parametrize(
    ("value", "row"),
    [
        ("a", TextRow("a")),
        (("a", "b"), PairRow("a", "b")),
        (["a", "b"], PairRow("a", "b")),
        ({"text": "a"}, TextRow("a")),
        ({"text": "a", "pair": "b", "score": 1}, PairRow("a", "b")),
        (TokensRow((1, 2)), TokensRow((1, 2))),
    ],
)
def test_values_that_are_rows_of_texts(value: Any, row: Any) -> None:
    assert row_of(Task.CLASSIFICATION, value) == row


@pytest.mark.parametrize("value", [1, None, ["a"], {"pair": "b"}, {"text": 1}, ("a", 1), ["a"] * 3])
def test_values_that_are_none(value: Any) -> None:
    with pytest.raises(TypeError, match="no row of a model of texts"):
        row_of(Task.CLASSIFICATION, value)


def test_rows_of_json_may_be_whatever_json_can_say() -> None:
    assert row_of(Task.PYTHON, Point(1)) == ValueRow(b'{"x":1}')
    assert row_of(Task.ECHO, array("f", [1.0, 2.0])) == ValueRow(b"[1.0,2.0]")
    with pytest.raises(TypeError, match="none of JSON's types"):
        row_of(Task.PYTHON, object())


def test_outputs_as_values() -> None:
    scores = array("f", [0.5, 0.25]).tobytes()
    one = Options()
    assert value_of(Embedding(scores, 3), one) == array("f", [0.5, 0.25])
    classes = Classes(("good", "bad"), scores, 3)
    assert value_of(classes, one) == Label("good", 0.5)
    assert value_of(classes, Options(top_k=0)) == [Label("good", 0.5), Label("bad", 0.25)]
    span = Span("CITY", 0.5, "Bern", 0, 4)
    assert value_of(Spans((span,), 3), one) == [span]
    assert value_of(Value(b'{"x": 1}'), one) == {"x": 1}
    assert value_of(Entailment(1.0, 2.0, 3), one) == Entailment(1.0, 2.0, 3)


def test_images_and_tensors_are_files_and_arrays() -> None:
    assert row_of(Task.IMAGE_CLASSIFICATION, b"file") == ImageRow(b"file")
    with pytest.raises(TypeError, match="no image: give the bytes"):
        row_of(Task.IMAGE_CLASSIFICATION, "file")
    arrays = {"x": np.array([[1.5, 2.5]], np.float32), "n": np.array([3], ">i8"), "s": ["a", "bc"]}
    row = row_of(Task.TENSORS, arrays)
    assert isinstance(row, TensorsRow)
    assert [one.datatype for one in row.tensors] == ["FP32", "INT64", "BYTES"]
    back = value_of(Tensors(row.tensors), Options())
    assert {name: array.tolist() for name, array in back.items()} == {
        "x": [[1.5, 2.5]],
        "n": [3],
        "s": ["a", "bc"],
    }
    for wrong, said in (([1], "holds no tensors"), ({"x": [1j]}, "no tensor holds complex128")):
        with pytest.raises(TypeError, match=said):
            row_of(Task.TENSORS, wrong)


def pipeline(*steps: str) -> ModelSpec:
    return ModelSpec(Task.PIPELINE, BackendName.PIPELINE, steps=steps)


def test_a_step_has_to_be_a_model() -> None:
    with pytest.raises(ConfigurationError, match=r"models\.a\.steps: 'c' is no model here.* a, b"):
        check_steps({"a": pipeline("b", "c"), "b": STEPS["echo"]})


@pytest.mark.parametrize(
    ("graph", "said"),
    [
        ({"a": ["a"]}, "a → a"),
        ({"a": ["b"], "b": ["e", "c"], "c": ["a"]}, "a → b → c → a"),
        ({"a": ["b"], "b": ["c"], "c": ["b"]}, "b → c → b"),
    ],
)
def test_pipelines_may_not_go_in_a_circle(graph: dict[str, list[str]], said: str) -> None:
    specs = {name: pipeline(*steps) for name, steps in graph.items()}
    with pytest.raises(ConfigurationError, match=f"steps: {said} goes in a circle"):
        check_steps({**specs, "e": STEPS["echo"]})


def test_pipelines_may_be_inside_one_another_up_to_a_depth() -> None:
    def tower(height: int) -> dict[str, ModelSpec]:
        specs = {f"p{n}": pipeline(f"p{n + 1}", f"p{n + 1}") for n in range(height)}
        return {**specs, f"p{height}": STEPS["echo"]}

    check_steps(tower(MAX_DEPTH))
    with pytest.raises(ConfigurationError, match="more than 4 pipelines inside one another"):
        check_steps(tower(MAX_DEPTH + 1))


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        (ModelSpec(Task.PIPELINE, BackendName.PIPELINE), "steps: must be given for a pipeline"),
        (ModelSpec(Task.ECHO, BackendName.ECHO, steps=("a",)), "steps: must be given for a pipel"),
        (ModelSpec(Task.PIPELINE, BackendName.PYTHON, "a:B", steps=("a",)), "backend: must be one"),
        (ModelSpec(Task.PYTHON, BackendName.PIPELINE, "a:B"), "backend: must be one"),
        (ModelSpec(Task.PIPELINE, BackendName.PIPELINE, "folder", steps=("a",)), "source: must"),
    ],
)
def test_what_a_pipeline_has_to_say(spec: ModelSpec, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        checked(spec, "a")


@pytest.fixture
def an_import_path_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))


FLOW = """
from typing import Any, TypedDict

class Row(TypedDict):
    words: list[str]

class Flow:
    samples = [{"words": ["a"]}]

    async def run(self, row: Row, models: Any) -> int:
        said = await models["echo"](row["words"])
        return len(said)
"""


def opened(folder: Path, code: str, *, tell: Any = None, steps: tuple[str, ...] = ("echo",)) -> Any:
    (folder / "flow.py").write_text(code)
    spec = ModelSpec(
        Task.PIPELINE,
        BackendName.PIPELINE,
        source="flow.py:Flow",
        steps=steps,
        name="flow",
        folder=str(folder),
    )
    model = PipelineModel(spec, CATALOG, tell=tell)
    model.warm()
    return model


@pytest.mark.usefixtures("an_import_path_of_its_own")
async def test_a_class_says_what_it_takes_and_runs(tmp_path: Path) -> None:
    told: list[Description] = []
    model = opened(tmp_path, FLOW, tell=told.append)
    (description,) = told
    assert description.input_schema["$defs"]["Row"]["required"] == ["words"]
    assert description.output_schema == {"type": "integer"}
    (row,) = model.prepare([ValueRow(b'{"words": ["a", "b"]}')], truncate=False)
    assert await model.run(row.data, models(Echoes())) == Value(b"2")
    # Its version is that of the code and of the steps' names.
    assert opened(tmp_path, FLOW).version == model.version
    assert opened(tmp_path, FLOW, steps=("echo", "words")).version != model.version
    assert opened(tmp_path, FLOW + "\n").version != model.version


@pytest.mark.usefixtures("an_import_path_of_its_own")
@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("    async def run", "    run = print\n    async def go", "no coroutine method `run`"),
        ("async def run", "async def go", "no coroutine method `run`"),
        ("row: Row, models", "row, models", "annotate its first argument"),
        ("row: Row, models", "row: list[int], models", "a row is a JSON object"),
        ("row: Row, models: Any", "row: Row", "write it as `async def run"),
        ('["a"]}]', '["a"]}, {"words": 1}]', r"samples\[1\]` is no row of its own: input.words"),
    ],
)
def test_a_class_that_is_no_pipeline_is_told_why(
    tmp_path: Path, before: str, after: str, said: str
) -> None:
    with pytest.raises(ArtifactError, match=said):
        opened(tmp_path, FLOW.replace(before, after))


@pytest.mark.usefixtures("an_import_path_of_its_own")
async def test_an_output_that_json_can_not_say_is_the_codes_fault(tmp_path: Path) -> None:
    model = opened(tmp_path, FLOW.replace("len(said)", "object()"))
    with pytest.raises(TypeError, match="`run` gave a object that JSON can't say"):
        await model.run(b'{"words": []}', models(Echoes()))


async def test_a_chain_hands_each_steps_output_to_the_next() -> None:
    echoes = Echoes()
    steps = ("echo", "words", "echo", "echo")
    chain = PipelineModel(msgspec.structs.replace(pipeline(*steps), name="chain"), CATALOG)
    chain.warm()
    assert await chain.run(b'{"a": 1}', models(echoes)) == Value(b'{"a":1}')
    assert [one.step for one in echoes.sent] == list(steps)
    assert len(set(echoes.ids)) == 4


async def test_what_is_no_object_goes_to_a_python_step_as_a_value() -> None:
    steps = {**STEPS, "tell": STEPS["echo"]}
    spec = msgspec.structs.replace(pipeline("tell", "words"), name="chain")
    chain = PipelineModel(spec, Catalog(steps))

    class Tells(Echoes):
        async def ask(self, sendings: Sequence[Sending]) -> list[Answer]:
            if sendings[0].step == "echo":
                return [Answer([Value(b"[1.5]")], None)]
            return await super().ask(sendings)

    called = Models(steps, calls(Tells()))
    assert json.loads((await chain.run(b"{}", called)).json) == {"value": [1.5]}  # type: ignore[union-attr]


def test_an_error_of_a_step_names_it() -> None:
    error = StepFailed("mood", ErrorInfo(ErrorKind.WORKER_LOST, "It was lost.", row=2))
    assert error.info() == ErrorInfo(ErrorKind.STEP_FAILED, "Step 'mood' failed: It was lost.")
    refused = StepFailed("mood", ErrorInfo(ErrorKind.TOO_LONG, "Row 2: too long.", row=2))
    assert refused.kind is ErrorKind.TOO_LONG
