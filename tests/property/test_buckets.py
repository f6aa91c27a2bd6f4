"""Who shares a batch with a row: what a search along the lengths finds, beside all there is."""

from hypothesis import given
from hypothesis import strategies as st

from forebay.inference.buckets import BESIDE_S, Bound, bucket
from forebay.inference.cost import Parts

cases = st.lists(st.tuples(st.integers(1, 80), st.sampled_from([0.004, 0.02, 1e6])), min_size=1)
some_bounds = st.builds(
    Bound,
    max_rows=st.integers(1, 24),
    max_tokens=st.integers(1, 1_500),
    max_padding=st.floats(0, 0.9),
    seconds=st.sampled_from([0.001, 0.01, 1e6]),
)
some_parts = st.tuples(*(st.sampled_from([0.0, x]) for x in (1e-3, 1e-4, 5e-5, 2e-7)))


def alone_s(length: int, parts: Parts) -> float:
    _, row, token, square = parts
    return max(row + length * (token + square * length), 1e-12)


def share(rows: list[int], parts: Parts) -> float:
    """What a batch takes beside what its rows take alone."""
    start_s = parts[0] + BESIDE_S
    return (start_s + len(rows) * alone_s(rows[-1], parts)) / sum(alone_s(n, parts) for n in rows)


def allowed(
    rows: list[tuple[int, float]], bound: Bound, parts: Parts, *, give: float = 0.0
) -> bool:
    """Whether a batch keeps within its bounds, give or take what a float is off."""
    longest, run_s = rows[-1][0], parts[0] + len(rows) * alone_s(rows[-1][0], parts)
    padded = len(rows) * longest
    return len(rows) == 1 or (
        len(rows) <= bound.max_rows
        and padded <= bound.max_tokens
        and sum(length for length, _ in rows) >= (1 - bound.max_padding) * padded * (1 - give)
        and run_s <= min(bound.seconds, *(left for _, left in rows)) * (1 + give)
    )


@given(cases, some_bounds, some_parts, st.data())
def test_no_bucket_within_the_bounds_spends_time_better(
    held: list[tuple[int, float]], bound: Bound, parts: Parts, data: st.DataObject
) -> None:
    held = sorted(held)
    at = data.draw(st.integers(0, len(held) - 1))
    lengths, left_s = [length for length, _ in held], [left for _, left in held]
    at = lengths.index(lengths[at])

    begin, end = bucket(lengths, at, bound=bound, parts=parts, left_s=left_s)

    assert begin <= at < end
    assert allowed(held[begin:end], bound, parts, give=1e-9)
    best = min(
        share(lengths[first:last], parts)
        for first in range(at + 1)
        for last in range(at + 1, len(held) + 1)
        if allowed(held[first:last], bound, parts, give=-1e-9)
    )
    assert share(lengths[begin:end], parts) <= best * (1 + 1e-6)
