"""What `make bench-check` calls worse."""

import pytest

from tests.bench.comparisons import PERCENT, TIMES, Added, Bound, Ratio
from tests.bench.forebay_server import UNCACHED
from tests.bench.goals import TIMED
from tests.bench.loads import NULL_1, NULL_64, Section
from tests.bench.regress import Change, changes_table, compare, confirmed, where, worse
from tests.bench.run import CHECKED
from tests.bench.session import Choice
from tests.bench.stats import Sample, Spread
from tests.unit.bench_samples import sample

RATIO = Ratio("against another", NULL_64, "other")


def run(ours: tuple[int, ...], *, other: int = 100, failed: int = 0) -> list[Sample]:
    """Rounds in which Forebay answered so many, and another always the same."""
    return [
        one
        for round_, answered in enumerate(ours)
        for one in (
            sample("forebay", NULL_64, round_, answered, failed=failed),
            sample("other", NULL_64, round_, other),
        )
    ]


@pytest.mark.parametrize(
    ("now", "change"),
    [
        ((190, 200, 210), Change.SAME),
        ((150, 160, 170), Change.WORSE),
        ((240, 250, 260), Change.BETTER),
        ((150, 160, 195), Change.SAME),  # far apart, but the spreads touch
        ((185, 186, 187), Change.SAME),  # the spreads do not touch, but it is little
    ],
)
def test_worse_is_what_is_far_below_and_outside_the_spread(
    now: tuple[int, ...], change: Change
) -> None:
    (found,) = compare(run((190, 200, 210)), run(now), [RATIO])

    assert found.change is change
    assert (worse([found]) == [found]) is (change is Change.WORSE)


def test_a_slower_machine_is_not_worse() -> None:
    (found,) = compare(run((190, 200, 210)), run((19, 20, 21), other=10), [RATIO])

    assert found.change is Change.SAME


def test_failures_are_worse_however_fast_they_are() -> None:
    (found,) = compare(run((200, 200)), run((400, 400), failed=1), [RATIO])

    assert found.change is Change.WORSE
    assert "2 requests failed" in changes_table([found]).markdown()


def test_what_was_not_measured_is_told_and_not_called_worse() -> None:
    (found,) = compare(run((200, 200)), [], [RATIO])

    assert found.change is Change.NOT_CHECKED
    assert worse([found]) == []


def test_times_and_what_is_not_kept_are_passed_over() -> None:
    assert compare(run((200,)), run((100,)), [Added("p50", NULL_64, "other", 1)]) == []
    assert compare([], run((100,)), [RATIO]) == []


@pytest.mark.parametrize(
    ("now", "change"),
    [
        ((1.6, 1.7), Change.SAME),
        ((1.85, 1.95), Change.SAME),  # more than is kept, but within the goal
        ((2.3, 2.4), Change.WORSE),
        ((1.9, 2.4), Change.WORSE),
        ((1.2, 1.3), Change.BETTER),
    ],
)
def test_a_share_is_worse_once_it_is_far_from_what_is_kept_and_misses_its_goal(
    now: tuple[float, float], change: Change
) -> None:
    bound = Bound("p99 of that alone", "mixed-p99", most=2, unit=TIMES)
    low, high = now
    (found,) = compare(
        [], [], [bound],
        kept_figures={"mixed-p99": Spread(1.7, 1.6, 1.8)},
        now_figures={"mixed-p99": Spread((low + high) / 2, low, high)},
    )  # fmt: skip
    assert found.change is change


@pytest.mark.parametrize(
    ("now", "change"),
    [(112.0, Change.SAME), (130.0, Change.WORSE), (75.0, Change.WORSE), (91.0, Change.SAME)],
)
def test_between_two_bounds_a_share_is_worse_only_outside_of_them(
    now: float, change: Change
) -> None:
    bound = Bound("beside a million rows", "queued-rate", least=90, most=110, unit=PERCENT)
    (found,) = compare(
        [], [], [bound],
        kept_figures={"queued-rate": Spread(105, 104, 106)},
        now_figures={"queued-rate": Spread(now, now, now)},
    )  # fmt: skip
    assert found.change is change


def test_of_figures_only_shares_with_a_goal_are_compared() -> None:
    figures = {"cold-minilm": Spread(0.3, 0.3, 0.3), "mixed-rows": Spread(95, 94, 96)}
    rows = Bound("rows", "mixed-rows", 90, unit=PERCENT)
    seconds = Bound("cold", "cold-minilm", most=0.4, unit=" s")
    aimless = Bound("rows", "mixed-rows", unit=PERCENT)
    found = compare([], [], [seconds, rows, aimless], kept_figures=figures, now_figures={})
    assert [(one.of, one.change) for one in found] == [(rows, Change.NOT_CHECKED)]


def test_a_check_runs_what_it_names_and_those_that_its_loads_are_for() -> None:
    choice = Choice(CHECKED, quick=True)
    assert {load.name for load in choice.loads()} == {*CHECKED} - {Section.MIXED, Section.FAIR}
    assert choice.sections() == [Section.MIXED, Section.FAIR]
    assert choice.has_contender(UNCACHED, extra=True)
    assert not choice.has_contender("mosec-sorted", extra=True)
    assert choice.whole() == []


def test_what_got_worse_comes_first() -> None:
    same, slower = (
        compare(run((200,)), run((200,)), [RATIO]),
        compare(run((200,)), run((100,)), [RATIO]),
    )
    table = changes_table([*same, *slower])

    assert [row[-1] for row in table.rows] == [Change.WORSE, Change.SAME]


@pytest.mark.parametrize(("second", "change"), [(195, Change.SAME), (110, Change.WORSE)])
def test_worse_is_what_was_so_twice(second: int, change: Change) -> None:
    other = Ratio("against a third", NULL_1, "third")
    samples = [sample("forebay", NULL_1, 0, 100), sample("third", NULL_1, 0, 100)]
    first = compare([*run((200,)), *samples], [*run((100,)), *samples], [RATIO, other])
    again = compare([*run((200,)), *samples], run((second,)), [RATIO, other])
    assert [one.change for one in first] == [Change.WORSE, Change.SAME]
    assert [one.change for one in confirmed(first, again)] == [change, Change.SAME]


def test_what_was_not_measured_again_stays_worse() -> None:
    first = compare(run((200,)), run((100,)), [RATIO])
    assert confirmed(first, compare(run((200,)), [], [RATIO])) == first


def test_only_what_seems_worse_is_measured_again() -> None:
    bound = Bound("p99 of that alone", "mixed-p99", most=2, unit=TIMES)
    found = compare(
        run((200,)), run((100,)), [RATIO, bound],
        kept_figures={"mixed-p99": Spread(1, 1, 1)}, now_figures={"mixed-p99": Spread(3, 3, 3)},
    )  # fmt: skip
    names = where(worse(found))
    assert names == ("null-c64", "mixed")
    choice = Choice(names, quick=True)
    assert [load.name for load in choice.loads()] == ["null-c64"]
    assert choice.sections() == [Section.MIXED]


def test_what_depends_on_how_quick_a_machine_is_is_not_compared() -> None:
    (timed,) = TIMED
    samples = [sample("forebay", timed.load, 0, 100), sample(timed.other, timed.load, 0, 100)]
    assert compare(samples, samples, TIMED) == []
