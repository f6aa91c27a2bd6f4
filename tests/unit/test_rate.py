"""How fast a worker is, as it says itself."""

import pytest

from forebay.inference.rate import MEMORY_S, ServiceRate


def busy(rate: ServiceRate, *, rows_a_step: int, steps: int, step_s: float, at: float) -> float:
    rate.begin(at)
    for step in range(steps):
        at += step_s
        rate.done(rows_a_step, at, idle=step == steps - 1)
    return at


def test_before_anything_was_done_nothing_is_known() -> None:
    rate = ServiceRate()
    assert rate.rows_per_s == 0
    rate.begin(5.0)
    assert rate.rows_per_s == 0
    rate.done(0, 5.0, idle=True)
    assert rate.rows_per_s == 0


def test_a_steady_worker_is_as_fast_as_it_is() -> None:
    rate = ServiceRate()
    busy(rate, rows_a_step=8, steps=500, step_s=0.01, at=100)
    assert rate.rows_per_s == pytest.approx(800, rel=0.01)


def test_idle_time_does_not_count() -> None:
    rate = ServiceRate()
    at = busy(rate, rows_a_step=8, steps=100, step_s=0.01, at=0)
    busy(rate, rows_a_step=8, steps=100, step_s=0.01, at=at + 3_600)
    assert rate.rows_per_s == pytest.approx(800, rel=0.01)


def test_a_worker_that_has_become_slower_says_so_before_long() -> None:
    rate = ServiceRate()
    at = busy(rate, rows_a_step=10, steps=1_000, step_s=0.01, at=0)
    busy(rate, rows_a_step=1, steps=int(3 * MEMORY_S / 0.01), step_s=0.01, at=at)
    assert 100 < rate.rows_per_s < 150
