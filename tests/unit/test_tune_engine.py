"""What runs in a trial: a worker's batching, on backends that are real ones."""

import itertools
from pathlib import Path

import pytest

from forebay.contract.errors import BackendFailed, InvalidInput
from forebay.contract.model import BackendName, BatchLimits, ModelSpec
from forebay.contract.rows import PairRow, Task, TextRow, ValueRow
from forebay.inference.backends.echo import Echo
from forebay.inference.backends.python import PythonModel
from forebay.tune import traffic
from forebay.tune.engine import Engine, poisson
from forebay.tune.orders import Arrive, Saturate
from tests.fixtures.user_models import user_model

ROWS = [ValueRow(b"%d" % number) for number in range(20)]


async def test_a_busy_engine_fills_its_batches_and_takes_no_more_than_the_limit() -> None:
    engine = Engine(Echo(), BatchLimits(max_rows=8, prefetch_rows=32))
    passes = await engine.saturate(ROWS, Saturate(lead_s=0.0, seconds=0.05, seed=1))
    engine.close()
    assert len(passes) > 4
    assert {len(one.arrivals) for one in passes} == {8}
    assert all(one.at <= two.at for one, two in itertools.pairwise(passes))


async def test_every_row_that_comes_is_done_and_its_wait_begins_when_it_should_have_come(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # A slow machine gives up none either.
    monkeypatch.setattr("forebay.tune.engine.GIVE_UP", 1_000.0)
    engine = Engine(Echo(), BatchLimits(max_rows=4))
    for _ in range(2):  # one stretch leaves nothing behind for the next
        order = Arrive(rate=2_000, seconds=0.1, seed=3)
        passes, arrived = await engine.arrive(ROWS, order)
        times = poisson(2_000, 0.1, seed=3)
        assert arrived == len(times)
        came = sorted(at for one in passes for at in one.arrivals)
        assert [at - came[0] for at in came] == pytest.approx([at - times[0] for at in times])
        assert all(one.at >= max(one.arrivals) for one in passes)
        assert max(len(one.arrivals) for one in passes) <= 4
    engine.close()


async def test_rows_that_are_far_too_many_are_given_up_and_counted(tmp_path: Path) -> None:
    code = """
import threading
class Words:
    gate = threading.Event()
    def predict(self, rows: list[dict[str, int]]) -> list[int]:
        self.gate.wait(0.2)
        return [1 for _ in rows]
"""
    backend = PythonModel(user_model(tmp_path, code))
    engine = Engine(backend, BatchLimits(max_rows=1))
    rows = [ValueRow(b'{"a": 1}')]
    passes, arrived = await engine.arrive(rows, Arrive(rate=500, seconds=0.05, seed=1))
    engine.close()
    assert arrived > sum(len(one.arrivals) for one in passes)


async def test_a_model_that_fails_ends_the_stretch_with_its_error(tmp_path: Path) -> None:
    code = """
class Words:
    def predict(self, rows: list[dict[str, int]]) -> list[int]:
        raise ValueError("no")
"""
    engine = Engine(PythonModel(user_model(tmp_path, code)), BatchLimits())
    rows = [ValueRow(b'{"a": 1}')]
    with pytest.raises(BackendFailed, match="ValueError: no"):
        await engine.saturate(rows, Saturate(lead_s=0.0, seconds=5.0, seed=1))
    with pytest.raises(BackendFailed):
        await engine.arrive(rows, Arrive(rate=100, seconds=0.1, seed=1))
    with pytest.raises(InvalidInput):
        await engine.saturate([ValueRow(b"[]")], Saturate(lead_s=0.0, seconds=5.0, seed=1))
    engine.close()


def test_arrivals_at_random_have_the_rate_that_was_asked_for() -> None:
    times = poisson(1_000, 20.0, seed=5)
    assert len(times) == pytest.approx(20_000, rel=0.03)
    assert times == sorted(times)
    slow = poisson(500, 40.0, seed=5)
    assert [2 * at for at in times[:100]] == pytest.approx(slow[:100])
    assert len(poisson(0.001, 1.0, seed=1)) == 1


def spec(task: Task) -> ModelSpec:
    backend = BackendName.PYTHON if task is Task.PYTHON else BackendName.ONNX
    return ModelSpec(task, backend, source="folder", name="model")


@pytest.mark.parametrize(
    ("task", "line", "row"),
    [
        (Task.EMBEDDING, " plain text ", TextRow("plain text")),
        (Task.EMBEDDING, '"quoted"', TextRow("quoted")),
        (Task.EMBEDDING, "17", TextRow("17")),
        (Task.CLASSIFICATION, '{"text": "a", "label": "b"}', TextRow("a")),
        (Task.RERANKING, '{"query": "a", "document": "b"}', PairRow("a", "b")),
        (Task.ZERO_SHOT, '{"text": "a", "hypothesis": "b"}', PairRow("a", "b")),
        (Task.PYTHON, '{"any": 1}', ValueRow(b'{"any": 1}')),
    ],
)
def test_a_line_is_a_row_of_the_task(tmp_path: Path, task: Task, line: str, row: object) -> None:
    path = tmp_path / "traffic"
    path.write_text(f"{line}\n\n{line}\n", "utf-8")
    rows = traffic.read(path, spec(task))
    assert rows == [row, row]
    traffic.write(tmp_path / "kept", rows)
    assert traffic.read_back(tmp_path / "kept") == rows


@pytest.mark.parametrize(
    ("task", "text", "told"),
    [
        (Task.RERANKING, "a text", "line 1: a row of 'model' is an object with the texts 'query'"),
        (Task.EMBEDDING, 'fine\n{"texts": 1}', "line 2: an object must have a `text`"),
        (Task.PYTHON, "{", "line 1 is no JSON"),
        (Task.EMBEDDING, "\n \n", "no line with anything in it"),
    ],
)
def test_a_line_that_is_no_row_is_named(tmp_path: Path, task: Task, text: str, told: str) -> None:
    path = tmp_path / "traffic"
    path.write_text(text, "utf-8")
    with pytest.raises(InvalidInput) as refused:
        traffic.read(path, spec(task))
    assert told in refused.value.message
    with pytest.raises(InvalidInput, match="can't be read"):
        traffic.read(tmp_path / "nowhere", spec(task))


def test_of_a_long_file_rows_are_taken_from_all_of_it(tmp_path: Path) -> None:
    path = tmp_path / "traffic"
    path.write_text("".join(f"text {number}\n" for number in range(5_000)), "utf-8")
    rows = traffic.read(path, spec(Task.EMBEDDING))
    assert len(rows) <= traffic.MOST_ROWS
    assert rows[0] == TextRow("text 0")
    assert rows[-1] == TextRow("text 4998")


def test_texts_are_at_hand_for_tasks_that_take_texts_only() -> None:
    for task in (Task.EMBEDDING, Task.RERANKING, Task.ZERO_SHOT, Task.TOKEN_CLASSIFICATION):
        assert len(traffic.own(spec(task))) > 100
    with pytest.raises(InvalidInput, match="--data FILE"):
        traffic.own(spec(Task.PYTHON))
