"""The search for the rows at fault: neighbours succeed, and one at fault costs log2 n runs."""

import math
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.contract.errors import BackendFailed
from forebay.contract.rows import Output, Value
from forebay.inference.bisect import bisect


class Device:
    """Fails on batches that hold any of these rows, and remembers what it ran."""

    def __init__(self, *bad: int) -> None:
        self.bad = set(bad)
        self.runs: list[list[int]] = []

    def run(self, rows: Sequence[int]) -> Sequence[Output] | None:
        self.runs.append(list(rows))
        if self.bad.intersection(rows):
            return None
        return [Value(b"%d" % row) for row in rows]


@pytest.mark.parametrize("rows", [1, 2, 3, 7, 32, 256])
def test_one_at_fault_is_found_in_log2_n_runs_and_two_more_at_most(rows: int) -> None:
    for bad in range(rows):
        device = Device(bad)
        results = bisect(list(range(rows)), device.run)
        assert [isinstance(result, BackendFailed) for result in results] == [
            row == bad for row in range(rows)
        ]
        assert len(device.runs) - 1 <= math.ceil(math.log2(rows)) + 2
        without = [row for run in device.runs if bad not in run for row in run]
        assert sorted(without) == [row for row in range(rows) if row != bad]


@given(st.integers(1, 40).flatmap(lambda n: st.tuples(st.just(n), st.sets(st.integers(0, n - 1)))))
def test_each_row_that_runs_by_itself_has_its_own_output(case: tuple[int, set[int]]) -> None:
    rows, bad = case
    device = Device(*bad)
    results = bisect(list(range(rows)), device.run)
    for row, result in enumerate(results):
        assert isinstance(result, BackendFailed) if row in bad else result == Value(b"%d" % row)
    assert len(device.runs) <= 2 * rows + math.log2(rows) + 2


def test_a_fault_that_does_not_come_again_costs_nobody_anything() -> None:
    device = Device()
    first = iter([None])

    def run(rows: Sequence[int]) -> Sequence[Output] | None:
        return next(first, device.run(rows))

    results = bisect([1, 2, 3], run)
    assert results == [Value(b"1"), Value(b"2"), Value(b"3")]


def test_a_batch_that_succeeds_runs_once() -> None:
    device = Device()
    bisect([1, 2, 3], device.run)
    assert device.runs == [[1, 2, 3]]
