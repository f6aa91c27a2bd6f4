"""Which rows go into the next micro-batch. Pure: no clock, no thread, no I/O.

Padding is the enemy: a batch costs rows x the longest row, so rows of like length belong
together. The oldest of the most urgent rows always goes first, so nothing starves; where
several callers have rows there, the oldest of whoever was given least (`turns`). Its company, once
it is known what batches take, are the neighbours with which time is best spent (`buckets`); before,
whoever pads the batch least. Rows under suspicion share a batch with nobody but their own kind.
"""

import bisect
import itertools
import math
from collections.abc import Iterable
from operator import attrgetter
from typing import Final, Generic, TypeVar

import msgspec

from forebay.contract.model import BatchLimits
from forebay.inference.buckets import Bound, alike, bound_of, bucket
from forebay.inference.cost import Cost
from forebay.inference.turns import Turns
from forebay.inference.urgency import Urgency

T = TypeVar("T")

HEAP: Final = 8
"""Who has so many times as much waiting as another is asked to let him go ahead."""


class Pending(msgspec.Struct, Generic[T], eq=False):
    """A row waiting for its batch.

    Attributes:
        urgency: of the row.
        length: tokens, or whatever the backend pads.
        order: position in arrival order.
        deadline_at_ms: not worth running after this.
        item: what who has added it wants back.
        caller: whose it is; 0 if nobody in particular's.
        alone: if not None, shares a batch only with rows for which this is the same object.
        taken: set once the row has left the batcher.
    """

    urgency: Urgency
    length: int
    order: int
    deadline_at_ms: int
    item: T
    caller: int = 0
    alone: object = None
    taken: bool = False


class MicroBatch(msgspec.Struct, Generic[T], frozen=True):
    """Rows for one forward pass, and those found to have waited too long.

    Attributes:
        rows: in ascending order of length; may be empty.
        expired: rows past their deadline, which left the batcher without running.
        alone: nothing else may run meanwhile.
    """

    rows: list[Pending[T]]
    expired: list[Pending[T]]
    alone: bool = False

    @property
    def longest(self) -> int:
        """Length of the longest row; 0 if there is none."""
        return self.rows[-1].length if self.rows else 0

    @property
    def padded_tokens(self) -> int:
        """Rows x the longest row."""
        return len(self.rows) * self.longest


_LENGTH: Final = attrgetter("length")


class _Pool(Generic[T]):
    """Rows of one urgency: all by age, and by length those that may share a batch."""

    def __init__(self) -> None:
        self.by_age: Turns[Pending[T]] = Turns()
        self.by_length: list[Pending[T]] = []
        self.alone: list[Pending[T]] = []
        self._soonest_ms = 0

    def __len__(self) -> int:
        return len(self.by_length) + len(self.alone)

    def add(self, row: Pending[T]) -> None:
        if not len(self) or row.deadline_at_ms < self._soonest_ms:
            self._soonest_ms = row.deadline_at_ms
        self.by_age.add(row)
        if row.alone is None:
            bisect.insort(self.by_length, row, key=_LENGTH)
        else:
            self.alone.append(row)

    def ends_before(self, ms: int) -> bool:
        """Whether a row that is held has a deadline before this."""
        # What is known of it may be of a row that has left: then it is looked at anew.
        if self._soonest_ms < ms and len(self):
            held = itertools.chain(self.by_length, self.alone)
            self._soonest_ms = min(row.deadline_at_ms for row in held)
        return self._soonest_ms < ms

    def position(self, row: Pending[T]) -> int:
        at = bisect.bisect_left(self.by_length, row.length, key=_LENGTH)
        while self.by_length[at] is not row:
            at += 1
        return at

    def remove(self, row: Pending[T]) -> None:
        row.taken = True
        self.by_age.left((row,))
        if row.alone is None:
            del self.by_length[self.position(row)]
        else:
            self.alone.remove(row)


