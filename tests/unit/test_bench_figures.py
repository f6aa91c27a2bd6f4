"""The benchmark's arithmetic, its texts, and how it reads what others have counted."""

from pathlib import Path
from statistics import mean

import msgspec
import pytest

from tests.bench.goals import redis_calls_per_request
from tests.bench.loads import NULL_64, Texts
from tests.bench.redis_server import called_between
from tests.bench.stats import Measurement, Spread, differences, over, percentile, ratios, spread
from tests.bench.texts import LONGEST_WORDS, SHORTEST_WORDS, make_texts
from tests.bench.vectors import cosine
from tests.bench.wrk import LoadFailedError, read_tally
from tests.unit.bench_samples import sample

TALLY = (
    '{"responses":1500,"right":1000,"wrong":3,"connect":1,"read":2,"write":0,"timeout":4,'
    '"counted_us":2000000,"p50_us":1500,"p90_us":2500,"p99_us":9000}'
)


def test_a_spread_is_the_median_with_the_lowest_and_the_highest() -> None:
    assert spread([3.0, 1.0, 10.0]) == Spread(3.0, 1.0, 10.0)


def test_nothing_has_no_spread() -> None:
    assert spread([]) is None


def test_figures_of_several_rounds_have_their_spread() -> None:
    one, two = Spread(1.0, 1.0, 1.0), Spread(4.0, 4.0, 4.0)
    told = over([{"a": one, "b": one}, {"a": two}, {"a": one}])
    assert told == {"a": Spread(1.0, 1.0, 4.0), "b": one}


def test_ratios_are_taken_round_by_round_and_not_between_medians() -> None:
    # The machine was twice as slow in the second round, for both alike.
    assert ratios({0: 100.0, 1: 50.0}, {0: 10.0, 1: 5.0}) == [10.0, 10.0]


def test_a_round_that_one_of_two_has_not_been_through_is_not_compared() -> None:
    assert ratios({0: 100.0, 1: 50.0}, {1: 5.0, 2: 1.0}) == [10.0]
    assert differences({0: 3.0, 1: 2.0}, {0: 1.0}) == [2.0]


def test_a_round_in_which_the_other_answered_nothing_gives_no_ratio() -> None:
    assert ratios({0: 100.0}, {0: 0.0}) == []


@pytest.mark.parametrize(("share", "expected"), [(0.0, 1.0), (0.5, 3.0), (0.99, 4.0), (1.0, 4.0)])
def test_a_percentile_is_one_of_the_values(share: float, expected: float) -> None:
    assert percentile([1.0, 2.0, 3.0, 4.0], share) == expected


def test_a_measurement_of_no_time_has_no_rate() -> None:
    assert Measurement(5, 0, 0.0, 5).rate == 0.0


def test_a_tally_is_read_from_the_last_line_that_wrk_wrote() -> None:
    measured = read_tally(f"something wrk complained of\n{TALLY}\n").measurement(64)
    assert measured.seconds == 2.0
    assert (measured.p50_ms, measured.p90_ms, measured.p99_ms) == (1.5, 2.5, 9.0)


def test_wrong_late_and_lost_requests_are_failures_and_no_throughput() -> None:
    measured = read_tally(TALLY).measurement(64)
    assert measured.failed == 3 + 4 + 1 + 2
    assert measured.answered == 1000 - 4
    assert measured.rate == 498.0


def test_a_stretch_without_any_answer_has_no_latency() -> None:
    tally = msgspec.structs.replace(read_tally(TALLY), responses=0, right=0, p50_us=0)
    assert tally.measurement(64).p50_ms is None


def test_requests_that_wrk_hung_up_on_were_sent_too() -> None:
    assert read_tally(TALLY).measurement(64).sent == 1500 + 64


@pytest.mark.parametrize(
    ("stderr", "words"),
    [
        ("", "gave no tally"),
        ("unable to connect to 127.0.0.1:1", "unable to connect"),
        ('{"responses":1}', "responses"),
    ],
)
def test_a_wrk_that_gives_no_tally_is_an_error_with_its_words(stderr: str, words: str) -> None:
    with pytest.raises(LoadFailedError, match=words):
        read_tally(stderr)


def test_redis_commands_are_counted_for_one_request_over_all_rounds() -> None:
    found = [
        sample("forebay", NULL_64, 0, 100, calls={"evalsha": 10, "xadd": 100}),
        sample("forebay", NULL_64, 1, 300, calls={"evalsha": 10, "xadd": 300}),
        sample("mosec-server", NULL_64, 0, 100),
    ]
    assert redis_calls_per_request(found, NULL_64) == {"evalsha": 0.05, "xadd": 1.0}


def test_only_commands_called_in_between_are_counted() -> None:
    before, after = {"xadd": 5, "get": 2}, {"xadd": 9, "get": 2, "evalsha": 1}
    assert called_between(before, after) == {"evalsha": 1, "xadd": 4}


def test_texts_are_the_same_each_time_and_no_two_are_equal() -> None:
    texts = make_texts(3_000, seed="a")
    assert texts == make_texts(3_000, seed="a")
    assert len(set(texts)) == 3_000
    assert texts != make_texts(3_000, seed="b")


def test_texts_have_seventeen_words_on_average_and_very_mixed_lengths() -> None:
    lengths = [len(text.split()) for text in make_texts(4_000, seed="lengths")]
    assert 16.5 < mean(lengths) < 18
    assert min(lengths) >= SHORTEST_WORDS
    assert max(lengths) <= LONGEST_WORDS
    assert sum(length > 34 for length in lengths) > 200


def test_texts_stay_as_long_as_they_were_however_many_there_are() -> None:
    lengths = [len(text.split()) for text in make_texts(80_000, seed="many")]
    first, last = mean(lengths[:10_000]), mean(lengths[-10_000:])
    assert last == pytest.approx(first, rel=0.05)


def test_texts_are_written_once_for_each_encoding(tmp_path: Path) -> None:
    texts = Texts("round-0", ("a", "b"), tmp_path)
    path = texts.written("txt", str.encode)
    assert path.read_bytes() == b"a\nb\n"
    assert texts.written("txt", lambda _: b"never called") == path
    assert path.read_bytes() == b"a\nb\n"


def test_cosine_is_one_for_the_same_direction_and_zero_without_length() -> None:
    assert cosine([1.0, 2.0], [2.0, 4.0]) == pytest.approx(1.0)
    assert cosine([1.0, 0.0], [0.0, 1.0]) == 0.0
    assert cosine([0.0, 0.0], [1.0, 1.0]) == 0.0
