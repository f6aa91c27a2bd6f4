"""What the benchmark makes of when a stream's events came."""

import pytest

from tests.bench.generation.streams import Read, steady


def test_a_rate_is_of_the_time_in_which_all_streams_write() -> None:
    # 10 and 20 tokens a second; the second begins late and ends early.
    one = Read(0.0, tuple(n / 10 for n in range(100)), 100)
    other = Read(0.0, tuple(2 + n / 20 for n in range(100)), 100)
    assert steady([one, other]) == pytest.approx(30, rel=0.02)


def test_an_event_of_several_tokens_counts_for_them() -> None:
    doubled = Read(0.0, tuple(n / 10 for n in range(50)), 100)
    assert steady([doubled]) == pytest.approx(20, rel=0.05)
    assert doubled.between(1.0, 2.0) == pytest.approx(20)


def test_the_first_token_counts_from_the_request_and_gaps_from_one_to_the_next() -> None:
    read = Read(1.0, (1.5, 1.7, 2.0), 3)
    assert read.first_s == pytest.approx(0.5)
    assert read.gaps_s == pytest.approx([0.2, 0.3])
