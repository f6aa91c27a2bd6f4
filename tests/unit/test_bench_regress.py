"""What `make bench-check` calls worse."""

import pytest

from tests.bench.comparisons import Added, Ratio
from tests.bench.loads import NULL_64
from tests.bench.regress import Change, changes_table, compare, has_worse
from tests.bench.stats import Sample
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
    assert has_worse([found]) is (change is Change.WORSE)


def test_a_slower_machine_is_not_worse() -> None:
    (found,) = compare(run((190, 200, 210)), run((19, 20, 21), other=10), [RATIO])

    assert found.change is Change.SAME


def test_failures_are_worse_however_fast_they_are() -> None:
    (found,) = compare(run((200, 200)), run((400, 400), failed=1), [RATIO])

    assert found.change is Change.WORSE
    assert "2 requests failed" in changes_table([found]).markdown()


def test_what_was_not_measured_is_told_and_not_called_worse() -> None:
    (found,) = compare(run((200, 200)), [], [RATIO])

    assert found.change is Change.NOT_MEASURED
    assert not has_worse([found])


def test_times_and_what_is_not_kept_are_passed_over() -> None:
    assert compare(run((200,)), run((100,)), [Added("p50", NULL_64, "other", 1)]) == []
    assert compare([], run((100,)), [RATIO]) == []


def test_what_got_worse_comes_first() -> None:
    same, worse = (
        compare(run((200,)), run((200,)), [RATIO]),
        compare(run((200,)), run((100,)), [RATIO]),
    )
    table = changes_table([*same, *worse])

    assert [row[-1] for row in table.rows] == [Change.WORSE, Change.SAME]
