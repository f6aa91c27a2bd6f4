"""Loads replayed against policies: the world keeps its books, and others do what they document."""

import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forebay.autoscaler.policy import Goals
from forebay.autoscaler.simulation import plot, traces
from forebay.autoscaler.simulation.comparison import compare
from forebay.autoscaler.simulation.scalers import (
    Concurrency,
    Forebay,
    QueueDelay,
    QueueLength,
    RequestCount,
)
from forebay.autoscaler.simulation.traces import Trace
from forebay.autoscaler.simulation.world import STEP_S, Model, Scaler, Seen, replay
from forebay.contract.errors import InvalidInput

GOALS = Goals(0, 8, 60.0, 3.0, 300.0, 32)
MODEL = Model(rate=10.0, start_s=2.0)
QUIET = (0,) * 400


class Fixed:
    """Always as many."""

    name = "fixed"
    every_s = 1.0
    wakes = True

    def __init__(self, replicas: int) -> None:
        self.replicas = replicas

    def decide(self, seen: Seen) -> int:
        return self.replicas


def scalers() -> list[Scaler]:
    return [
        Forebay(GOALS),
        QueueLength(20),
        QueueLength(20, polling_s=1.0, window_s=60.0),
        Concurrency(20),
        QueueDelay(),
        RequestCount(),
    ]


def test_a_trace_is_read_whatever_the_order_of_its_lines(tmp_path: Path) -> None:
    path = tmp_path / "load.csv"
    path.write_text("rows,second\n2,3\n1,0\n4,3\n")
    assert traces.read(path) == Trace("load", (1, 0, 0, 6))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no columns"),
        ("a,b\n1,2\n", "no columns"),
        ("second,rows\n", "no line"),
        ("second,rows\n1,2\n1,x\n", "Line 3"),
        ("second,rows\n-1,2\n", "Line 2"),
        ("second,rows\n1,-2\n", "Line 2"),
        ("second,rows\n1\n", "Line 2"),
        ("second,rows\n1e99,1\n", "Line 2"),
        ("second,rows\nnan,1\n", "Line 2"),
    ],
)
def test_a_trace_that_is_wrong_is_refused_with_its_line(
    tmp_path: Path, text: str, said: str
) -> None:
    path = tmp_path / "load.csv"
    path.write_text(text)
    with pytest.raises(InvalidInput, match=said):
        traces.read(path)
    with pytest.raises(InvalidInput, match="can't be read"):
        traces.read(tmp_path / "nowhere.csv")


def test_traces_that_are_made_up_are_the_same_every_time_and_what_they_say() -> None:
    for name, made in traces.MADE.items():
        trace = made(40.0)
        assert trace == made(40.0)
        assert trace.name == name
        assert 0 in trace.rows
        assert 40 <= max(trace.rows) <= 40 * 3 + 100
    on_off = traces.on_off(40.0).rows
    assert not any(on_off[300:900])
    assert sum(on_off[:300]) == pytest.approx(40 * 300, rel=0.1)


def test_what_comes_is_worked_off_in_order_at_the_rate_of_who_is_ready() -> None:
    outcome = replay(Trace("one", (20,)), MODEL, Fixed(1))
    assert outcome.left == 0
    assert sum(count for _, count in outcome.waits) == 20
    # Two seconds to start, two to work.
    assert outcome.wait_s(1.0) == pytest.approx(4.0, abs=1.0)
    assert outcome.wait_s(0.0) >= MODEL.start_s
    twice = replay(Trace("one", (20,)), MODEL, Fixed(2))
    assert twice.wait_s(1.0) == pytest.approx(3.0, abs=1.0)
    assert outcome.starts == 1
    assert twice.starts == 2


def test_rows_that_nobody_works_off_make_the_wait_infinite() -> None:
    outcome = replay(Trace("one", (1,)), MODEL, Fixed(0))
    assert outcome.left == 1
    assert math.isinf(outcome.wait_s(0.5))


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.just(0) | st.integers(0, 200), min_size=1, max_size=120),
    st.floats(0.5, 100),
    st.floats(0, 20),
    st.integers(0, 2),
)
def test_whoever_decides_no_row_is_lost_and_the_bounds_are_kept(
    rows: list[int], rate: float, start_s: float, least: int
) -> None:
    model, total = Model(rate, start_s, least, 6), sum(rows)
    for scaler in scalers():
        outcome = replay(Trace("any", tuple(rows)), model, scaler)
        assert sum(count for _, count in outcome.waits) + outcome.left == total
        assert all(least <= there <= 6 for there in outcome.replicas)
        assert outcome.replica_s <= 6 * len(outcome.replicas) + 1e-6
        if outcome.starts == least == 0:
            assert outcome.replica_s == 0
        if total and not outcome.left:
            assert outcome.wait_s(1.0) >= outcome.wait_s(0.5) >= STEP_S


def test_keda_looks_every_30_s_and_goes_after_300() -> None:
    outcome = replay(Trace("late", (0, 5, *QUIET)), MODEL, QueueLength(20))
    came = next(second for second, there in enumerate(outcome.replicas) if there)
    assert 29 <= came <= 31
    gone = next(s for s, there in enumerate(outcome.replicas) if s > came and not there)
    assert 300 <= gone - came <= 320


def test_knative_starts_at_once_and_panics_to_what_it_takes() -> None:
    outcome = replay(Trace("burst", (0, 700, *QUIET)), MODEL, Concurrency(100))
    assert outcome.replicas[2] >= 1
    assert max(outcome.replicas[:10]) >= 7
    assert outcome.replicas[-1] == 0


def test_runpod_adds_one_for_who_waits_and_lets_the_idle_go_after_5_s() -> None:
    outcome = replay(Trace("burst", (100, *QUIET)), MODEL, QueueDelay(4.0))
    assert outcome.replicas[1] == 1
    assert outcome.replicas[3] == 1
    assert max(outcome.replicas) >= 2
    assert outcome.replicas[60] == 0
    counted = replay(Trace("burst", (16, *QUIET)), MODEL, RequestCount(4.0))
    assert counted.replicas[1] == 4


def test_the_policy_is_compared_with_the_best_that_each_of_the_others_can_do() -> None:
    rows = (0,) * 20 + ((400,) + (0,) * 99) * 3
    told: list[str] = []
    trace = Trace("bursts", rows)
    lines = compare(trace, MODEL, GOALS, told.append)
    assert lines[0].outcome.scaler == "Forebay"
    assert len(lines) == 6
    assert len(told) > 20
    for line in lines:
        assert line.as_quick is (line.p99_s <= 1.02 * lines[0].p99_s)
    picture = plot.draw(trace, lines)
    assert picture.startswith("<svg")
    assert all(line.outcome.scaler in picture for line in lines)