class Batcher(Generic[T]):
    """Holds prepared rows and forms micro-batches from them.

    Args:
        limits: rows, padded tokens and padding share of one batch, and what it is to take.
        cost: what batches take, kept by who runs them; without it only limits of size hold.
    """

    def __init__(self, limits: BatchLimits, cost: Cost | None = None) -> None:
        self._cost = cost or Cost()
        self._bound = bound_of(limits)
        self._pools: dict[Urgency, _Pool[T]] = {urgency: _Pool() for urgency in Urgency}
        self._order = itertools.count()

    def __len__(self) -> int:
        """Rows held."""
        return sum(map(len, self._pools.values()))

    def held(self, urgency: Urgency) -> int:
        """Rows of one urgency held."""
        return len(self._pools[urgency])

    def asks_for_little(self, caller: int, lengths: Iterable[int]) -> bool:
        """Whether rows of a caller may go ahead of others of realtime that wait here.

        They may where somebody else has heaped up so much that they hold him up by little.

        Args:
            caller: whose they are.
            lengths: of each of them; read only if somebody else has rows here.
        """
        realtime, ahead = self._pools[Urgency.REALTIME].by_age, self._pools[Urgency.AHEAD].by_age
        crowd = realtime.crowd(caller)
        if not crowd:
            return False
        length = sum(lengths)
        return crowd >= HEAP * (length + realtime.waits(caller) + ahead.waits(caller))

    def add(
        self,
        urgency: Urgency,
        item: T,
        *,
        length: int,
        deadline_at_ms: int,
        alone: object = None,
        caller: int = 0,
    ) -> Pending[T]:
        """Hold a row until its batch comes.

        Args:
            urgency: its.
            item: what `next` gives back.
            length: tokens, or whatever the backend pads.
            deadline_at_ms: not worth running after this.
            alone: if not None, it shares a batch only with rows that have the same object here.
            caller: whose it is; 0 if nobody in particular's.
        """
        order = next(self._order)
        row = Pending(urgency, length, order, deadline_at_ms, item, caller, alone)
        self._pools[urgency].add(row)
        return row

    def discard(self, row: Pending[T]) -> None:
        """Forget a row that nobody wants any more; no matter if it has left already."""
        if not row.taken:
            self._pools[row.urgency].remove(row)

    def next(
        self,
        now_ms: int,
        *,
        urgencies: Iterable[Urgency] = tuple(Urgency),
        bulk: Bound | None = None,
    ) -> MicroBatch[T]:
        """Take the next micro-batch; empty when nothing is held.

        Args:
            now_ms: rows whose deadline lies before this are set aside.
            urgencies: of the rows that it is made of, the most urgent first.
            bulk: bound of a batch that rows of bulk join; as of any if not given.
        """
        window = _Window[T](self._bound, self._cost, now_ms)
        for urgency in urgencies:
            pool = self._pools[urgency]
            if urgency is Urgency.BULK and bulk is not None:
                window.bound = bulk
            while (seed := pool.by_age.next()) is not None:
                if seed.deadline_at_ms >= now_ms:
                    break
                pool.remove(seed)
                window.expired.append(seed)
            if seed is None:
                continue
            if seed.alone is not None and not window.rows:
                window.take_alone(pool, seed)
                pool.by_age.took(window.rows)
                return MicroBatch(window.rows, window.expired, alone=True)
            had, expired = len(window.rows), len(window.expired)
            window.grow(pool, seed)
            pool.by_age.took(window.rows[had:])
            pool.by_age.left((*window.rows[had:], *window.expired[expired:]))
        window.rows.sort(key=_LENGTH)
        return MicroBatch(window.rows, window.expired)


