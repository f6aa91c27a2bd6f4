"""The clock follows the server's."""

import time

import pytest

from forebay.runtime.clock import Clock


def test_a_new_clock_goes_by_the_local_one() -> None:
    assert Clock().now() == pytest.approx(time.time(), abs=0.5)


def test_a_clock_takes_the_servers_time_for_the_middle_of_the_question() -> None:
    clock = Clock()
    sent = time.monotonic() - 0.2
    received = sent + 0.2
    clock.follow(1_000_000_000_000, sent, received)
    expected = 1_000_000.0 + 0.1 + (time.monotonic() - received)
    assert clock.now() == pytest.approx(expected, abs=0.05)
    assert clock.now_ms() == pytest.approx(clock.now() * 1000, abs=50)


def test_a_clock_follows_the_server_back_as_well() -> None:
    clock = Clock()
    now = time.monotonic()
    for server_s in (2_000_000, 1_000_000):
        clock.follow(server_s * 1_000_000, now, now)
        assert clock.now() == pytest.approx(server_s, abs=0.5)


def test_an_answer_that_took_long_is_passed_over_until_the_others_are_too_old() -> None:
    clock = Clock()
    now = time.monotonic()
    clock.follow(1_000_000_000_000, now, now)
    clock.follow(1_000_900_000_000, now, now + 10)
    assert clock.now() == pytest.approx(1_000_000.0, abs=0.5)
    clock.follow(1_000_900_000_000, now + 99_990, now + 100_000)
    assert clock.now() == pytest.approx(1_000_900.0 - 99_995, abs=0.5)


def test_time_passes_between_two_answers() -> None:
    clock = Clock()
    now = time.monotonic()
    clock.follow(5_000_000, now - 10, now - 10)
    assert clock.now_ms() == pytest.approx(15_000, abs=500)
    assert isinstance(clock.now_ms(), int)
