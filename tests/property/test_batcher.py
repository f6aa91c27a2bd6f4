"""The batcher, driven with arbitrary rows: nothing lost, nothing twice, limits kept."""

from hypothesis import given
from hypothesis import strategies as st

from forebay.contract.model import BatchLimits
from forebay.contract.prediction import Lane
from forebay.inference.batcher import Batcher, MicroBatch

NOW = 1_000

rows = st.lists(
    st.tuples(
        st.sampled_from(list(Lane)),
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
)


def filled(added: list[tuple[Lane, int, int]], bounds: BatchLimits) -> Batcher[int]:
    batcher: Batcher[int] = Batcher(bounds)
    for number, (lane, length, deadline) in enumerate(added):
        batcher.add(lane, number, length=length, deadline_at_ms=deadline)
    return batcher


def drained(batcher: Batcher[int]) -> list[MicroBatch[int]]:
    batches = []
    while len(batcher):
        batches.append(batcher.next(NOW))
        assert batches[-1].rows or batches[-1].expired, "a batcher that holds rows gives some"
    return batches


@given(rows, limits)
def test_every_row_leaves_exactly_once_to_run_or_as_expired(
    added: list[tuple[Lane, int, int]], bounds: BatchLimits
) -> None:
    batches = drained(filled(added, bounds))

    ran = [row.item for batch in batches for row in batch.rows]
    expired = [row.item for batch in batches for row in batch.expired]
    late = {n for n, (_, _, deadline) in enumerate(added) if deadline < NOW}
    assert sorted(ran + expired) == list(range(len(added)))
    assert set(expired) == late


@given(rows, limits)
def test_no_batch_is_over_a_limit_unless_a_single_row_is(
    added: list[tuple[Lane, int, int]], bounds: BatchLimits
) -> None:
    for batch in drained(filled(added, bounds)):
        assert len(batch.rows) <= bounds.max_rows
        if len(batch.rows) > 1:
            padding = batch.padded_tokens - sum(row.length for row in batch.rows)
            assert batch.padded_tokens <= bounds.max_tokens
            assert padding <= bounds.max_padding * batch.padded_tokens


@given(rows, limits)
def test_each_batch_holds_the_oldest_row_of_the_most_urgent_lane(
    added: list[tuple[Lane, int, int]], bounds: BatchLimits
) -> None:
    batcher = filled(added, bounds)
    waiting = [n for n, (_, _, deadline) in enumerate(added) if deadline >= NOW]
    while len(batcher):
        batch = batcher.next(NOW)
        gone = {row.item for row in batch.rows}
        if waiting:
            urgent = [n for n in waiting if added[n][0] is Lane.REALTIME]
            assert (urgent or waiting)[0] in gone
        waiting = [n for n in waiting if n not in gone]


@given(rows, limits, st.data())
def test_a_discarded_row_never_runs(
    added: list[tuple[Lane, int, int]], bounds: BatchLimits, data: st.DataObject
) -> None:
    batcher: Batcher[int] = Batcher(bounds)
    held = [
        batcher.add(lane, n, length=length, deadline_at_ms=deadline)
        for n, (lane, length, deadline) in enumerate(added)
    ]
    dropped = data.draw(st.sets(st.integers(0, len(added) - 1))) if added else set()
    for number in dropped:
        batcher.discard(added[number][0], held[number])
        batcher.discard(added[number][0], held[number])

    left = {row.item for batch in drained(batcher) for row in batch.rows + batch.expired}

    assert left == set(range(len(added))) - dropped


def test_rows_of_like_length_share_a_batch_and_a_long_one_stays_out() -> None:
    batcher: Batcher[str] = Batcher(BatchLimits(max_rows=8, max_padding=0.2))
    for length in (10, 100, 11, 9, 10):
        batcher.add(Lane.REALTIME, f"row of {length}", length=length, deadline_at_ms=NOW)

    first, second = batcher.next(NOW), batcher.next(NOW)

    assert [row.length for row in first.rows] == [9, 10, 10, 11]
    assert [row.length for row in second.rows] == [100]


def test_bulk_rows_fill_what_realtime_leaves_free() -> None:
    batcher: Batcher[str] = Batcher(BatchLimits(max_rows=3))
    for name in ("bulk a", "bulk b", "bulk c"):
        batcher.add(Lane.BULK, name, length=10, deadline_at_ms=NOW)
    batcher.add(Lane.REALTIME, "urgent", length=10, deadline_at_ms=NOW)

    batch = batcher.next(NOW)

    assert "urgent" in [row.item for row in batch.rows]
    assert len(batch.rows) == 3


@given(
    st.lists(
        st.tuples(
            st.sampled_from(list(Lane)), st.integers(1, 600), st.sampled_from([None, "a", "b"])
        ),
        max_size=40,
    ),
    limits,
)
def test_rows_under_suspicion_share_a_batch_with_their_own_kind_only(
    added: list[tuple[Lane, int, str | None]], bounds: BatchLimits
) -> None:
    batcher: Batcher[int] = Batcher(bounds)
    kinds = {"a": object(), "b": object(), None: None}
    for number, (lane, length, kind) in enumerate(added):
        batcher.add(lane, number, length=length, deadline_at_ms=NOW, alone=kinds[kind])
    assert sum(batcher.held(lane) for lane in Lane) == len(batcher) == len(added)

    batches = drained(batcher)

    assert sorted(row.item for batch in batches for row in batch.rows) == list(range(len(added)))
    for batch in batches:
        assert len({added[row.item][2] for row in batch.rows} | {None}) <= 2
        suspects = [row for row in batch.rows if added[row.item][2] is not None]
        assert suspects in ([], batch.rows)
        assert batch.alone == bool(suspects)
        assert len(batch.rows) == 1 or batch.padded_tokens <= bounds.max_tokens
        assert len(batch.rows) <= bounds.max_rows
