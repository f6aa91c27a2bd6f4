"""Which candidates there are, who goes on, and how far the rate is climbed."""

import itertools

from hypothesis import assume, given
from hypothesis import strategies as st

from forebay.contract.model import BackendName, BatchLimits, ModelSpec
from forebay.contract.model_rules import checked
from forebay.contract.rows import Task
from forebay.runtime import svg
from forebay.tune import halving, rates, space
from forebay.tune.pareto import dominates, fronts
from forebay.tune.rates import FRACTIONS, Climb
from forebay.tune.space import Lengths

points = st.lists(
    st.tuples(st.integers(0, 5), st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=20
)


@given(points)
def test_fronts_hold_every_point_once_and_none_is_beaten_in_its_own(
    given_points: list[tuple[int, ...]],
) -> None:
    found = fronts(given_points)
    assert sorted(index for front in found for index in front) == list(range(len(given_points)))
    for front in found:
        for one in front:
            assert not any(dominates(given_points[two], given_points[one]) for two in front)


@given(points)
def test_who_is_on_a_later_front_is_beaten_by_someone_of_the_one_before(
    given_points: list[tuple[int, ...]],
) -> None:
    found = fronts(given_points)
    for before, front in itertools.pairwise(found):
        for one in front:
            assert any(dominates(given_points[two], given_points[one]) for two in before)


@given(points, st.data())
def test_nobody_goes_on_before_one_that_beats_him(
    given_points: list[tuple[int, ...]], data: st.DataObject
) -> None:
    keep = data.draw(st.integers(1, len(given_points)))
    scores = data.draw(
        st.lists(st.integers(0, 9), min_size=len(given_points), max_size=len(given_points))
    )
    kept = halving.promote(given_points, scores, keep=keep)
    assert len(kept) == keep
    left = set(range(len(given_points))) - set(kept)
    assert not any(dominates(given_points[one], given_points[two]) for one in left for two in kept)


@given(
    arms=st.integers(1, 40),
    finalists=st.integers(2, 4),
    seconds=st.floats(1, 600),
    overhead_s=st.floats(0, 5),
)
def test_rungs_halve_down_to_the_finalists_within_the_time(
    arms: int, finalists: int, seconds: float, overhead_s: float
) -> None:
    rungs = halving.plan(arms=arms, finalists=finalists, seconds=seconds, overhead_s=overhead_s)
    if arms <= finalists:
        assert rungs == []
        return
    assert finalists < rungs[0].arms <= arms
    for one, two in itertools.pairwise(rungs):
        assert finalists < two.arms <= (one.arms + 1) // 2
        assert two.seconds == 2 * one.seconds
    assert (rungs[-1].arms + 1) // 2 <= finalists
    assert halving.LEAST_S <= rungs[0].seconds <= halving.MOST_S
    if rungs[0].arms > finalists + 1:
        assert sum(rung.arms * (rung.seconds + overhead_s) for rung in rungs) <= seconds * 1.001


@given(st.integers(0, len(FRACTIONS)))
def test_the_climb_ends_at_the_highest_rate_that_meets_the_goals(last: int) -> None:
    climb, looks = Climb(), 0
    while (fraction := climb.next) is not None:
        climb.told(fraction, met=FRACTIONS.index(fraction) < last)
        looks += 1
    assert climb.best == (FRACTIONS[last - 1] if last else None)
    assert looks <= Climb.STEPS


@given(seconds=st.floats(0, 3_600), steps=st.integers(1, 8))
def test_finalists_are_never_too_many_nor_none_to_choose_from(seconds: float, steps: int) -> None:
    count = rates.finalists(seconds, steps=steps)
    assert 2 <= count <= rates.MOST_FINALISTS
    assert rates.look_s(seconds, arms=count, steps=steps) >= rates.LEAST_LOOK_S


specs = st.builds(
    lambda threads, rows, tokens, padding, prefetch: ModelSpec(
        Task.EMBEDDING,
        BackendName.ONNX,
        source="folder",
        threads=threads,
        batch=BatchLimits(
            max_rows=rows, max_tokens=tokens, max_padding=padding, prefetch_rows=prefetch
        ),
        name="model",
    ),
    st.integers(0, 9),
    st.integers(1, 100),
    st.integers(1, 20_000),
    st.sampled_from((0.0, 0.15, 0.6)),
    st.integers(1, 200),
)


@given(
    specs,
    st.integers(1, 8),
    st.integers(1, 256),
    st.integers(0, 256),
    st.integers(1, 40),
)
def test_candidates_begin_with_the_catalogs_own_and_every_build_and_keep_to_the_rules(
    spec: ModelSpec, cores: int, shortest: int, more: int, count: int
) -> None:
    made = space.builds(spec)
    lengths = Lengths(shortest, shortest + more)
    found = space.arms(made, cores=cores, lengths=lengths, count=count)
    assert 1 <= len(found) <= count
    assert found[0] == spec
    assert found[: len(made)] == made[:count]
    for one in found:
        assert one == checked(one, spec.name)
        assert one.batch.max_rows <= max(spec.batch.prefetch_rows, spec.batch.max_rows)
        assert one.threads <= max(cores, spec.threads)
    assert found == space.arms(made, cores=cores, lengths=lengths, count=count)


@given(specs, st.integers(1, 8), st.integers(1, 256))
def test_rows_of_one_length_are_never_batched_the_same_way_by_two_candidates(
    spec: ModelSpec, cores: int, length: int
) -> None:
    found = space.arms([spec], cores=cores, lengths=Lengths(length, length), count=1_000)
    batches = [
        (one.threads, rows, min(one.batch.max_tokens, rows * length))
        for one in found
        for rows in [min(one.batch.max_rows, max(1, one.batch.max_tokens // length))]
    ]
    assert len(batches) == len(set(batches))


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6))
def test_ticks_are_few_round_and_inside(low: float, width: float) -> None:
    high = low + width
    assume(high - low > 1e-6 * max(1.0, abs(low)))
    found = svg.ticks(low, high)
    assert len(found) <= 7
    assert all(low - width * 1e-6 <= tick <= high + width * 1e-6 for tick in found)
