"""Which models a worker holds: one case each."""

import msgspec
import pytest

from forebay.contract.workers import ModelState
from forebay.inference.residency import (
    KEEP,
    LONGEST,
    Load,
    Memory,
    Refuse,
    Resident,
    Unload,
    decide,
)

MB = 1_000_000
ROOM_FOR_TWO = Memory(budget=300 * MB, floor=100 * MB, rss=100 * MB)
NOW = 1_000.0


def ready(name: str, *, used: float = 0.0, since: float = 0.0, **more: object) -> Resident:
    """A model of 100 MB that is here since long ago, whose load took a tenth of a second."""
    one = Resident(
        name, ModelState.READY, bytes=100 * MB, load_s=0.1, since=since, used=used, rows=0
    )
    return msgspec.structs.replace(one, **more)


def absent(name: str, *, waiting: float | None = NOW, **more: object) -> Resident:
    """A model of 100 MB that is not here."""
    one = Resident(name, ModelState.ABSENT, bytes=100 * MB, load_s=0.1, rows=1, waiting=waiting)
    return msgspec.structs.replace(one, **more)


def names(steps: list[Load | Unload | Refuse]) -> list[tuple[str, str]]:
    return [(type(step).__name__, step.name) for step in steps]


def full(*models: Resident) -> Memory:
    """The budget is for two models, and the process takes what its models do."""
    held = sum(model.bytes for model in models if model.state is ModelState.READY)
    return msgspec.structs.replace(ROOM_FOR_TWO, rss=ROOM_FOR_TWO.floor + held)


def steps(*models: Resident, idle_s: float = 0.0) -> list[tuple[str, str]]:
    return names(decide(models, full(*models), now=NOW, idle_s=idle_s))


def test_what_fits_is_loaded_and_nothing_goes_for_it() -> None:
    assert steps(ready("a"), absent("b")) == [("Load", "b")]


def test_what_has_no_rows_is_not_loaded() -> None:
    assert steps(ready("a"), absent("b", waiting=None)) == []


def test_without_a_bound_all_are_loaded_one_after_the_other() -> None:
    models = [absent("a", waiting=2.0), absent("b", waiting=1.0), ready("c", busy=True)]
    assert names(decide(models, Memory(), now=NOW)) == [("Load", "b")]


def test_while_one_loads_no_other_does() -> None:
    assert steps(ready("a", state=ModelState.LOADING), absent("b")) == []


def test_the_least_recently_used_goes() -> None:
    assert steps(ready("a", used=2.0), ready("b", used=1.0), absent("c")) == [("Unload", "b")]


def test_one_that_holds_rows_stays_while_another_is_idle() -> None:
    models = (ready("a", used=1.0, busy=True), ready("b", used=2.0), absent("c"))
    assert steps(*models) == [("Unload", "b")]


def test_one_whose_lanes_have_rows_is_not_idle_before_its_slice_is_over() -> None:
    young = NOW - KEEP * 0.1 / 2
    models = (ready("a", rows=3, since=young), ready("b", busy=True, since=young), absent("c"))
    assert steps(*models) == []


def test_nothing_goes_that_has_just_come() -> None:
    young = NOW - KEEP * 0.1 / 2
    assert steps(ready("a", since=young), ready("b", since=young), absent("c")) == []


def test_what_took_long_to_load_stays_longer() -> None:
    since = NOW - KEEP * 0.1 - 1
    slow = ready("a", since=since, load_s=2.0)
    assert steps(slow, ready("b", since=since, used=5.0), absent("c")) == [("Unload", "b")]


def test_one_that_never_rests_goes_when_its_slice_is_over() -> None:
    models = (
        ready("a", busy=True, rows=1, since=NOW - 2),
        ready("b", busy=True, rows=1, since=NOW - 3),
        absent("c"),
    )
    assert steps(*models) == [("Unload", "b")]


