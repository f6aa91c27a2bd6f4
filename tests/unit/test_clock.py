"""The clock follows the server's."""

import time

from forebay.runtime.clock import Clock


def assert_at(clock: Clock, server_s: float, since: float) -> None:
    """It was this time at a moment of the local clock, and is so much later now."""
    least = server_s + time.monotonic() - since
    now = clock.now()
    now_ms = clock.now_ms()
    most = server_s + time.monotonic() - since
    assert least - 0.01 <= now <= most + 0.01
    assert isinstance(now_ms, int)
    assert least - 0.01 <= now_ms / 1000 <= most + 0.01


def test_a_new_clock_goes_by_the_local_one() -> None:
    before = time.time()
    assert before - 0.5 <= Clock().now() <= time.time() + 0.5


def test_a_clock_takes_the_servers_time_for_the_middle_of_the_question() -> None:
    clock = Clock()
    sent = time.monotonic() - 0.2
    clock.follow(1_000_000_000_000, sent, sent + 0.2)
    assert_at(clock, 1_000_000.0, sent + 0.1)


def test_a_clock_follows_the_server_back_as_well() -> None:
    clock = Clock()
    now = time.monotonic()
    for server_s in (2_000_000, 1_000_000):
        clock.follow(server_s * 1_000_000, now, now)
        assert_at(clock, server_s, now)


def test_an_answer_that_took_long_is_passed_over_until_the_others_are_too_old() -> None:
    clock = Clock()
    now = time.monotonic()
    clock.follow(1_000_000_000_000, now, now)
    clock.follow(1_000_900_000_000, now, now + 10)
    assert_at(clock, 1_000_000, now)
    clock.follow(1_000_900_000_000, now + 99_990, now + 100_000)
    assert_at(clock, 1_000_900, now + 99_995)


def test_time_passes_between_two_answers() -> None:
    clock = Clock()
    now = time.monotonic()
    clock.follow(5_000_000, now - 10, now - 10)
    assert_at(clock, 5, now - 10)
