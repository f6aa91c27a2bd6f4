"""Which candidate is chosen, what is said about it, and the picture of it all."""

from xml.etree import ElementTree

import msgspec

from forebay.contract.model import Precision
from forebay.tune import choice, plot
from forebay.tune.goals import Goals, parse_slo
from forebay.tune.outcome import Found, LeftOut, Outcome, with_front
from tests.fixtures.tunings import SETTINGS, candidate

SLO = Goals(parse_slo("p99=50ms"))


def outcome(found: list[Found], goals: Goals = SLO) -> Outcome:
    chosen = choice.choose(found, goals)
    return Outcome(
        model="<model> & more",
        machine="a machine",
        at="2026-01-01T00:00:00+00:00",
        goals=goals,
        traffic=None,
        seconds=1.0,
        found=tuple(with_front(found, goals)),
        left_out=(),
        chosen=chosen,
        why="",
    )


def test_the_most_rows_a_second_that_meet_all_goals_win() -> None:
    found = [
        candidate(100, is_current=True),
        candidate(300, accuracy=0.9),
        candidate(250, memory_mb=500),
        candidate(None),
        candidate(400, failed="it broke"),
        candidate(400, is_final=False),
        candidate(200),
    ]
    assert choice.choose(found, SLO) == 1
    goals = Goals(SLO.latency, min_accuracy=0.99, max_memory_mb=200)
    assert choice.choose(found, goals) == 6
    told = choice.why(found, 6, goals)
    assert "200 rows/s at p99 ≤ 50 ms, the most of 2 that meet the goals" in told
    assert "2.00 times the current settings' rate" in told
    assert choice.choose([candidate(None)], SLO) is None


def test_of_those_as_fast_the_current_settings_stay_and_else_the_most_accurate_wins() -> None:
    fast, accurate = candidate(100, accuracy=0.99), candidate(98, accuracy=0.999)
    current = candidate(98, accuracy=0.9, is_current=True)
    assert choice.choose([fast, accurate], SLO) == 1
    assert "within 3 % of the most and more accurate" in choice.why([fast, accurate], 1, SLO)
    assert choice.choose([fast, accurate, current], SLO) == 2
    assert "what the catalog says already" in choice.why([fast, accurate, current], 2, SLO)
    light = candidate(99, accuracy=0.99, memory_mb=100)
    assert choice.choose([fast, light], SLO) == 1
    assert "within 3 % of the most and smaller" in choice.why([fast, light], 1, SLO)


def test_current_settings_that_meet_the_goals_at_no_rate_are_told_so() -> None:
    found = [candidate(None, is_current=True), candidate(10)]
    assert choice.why(found, 1, SLO).endswith("the current settings meet them at no rate.")


def test_without_anything_that_fits_the_nearest_is_named_and_what_is_in_its_way() -> None:
    late = [candidate(None, p99=90), candidate(None, p99=60), candidate(None, p99=None)]
    told = choice.nearest(late, [], SLO)
    assert "p99 is 60.0 ms where 50 ms are asked" in told
    assert "at 20.0 rows/s" in told
    heavy = [candidate(memory_mb=300), candidate(memory_mb=250)]
    assert "with 250 MB" in choice.nearest(heavy, [], Goals(max_memory_mb=100))
    left = [LeftOut("int8", "", 0.98), LeftOut("fp16", "", 0.99)]
    told = choice.nearest([], left, Goals(min_accuracy=0.999))
    assert told == "No build reaches an accuracy of 0.999: fp16 comes nearest with 0.99000."
    broken = [candidate(failed="No memory.", saturated=None)]
    assert "No memory." in choice.nearest(broken, [], SLO)
    assert "--minutes" in choice.nearest([candidate(is_final=False)], [], SLO)


def test_who_is_beaten_in_everything_is_not_on_the_front() -> None:
    found = [candidate(100), candidate(90, memory_mb=200), candidate(50, accuracy=1.0)]
    assert [one.on_front for one in with_front(found, SLO)] == [True, False, True]
    hopeless = candidate(None, accuracy=1.0)
    assert [one.on_front for one in with_front([found[0], hopeless], SLO)] == [True, False]
    # Latency counts where no goal fixes it.
    quick = candidate(90, memory_mb=200, p99=10)
    assert [one.on_front for one in with_front([found[0], quick], Goals())] == [True, True]


def test_the_picture_is_an_svg_with_a_point_for_every_candidate() -> None:
    tried = candidate(None, is_final=False)
    drawn = plot.draw(outcome([candidate(100, is_current=True), candidate(200), tried]))
    root = ElementTree.fromstring(drawn)
    told = [title.text for title in root.iter("{http://www.w3.org/2000/svg}title")]
    assert told[0] == "Tuning of <model> & more: p99 ≤ 50 ms"
    assert sum("rows/s, 150 MB" in str(one) for one in told) == 3
    assert "Nothing was measured in full" in plot.draw(outcome([tried]))
    goals = Goals(parse_slo("p50=1ms,p99=50ms"))
    assert "p99 of queue and pass" in plot.draw(outcome([candidate(None, p99=None)], goals))


def test_settings_are_told_in_a_few_words() -> None:
    told = candidate(settings={**SETTINGS, "precision": Precision.FP32, "threads": 0}).label
    assert told == "fp32, all cores a pass, 32 rows, 256 tokens, 15 % padding"
    told = candidate(settings={"build.fuse": "on", **SETTINGS, "threads": 2}).label
    assert told == "fused, int8, 2 threads, 32 rows, 256 tokens, 15 % padding"
    assert candidate(settings={"batch.max_rows": 1}).label == "1 row"
    assert msgspec.json.decode(msgspec.json.encode(candidate()), type=Found) == candidate()