@pytest.mark.parametrize(("rows", "stays"), [(3, True), (1, False)])
def test_the_longer_backlog_has_the_longer_slice(rows: int, stays: bool) -> None:
    since = NOW - 2 * KEEP * 0.1
    busy = ready("a", busy=True, rows=rows, since=since)
    assert steps(busy, ready("b", busy=True, since=NOW), absent("c")) == (
        [] if stays else [("Unload", "a")]
    )


def test_no_backlog_keeps_a_model_for_ever() -> None:
    since = NOW - LONGEST * KEEP * 0.1 - 0.001
    busy = ready("a", busy=True, rows=1_000_000, since=since)
    assert steps(busy, ready("b", busy=True, since=NOW), absent("c")) == [("Unload", "a")]


def test_who_has_waited_longest_comes_first_and_room_is_made_for_it() -> None:
    large = absent("large", bytes=200 * MB, waiting=1.0)
    small = absent("small", waiting=2.0)
    assert steps(ready("a"), ready("b"), small, large) == [("Unload", "a"), ("Unload", "b")]


def test_who_waits_behind_takes_no_room_that_the_first_will_need() -> None:
    large = absent("large", bytes=200 * MB, waiting=1.0)
    small = absent("small", bytes=50 * MB, waiting=2.0)
    held = ready("a", busy=True, since=NOW)
    assert steps(held, large, small) == []


def test_who_fits_beside_the_first_may_come_in_meanwhile() -> None:
    first = absent("first", bytes=150 * MB, waiting=1.0)
    small = absent("small", bytes=40 * MB, waiting=2.0)
    held = ready("a", busy=True, since=NOW)
    assert steps(held, first, small) == [("Load", "small")]


def test_nothing_goes_for_a_model_that_another_worker_has() -> None:
    assert steps(ready("a"), ready("b"), absent("c", served=True)) == []
    assert steps(ready("a"), absent("c", served=True)) == [("Load", "c")]


def test_one_that_would_not_fit_alone_is_refused_and_keeps_nobody_waiting() -> None:
    huge = absent("huge", bytes=201 * MB, waiting=1.0)
    assert steps(ready("a"), huge, absent("b")) == [("Refuse", "huge"), ("Load", "b")]


def test_one_that_is_barred_waits_unless_it_is_ordered() -> None:
    assert steps(absent("a", barred=NOW + 1)) == []
    assert steps(absent("a", barred=NOW + 1, ordered=True)) == [("Load", "a")]


def test_an_order_comes_before_all_and_needs_no_slice_of_the_idle_to_be_over() -> None:
    models = (ready("a", since=NOW), ready("b", since=NOW), absent("c", waiting=1.0))
    assert steps(*models) == []
    ordered = absent("d", waiting=NOW, ordered=True, rows=0)
    assert steps(*models, ordered) == [("Unload", "a")]


def test_what_rests_for_long_goes_if_that_is_wanted() -> None:
    models = (ready("a", used=NOW - 10), ready("b", used=NOW - 10, busy=True))
    assert steps(*models) == []
    assert steps(*models, idle_s=9.0) == [("Unload", "a")]
    assert steps(*models, idle_s=11.0) == []


def test_if_they_have_grown_over_the_bound_one_goes_but_never_the_last() -> None:
    grown = Memory(budget=300 * MB, floor=100 * MB, rss=301 * MB)
    models = [ready("a", used=2.0), ready("b", used=1.0)]
    assert names(decide(models, grown, now=NOW)) == [("Unload", "b")]
    assert names(decide(models[:1], grown, now=NOW)) == []


def test_memory_that_is_not_given_back_keeps_the_only_one_that_waits_from_nothing() -> None:
    leaking = Memory(budget=300 * MB, floor=100 * MB, rss=290 * MB)
    assert names(decide([absent("a")], leaking, now=NOW)) == [("Load", "a")]


def test_one_that_has_outgrown_the_bound_is_loaded_alone() -> None:
    grown = absent("grown", bytes=900 * MB, least=50 * MB)
    assert steps(grown) == [("Load", "grown")]
    assert steps(ready("a"), grown) == [("Unload", "a")]