class _Window(Generic[T]):
    """A batch in the making, along each pool's rows, sorted by length."""

    def __init__(self, bound: Bound, cost: Cost, now_ms: int) -> None:
        self.bound = bound
        self._cost = cost
        self._now_ms = now_ms
        self._tokens = 0
        self._longest = 0
        self.rows: list[Pending[T]] = []
        self.expired: list[Pending[T]] = []

    def grow(self, pool: _Pool[T], seed: Pending[T]) -> None:
        """Take rows of `pool`: with `seed` if the batch is empty, else those that pad it least."""
        by_length = pool.by_length
        if self.rows:
            middle = self.rows[len(self.rows) // 2].length
            at = bisect.bisect_left(by_length, middle, key=_LENGTH)
            self._widen(by_length, at, at)
            return
        at = pool.position(seed)
        if len(by_length) > 1 and self._cost.known:
            low, high = self._bucket(pool, at)
            for row in by_length[low:high]:
                self._take(row)
            del by_length[low:high]
        else:
            self._take(seed)
            self._widen(by_length, at, at + 1)

    def take_alone(self, pool: _Pool[T], seed: Pending[T]) -> None:
        """Take rows that stand alone together with `seed`, as they came, up to the limits."""
        for row in [row for row in pool.alone if row.alone is seed.alone]:
            padded = (len(self.rows) + 1) * max(self._longest, row.length)
            most_rows, most_tokens = self.bound.max_rows, self.bound.max_tokens
            if self.rows and (len(self.rows) == most_rows or padded > most_tokens):
                break
            pool.remove(row)
            self._take(row)
        self.rows.sort(key=_LENGTH)

    def _widen(self, by_length: list[Pending[T]], low: int, high: int) -> None:
        """Take rows to either side of `by_length[low:high]`, which is taken, least padding first.

        The greedy choice follows the idea of bucketing by sequence length; it looks at no more rows
        than it takes.
        """
        low -= 1
        while len(self.rows) < self.bound.max_rows:
            shorter = self._padding_with(by_length[low]) if low >= 0 else None
            longer = self._padding_with(by_length[high]) if high < len(by_length) else None
            if shorter is not None and (longer is None or shorter <= longer):
                self._take(by_length[low])
                low -= 1
            elif longer is not None:
                self._take(by_length[high])
                high += 1
            else:
                break
        del by_length[low + 1 : high]

    def _padding_with(self, row: Pending[T]) -> int | None:
        """Padding of the batch if `row` joins, or None where it would be over a limit."""
        rows, longest = len(self.rows) + 1, max(self._longest, row.length)
        padded = rows * longest
        padding = padded - self._tokens - row.length
        if padded > self.bound.max_tokens or padding > self.bound.max_padding * padded:
            return None
        if self._cost.known:
            left_s = min(map(self._left_s, (*self.rows, row)))
            if self._cost.seconds(rows, longest) > min(self.bound.seconds, left_s):
                return None
        return padding

    def _bucket(self, pool: _Pool[T], at: int) -> tuple[int, int]:
        """Where the bucket of the row at `at` begins and ends."""
        by_length, bound, parts = pool.by_length, self.bound, self._cost.parts
        length = by_length[at].length
        most = bound.most(length)
        first, last = max(at - most + 1, 0), min(at + most, len(by_length)) - 1
        longest = by_length[last].length
        # No batch of these takes longer than this, so a deadline after it bounds none.
        most_s = self._cost.seconds(most, longest)
        left_s = None
        if pool.ends_before(self._now_ms + int(most_s * 1000) + 1):
            left_s = [self._left_s(row) for row in by_length[first : last + 1]]
        if by_length[first].length == longest:
            left = last + 1 - at
            return at, at + alike(length, left, bound=bound, parts=parts, left_s=left_s)
        lengths = [row.length for row in by_length[first : last + 1]]
        begin, end = bucket(lengths, at - first, bound=bound, parts=parts, left_s=left_s)
        return first + begin, first + end

    def _left_s(self, row: Pending[T]) -> float:
        """Until its deadline; of one whose has passed, and that won't run, any time."""
        left_ms = row.deadline_at_ms - self._now_ms
        return left_ms / 1000 if left_ms >= 0 else math.inf

    def _take(self, row: Pending[T]) -> None:
        row.taken = True
        if row.deadline_at_ms < self._now_ms:
            self.expired.append(row)
            return
        self.rows.append(row)
        self._tokens += row.length
        self._longest = max(self._longest, row.length)
