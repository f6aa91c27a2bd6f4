"""Turns of callers whose rows a worker holds: nobody waits for what another has heaped up."""

from hypothesis import given
from hypothesis import strategies as st

from forebay.contract.model import BatchLimits
from forebay.inference.batcher import HEAP, Batcher
from forebay.inference.urgency import Urgency

FAR_MS = 10**12
NOISY, QUIET = 7, 8
REALTIME = Urgency.REALTIME


def batcher_of(rows: list[tuple[int, int]], *, most: int = 4) -> Batcher[int]:
    """Rows of `(caller, length)`; each is given back as its caller."""
    batcher: Batcher[int] = Batcher(BatchLimits(max_rows=most, max_padding=0.0))
    for caller, length in rows:
        add(batcher, caller, length)
    return batcher


def add(batcher: Batcher[int], caller: int, length: int = 10) -> None:
    batcher.add(REALTIME, caller, length=length, deadline_at_ms=FAR_MS, caller=caller)


def callers(batcher: Batcher[int]) -> list[int]:
    """Whose the rows of the next batch are."""
    return [row.item for row in batcher.next(0).rows]


def test_who_has_little_goes_ahead_of_what_another_has_heaped_up() -> None:
    batcher = batcher_of([(NOISY, 10)] * 40)
    assert callers(batcher) == [NOISY] * 4
    # Of another length, so that it shares no batch with them.
    add(batcher, QUIET, 20)
    assert callers(batcher) == [QUIET]
    assert callers(batcher) == [NOISY] * 4
    # It does not go ahead for ever: who comes again has its turn after what it was given.
    for _ in range(4):
        add(batcher, QUIET, 20)
    assert [set(callers(batcher)) for _ in range(2)] == [{QUIET}, {NOISY}]


def test_who_was_away_owes_nothing_and_is_owed_nothing() -> None:
    batcher = batcher_of([(NOISY, 10)] * 20)
    add(batcher, QUIET, 20)
    for _ in range(4):
        callers(batcher)
    for _ in range(8):
        add(batcher, QUIET, 20)
    seen = [callers(batcher) for _ in range(4)]
    # Each gets as much of the machine: 80 of a batch of the quiet one for two of the other's.
    assert [batch[0] for batch in seen] in (
        [QUIET, NOISY, NOISY, QUIET],
        [NOISY, QUIET, NOISY, QUIET],
    )


def test_one_caller_has_its_rows_by_age() -> None:
    batcher: Batcher[int] = Batcher(BatchLimits(max_rows=1))
    for number in range(6):
        batcher.add(
            Urgency.REALTIME, number, length=10 - number, deadline_at_ms=FAR_MS, caller=NOISY
        )
    assert [row.item for _ in range(6) for row in batcher.next(0).rows] == list(range(6))


rows = st.lists(st.tuples(st.integers(0, 3), st.integers(1, 50)), max_size=60)


@given(rows, st.lists(st.booleans(), max_size=80), st.integers(1, 8))
def test_all_rows_leave_once_whatever_comes_between(
    made: list[tuple[int, int]], steps: list[bool], most: int
) -> None:
    batcher: Batcher[int] = Batcher(BatchLimits(max_rows=most))
    left = list(enumerate(made))
    out: list[int] = []
    for comes in steps:
        if comes and left:
            number, (caller, length) = left.pop(0)
            batcher.add(
                Urgency.REALTIME, number, length=length, deadline_at_ms=FAR_MS, caller=caller
            )
        else:
            out += [row.item for row in batcher.next(0).rows]
    for number, (caller, length) in left:
        batcher.add(REALTIME, number, length=length, deadline_at_ms=FAR_MS, caller=caller)
    while batch := batcher.next(0).rows:
        out += [row.item for row in batch]
    assert sorted(out) == list(range(len(made)))
    assert len(batcher) == 0


@given(st.lists(st.integers(1, 40), min_size=30, max_size=60), st.integers(1, 4))
def test_callers_that_always_have_rows_get_as_much_of_the_machine(
    lengths: list[int], most: int
) -> None:
    """Start-time fair queueing: no two are further apart than their largest batches."""
    batcher: Batcher[tuple[int, int]] = Batcher(BatchLimits(max_rows=most, max_padding=0.0))
    for number, length in enumerate(lengths):
        for caller in (NOISY, QUIET):
            # Lengths of callers differ, so that they share no batch.
            of = 2 * length + (caller == QUIET)
            item = (caller, of)
            batcher.add(REALTIME, item, length=of, deadline_at_ms=FAR_MS, caller=caller)
        del number
    given = {NOISY: 0, QUIET: 0}
    bound = 2 * most * 81
    while True:
        batch = batcher.next(0).rows
        for row in batch:
            caller, of = row.item
            given[caller] += of
        if not batch or min(given.values()) >= 2 * sum(lengths):
            break
        assert abs(given[NOISY] - given[QUIET]) <= bound


def test_who_has_heaped_up_rows_lets_go_ahead_who_asks_for_little_and_nobody_else() -> None:
    batcher = batcher_of([(NOISY, 10)] * HEAP)
    assert batcher.asks_for_little(QUIET, (4, 6))
    assert not batcher.asks_for_little(QUIET, (5, 6))
    assert not batcher.asks_for_little(NOISY, (1,))
    batcher.add(Urgency.AHEAD, QUIET, length=10, deadline_at_ms=FAR_MS, caller=QUIET)
    assert not batcher.asks_for_little(QUIET, (10,))
    while callers(batcher):
        pass
    assert not batcher.asks_for_little(QUIET, (1,))


@given(rows, st.lists(st.booleans(), max_size=80), st.integers(0, 40))
def test_what_waits_is_counted_until_it_has_left(
    made: list[tuple[int, int]], steps: list[bool], dropped: int
) -> None:
    batcher: Batcher[int] = Batcher(BatchLimits(max_rows=3))
    held = [
        batcher.add(Urgency.REALTIME, caller, length=length, deadline_at_ms=at % 3, caller=caller)
        for at, (caller, length) in enumerate(made)
    ]
    for row in held[:dropped:2]:
        batcher.discard(row)
    for _ in steps:
        batcher.next(1)
        waits = dict.fromkeys(range(4), 0)
        for row in held:
            waits[row.caller] += 0 if row.taken else row.length
        for caller in range(4):
            most = max(length for one, length in waits.items() if one != caller)
            fits = most // HEAP - waits[caller]
            assert not batcher.asks_for_little(caller, (max(fits, 0) + 1,))
            if fits > 0:
                assert batcher.asks_for_little(caller, (fits,))
