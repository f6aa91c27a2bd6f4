"""What runs on the event loop: short rows that come one by one, and for how long not."""

import pytest

from forebay.contract.execution import OnnxOptions
from forebay.contract.model import BackendName, ModelSpec
from forebay.contract.rows import Task
from forebay.inference.backends.load import brief
from forebay.inference.lone import AFTER, LONGEST_S, Lone

SHORT_S = 0.001


@pytest.mark.parametrize(
    ("expected_s", "may"),
    [(SHORT_S, True), (LONGEST_S, True), (LONGEST_S * 1.01, False), (0.0, False)],
)
def test_only_what_is_known_to_be_short_may(expected_s: float, may: bool) -> None:
    assert Lone().may(expected_s) is may


def test_who_had_to_wait_for_the_event_loop_has_threads_used_for_a_while() -> None:
    lone = Lone()
    lone.ran(1_002.5)
    lone.came(1_001, by_themselves=True)  # before 1,002
    for number in range(AFTER):
        assert not lone.may(SHORT_S)
        lone.came(2_000 + number, by_themselves=True)
    assert lone.may(SHORT_S)


def test_who_may_have_come_after_it_was_over_did_not_wait() -> None:
    lone = Lone()
    lone.ran(1_002.5)
    lone.came(1_002, by_themselves=True)
    assert lone.may(SHORT_S)


def test_who_comes_along_with_others_has_threads_used_for_a_while() -> None:
    lone = Lone()
    for _ in range(3):
        lone.came(5, by_themselves=False)
    for number in range(AFTER):
        assert not lone.may(SHORT_S)
        lone.came(6 + number, by_themselves=True)
    assert lone.may(SHORT_S)


ECHO, ONNX, TORCH = BackendName.ECHO, BackendName.ONNX, BackendName.TORCH


@pytest.mark.parametrize(
    ("task", "backend", "providers", "may"),
    [
        (Task.ECHO, ECHO, ("cpu",), True),
        (Task.EMBEDDING, ONNX, ("cpu",), True),
        (Task.IMAGE_CLASSIFICATION, ONNX, ("cpu",), True),
        (Task.EMBEDDING, ONNX, ("cuda", "cpu"), False),
        (Task.TENSORS, ONNX, ("cpu",), False),
        (Task.EMBEDDING, TORCH, ("cpu",), False),
        (Task.PYTHON, BackendName.PYTHON, ("cpu",), False),
    ],
)
def test_only_passes_that_wait_for_nothing_and_end_may(
    task: Task, backend: BackendName, providers: tuple[str, ...], may: bool
) -> None:
    spec = ModelSpec(task, backend, source="some:thing", onnx=OnnxOptions(providers=providers))
    assert brief(spec) is may
