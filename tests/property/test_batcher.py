"""The batcher, driven with arbitrary rows: nothing lost, nothing twice, limits kept."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.contract.model import BatchLimits
from forebay.inference.batcher import Batcher, MicroBatch
from forebay.inference.buckets import Bound
from forebay.inference.cost import Cost
from forebay.inference.urgency import Urgency

NOW = 1_000

rows = st.lists(
    st.tuples(
        st.sampled_from(list(Urgency)),
        st.integers(1, 600),
        st.sampled_from([NOW - 1, NOW, NOW + 5_000]),
    ),
    max_size=60,
)
limits = st.builds(
    BatchLimits,
    max_rows=st.integers(1, 40),
    max_tokens=st.integers(1, 5_000),
    max_padding=st.floats(0, 0.9),
    target_ms=st.sampled_from([None, 1.0, 30.0]),
)


def taking(fixed_s: float, token_s: float) -> Cost:
    """What was seen of batches that take so long."""
    cost = Cost()
    for rows, length in ((1, 8), (4, 16), (8, 32), (16, 64), (2, 300)) * 20:
        cost.saw(rows, length, fixed_s + token_s * rows * length)
    return cost


some_cost = st.sampled_from([Cost(), taking(0.001, 5e-5), taking(0.02, 1e-6), taking(0.0, 1e-3)])


def filled(
    added: list[tuple[Urgency, int, int]], bounds: BatchLimits, cost: Cost | None = None
) -> Batcher[int]:
    batcher: Batcher[int] = Batcher(bounds, cost)
    for number, (urgency, length, deadline) in enumerate(added):
        batcher.add(urgency, number, length=length, deadline_at_ms=deadline)
    return batcher


def drained(batcher: Batcher[int]) -> list[MicroBatch[int]]:
    batches = []
    while len(batcher):
        batches.append(batcher.next(NOW))
        assert batches[-1].rows or batches[-1].expired, "a batcher that holds rows gives some"
    return batches


@given(rows, limits, some_cost)
def test_every_row_leaves_exactly_once_to_run_or_as_expired(
    added: list[tuple[Urgency, int, int]], bounds: BatchLimits, cost: Cost
) -> None:
    batches = drained(filled(added, bounds, cost))

    ran = [row.item for batch in batches for row in batch.rows]
    expired = [row.item for batch in batches for row in batch.expired]
    late = {n for n, (_, _, deadline) in enumerate(added) if deadline < NOW}
    assert sorted(ran + expired) == list(range(len(added)))
    assert set(expired) == late


@given(rows, limits, some_cost)
def test_no_batch_is_over_a_limit_unless_a_single_row_is(
    added: list[tuple[Urgency, int, int]], bounds: BatchLimits, cost: Cost
) -> None:
    for batch in drained(filled(added, bounds, cost)):
        assert len(batch.rows) <= bounds.max_rows
        if len(batch.rows) > 1:
            padding = batch.padded_tokens - sum(row.length for row in batch.rows)
            assert batch.padded_tokens <= bounds.max_tokens
            assert padding <= bounds.max_padding * batch.padded_tokens


@given(rows, limits, some_cost)
def test_each_batch_holds_the_oldest_row_of_the_most_urgent_kind(
    added: list[tuple[Urgency, int, int]], bounds: BatchLimits, cost: Cost
) -> None:
    batcher = filled(added, bounds, cost)
    waiting = [n for n, (_, _, deadline) in enumerate(added) if deadline >= NOW]
    while len(batcher):
        batch = batcher.next(NOW)
        gone = {row.item for row in batch.rows}
        if waiting:
            most = min(added[n][0] for n in waiting)
            assert next(n for n in waiting if added[n][0] is most) in gone
        waiting = [n for n in waiting if n not in gone]


@given(rows, limits, st.data())
def test_a_discarded_row_never_runs(
    added: list[tuple[Urgency, int, int]], bounds: BatchLimits, data: st.DataObject
) -> None:
    batcher: Batcher[int] = Batcher(bounds)
    held = [
        batcher.add(urgency, n, length=length, deadline_at_ms=deadline)
        for n, (urgency, length, deadline) in enumerate(added)
    ]
    dropped = data.draw(st.sets(st.integers(0, len(added) - 1))) if added else set()
    for number in dropped:
        batcher.discard(held[number])
        batcher.discard(held[number])

    left = {row.item for batch in drained(batcher) for row in batch.rows + batch.expired}

    assert left == set(range(len(added))) - dropped


def test_rows_of_like_length_share_a_batch_and_a_long_one_stays_out() -> None:
    batcher: Batcher[str] = Batcher(BatchLimits(max_rows=8, max_padding=0.2))
    for length in (10, 100, 11, 9, 10):
        batcher.add(Urgency.REALTIME, f"row of {length}", length=length, deadline_at_ms=NOW)

    first, second = batcher.next(NOW), batcher.next(NOW)

    assert [row.length for row in first.rows] == [9, 10, 10, 11]
    assert [row.length for row in second.rows] == [100]


@given(rows, limits, some_cost)
def test_batches_are_predicted_to_end_by_the_target_and_each_rows_deadline(
    added: list[tuple[Urgency, int, int]], bounds: BatchLimits, cost: Cost
) -> None:
    soon = [
        (urgency, length, deadline + 2 * number)
        for number, (urgency, length, deadline) in enumerate(added)
    ]
    for batch in drained(filled(soon, bounds, cost)):
        if len(batch.rows) > 1:
            run_s = cost.seconds(len(batch.rows), batch.longest) * (1 - 1e-9)
            assert run_s <= (bounds.target_ms or 1e9) / 1000
            assert (
                not cost.known
                or run_s <= min(row.deadline_at_ms - NOW for row in batch.rows) / 1000
            )


@pytest.mark.parametrize("lengths", [[10] * 8, [10, 10, 10, 10, 11, 11, 11, 11]])
def test_a_target_makes_batches_smaller_and_a_row_that_is_over_it_runs_alone(
    lengths: list[int],
) -> None:
    for target_ms, rows in ((None, 8), (5.0, 4), (0.5, 1)):
        batcher: Batcher[int] = Batcher(BatchLimits(target_ms=target_ms), taking(0.001, 9e-5))
        for number, length in enumerate(lengths):
            batcher.add(Urgency.REALTIME, number, length=length, deadline_at_ms=NOW + 5_000)
        assert len(batcher.next(NOW).rows) == rows


def test_a_row_in_a_hurry_is_not_kept_by_company() -> None:
    batcher: Batcher[str] = Batcher(BatchLimits(), taking(0.001, 9e-5))
    batcher.add(Urgency.REALTIME, "in a hurry", length=10, deadline_at_ms=NOW + 4)
    for number in range(8):
        batcher.add(Urgency.REALTIME, f"{number}", length=10, deadline_at_ms=NOW + 5_000)

    assert [row.item for row in batcher.next(NOW).rows] == ["in a hurry", "0", "1"]
    assert len(batcher.next(NOW).rows) == 6


def test_bulk_has_a_bound_of_its_own() -> None:
    batcher: Batcher[int] = Batcher(BatchLimits(), taking(0.001, 1e-4))
    for number in range(8):
        batcher.add(Urgency.BULK, number, length=10, deadline_at_ms=NOW + 5_000)

    assert len(batcher.next(NOW, bulk=Bound(32, 50, 0.15)).rows) == 5
    assert len(batcher.next(NOW, bulk=Bound(32, 1_000, 0.15, 0.0031)).rows) == 2


def test_where_any_batch_takes_long_more_padding_is_worth_it() -> None:
    for cost, first in ((taking(0.1, 1e-6), [10, 12, 14, 16]), (taking(1e-6, 1e-3), [10])):
        batcher: Batcher[int] = Batcher(BatchLimits(max_padding=0.5), cost)
        for number, length in enumerate((10, 12, 14, 16)):
            batcher.add(Urgency.REALTIME, number, length=length, deadline_at_ms=NOW + 5_000)
        assert [row.length for row in batcher.next(NOW).rows] == first


def test_bulk_rows_fill_what_realtime_leaves_free() -> None:
    batcher: Batcher[str] = Batcher(BatchLimits(max_rows=3))
    for name in ("bulk a", "bulk b", "bulk c"):
        batcher.add(Urgency.BULK, name, length=10, deadline_at_ms=NOW)
    batcher.add(Urgency.REALTIME, "urgent", length=10, deadline_at_ms=NOW)

    batch = batcher.next(NOW)

    assert "urgent" in [row.item for row in batch.rows]
    assert len(batch.rows) == 3


@given(
    st.lists(
        st.tuples(
            st.sampled_from(list(Urgency)), st.integers(1, 600), st.sampled_from([None, "a", "b"])
        ),
        max_size=40,
    ),
    limits,
)
def test_rows_under_suspicion_share_a_batch_with_their_own_kind_only(
    added: list[tuple[Urgency, int, str | None]], bounds: BatchLimits
) -> None:
    batcher: Batcher[int] = Batcher(bounds)
    kinds = {"a": object(), "b": object(), None: None}
    for number, (urgency, length, kind) in enumerate(added):
        batcher.add(urgency, number, length=length, deadline_at_ms=NOW, alone=kinds[kind])
    assert sum(batcher.held(urgency) for urgency in Urgency) == len(batcher) == len(added)

    batches = drained(batcher)

    assert sorted(row.item for batch in batches for row in batch.rows) == list(range(len(added)))
    for batch in batches:
        assert len({added[row.item][2] for row in batch.rows} | {None}) <= 2
        suspects = [row for row in batch.rows if added[row.item][2] is not None]
        assert suspects in ([], batch.rows)
        assert batch.alone == bool(suspects)
        assert len(batch.rows) == 1 or batch.padded_tokens <= bounds.max_tokens
        assert len(batch.rows) <= bounds.max_rows
