"""Which neighbours a row shares its batch with, of rows sorted by length. Pure.

The bucket is the one whose time is best spent: of all that hold the row and keep within the bounds,
the one that takes least beside what its rows take by themselves, where a batch's fixed part is paid
once and padding is paid for. More rows come while it runs, so it is not asked what is left by it.
"""

import math
from collections.abc import Sequence
from typing import Final

import msgspec

from forebay.contract.model import BatchLimits
from forebay.inference.cost import Parts

BESIDE_S: Final = 0.0002
"""What a batch takes beside its run: a thread's wake-up, and the loop's work."""

_LEAST_S: Final = 1e-12
"""No row takes less than this."""


class Bound(msgspec.Struct, frozen=True):
    """How large a batch may be; a single row always may.

    Attributes:
        max_rows: at least 1.
        max_tokens: padded.
        max_padding: largest share of the padded tokens that may be padding.
        seconds: that it may take, as predicted.
    """

    max_rows: int
    max_tokens: int
    max_padding: float
    seconds: float = math.inf

    def most(self, length: int) -> int:
        """Rows of a batch that has one of this length; at least 1."""
        return max(min(self.max_rows, self.max_tokens // max(length, 1)), 1)


def bound_of(limits: BatchLimits) -> Bound:
    """Of a batch that somebody waits for."""
    return Bound(
        limits.max_rows,
        limits.max_tokens,
        limits.max_padding,
        math.inf if limits.target_ms is None else limits.target_ms / 1000,
    )


def bucket(
    lengths: Sequence[int],
    at: int,
    *,
    bound: Bound,
    parts: Parts,
    left_s: Sequence[float] | None = None,
) -> tuple[int, int]:
    """The bucket of one row: for each end its best beginning, which moves little from end to end.

    For one end, a shorter row is worth taking as long as a row's share of the batch, beside what
    the row takes alone, is less than that of those there already. So from any beginning the best
    one is found by going to where it gets better.

    Args:
        lengths: of the rows, in ascending order.
        at: the row's position, the first of its length.
        bound: of the batch.
        parts: of what a batch takes; see `Cost`.
        left_s: until each row's deadline; none shares a batch that is predicted to end later. Not
            given if all of that is far off.

    Returns:
        Where it begins, and where it ends.
    """
    if lengths[0] == lengths[-1]:
        left = len(lengths) - at
        return at, at + alike(
            lengths[at], left, bound=bound, parts=parts, left_s=left_s and left_s[at:]
        )
    fixed, a_row, a_token, a_square = parts
    start_s, full = fixed + BESIDE_S, 1 - bound.max_padding
    own = [max(a_row + n * (a_token + a_square * n), _LEAST_S) for n in lengths]
    most_s = bound.seconds - fixed
    max_rows, max_tokens = bound.max_rows, bound.max_tokens
    best, found = math.inf, (at, at + 1)
    begin, tokens, own_s = at, 0, 0.0
    for last in range(at, len(lengths)):
        length, each = lengths[last], own[last]
        tokens += length
        own_s += each
        most = min(max_rows, max_tokens // max(length, 1))
        if most_s < most * each:
            most = int(most_s / each)
        if last > at and last - at >= most:
            break
        rows = last + 1 - begin
        # What is over a bound loses its shortest row, which is the one that pads most.
        while begin < at and (
            rows > most
            or tokens < full * rows * length
            or (left_s and rows * each > min(left_s[begin : last + 1]) - fixed)
        ):
            tokens -= lengths[begin]
            own_s -= own[begin]
            begin += 1
            rows -= 1
        if rows > 1 and (
            tokens < full * rows * length
            or (left_s and rows * each > min(left_s[begin : last + 1]) - fixed)
        ):
            continue
        share = (start_s + rows * each) / own_s
        while begin and rows < most:
            other = begin - 1
            wider, more = (start_s + (rows + 1) * each) / (own_s + own[other]), lengths[other]
            if (
                wider > share
                or tokens + more < full * (rows + 1) * length
                or (left_s and (rows + 1) * each > min(left_s[other : last + 1]) - fixed)
            ):
                break
            begin, rows, share = other, rows + 1, wider
            tokens += more
            own_s += own[begin]
        while begin < at:
            narrower = (start_s + (rows - 1) * each) / (own_s - own[begin])
            if narrower >= share:
                break
            tokens -= lengths[begin]
            own_s -= own[begin]
            begin, rows, share = begin + 1, rows - 1, narrower
        if share <= best:
            best, found = share, (begin, last + 1)
    return found


def alike(
    length: int,
    rows: int,
    *,
    bound: Bound,
    parts: Parts,
    left_s: Sequence[float] | None = None,
) -> int:
    """How many rows of one length share a batch: the more the better, for nothing is padded.

    Args:
        length: of each.
        rows: that there are, at least 1.
        bound: of the batch.
        parts: of what a batch takes.
        left_s: until each row's deadline, if any of that is near.
    """
    most = min(bound.most(length), rows)
    if left_s is None and bound.seconds == math.inf:
        return most
    fixed, a_row, a_token, a_square = parts
    each = a_row + length * (a_token + a_square * length)
    within = bound.seconds
    for count in range(most):
        within = min(within, left_s[count]) if left_s else within
        if count and fixed + (count + 1) * each > within:
            return count
    return most
