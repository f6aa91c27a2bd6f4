"""Which rows go into the next micro-batch. Pure: no clock, no thread, no I/O.

Padding is the enemy: a batch costs rows x the longest row, so rows of like length belong
together. The oldest row of the most urgent lane always goes first, so nothing starves; its
company is whoever, among the rows held, pads the batch least. Rows under suspicion share a batch
with nobody but their own kind.
"""

import bisect
import itertools
from collections import deque
from collections.abc import Iterable
from operator import attrgetter
from typing import Final, Generic, TypeVar

import msgspec

from forebay.contract.model import BatchLimits
from forebay.contract.prediction import Lane

T = TypeVar("T")


class Pending(msgspec.Struct, Generic[T], eq=False):
    """A row waiting for its batch.

    Attributes:
        length: tokens, or whatever the backend pads.
        order: position in arrival order.
        deadline_at_ms: not worth running after this.
        item: what the caller wants back.
        alone: if not None, shares a batch only with rows for which this is the same object.
        taken: set once the row has left the batcher.
    """

    length: int
    order: int
    deadline_at_ms: int
    item: T
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
    def padded_tokens(self) -> int:
        """Rows x the longest row."""
        return len(self.rows) * self.rows[-1].length if self.rows else 0


_LENGTH: Final = attrgetter("length")


class _Pool(Generic[T]):
    """Rows of one lane: all by age, and by length those that may share a batch."""

    def __init__(self) -> None:
        self.by_age: deque[Pending[T]] = deque()
        self.by_length: list[Pending[T]] = []
        self.alone: list[Pending[T]] = []

    def __len__(self) -> int:
        return len(self.by_length) + len(self.alone)

    def add(self, row: Pending[T]) -> None:
        self.by_age.append(row)
        if row.alone is None:
            bisect.insort(self.by_length, row, key=_LENGTH)
        else:
            self.alone.append(row)

    def oldest(self) -> Pending[T] | None:
        while self.by_age and self.by_age[0].taken:
            self.by_age.popleft()
        return self.by_age[0] if self.by_age else None

    def position(self, row: Pending[T]) -> int:
        at = bisect.bisect_left(self.by_length, row.length, key=_LENGTH)
        while self.by_length[at] is not row:
            at += 1
        return at

    def remove(self, row: Pending[T]) -> None:
        row.taken = True
        if row.alone is None:
            del self.by_length[self.position(row)]
        else:
            self.alone.remove(row)


class Batcher(Generic[T]):
    """Holds prepared rows and forms micro-batches from them.

    Args:
        limits: rows, padded tokens and padding share of one batch.
    """

    def __init__(self, limits: BatchLimits) -> None:
        self._limits = limits
        self._pools: dict[Lane, _Pool[T]] = {lane: _Pool() for lane in Lane}
        self._order = itertools.count()

    def __len__(self) -> int:
        """Rows held."""
        return sum(map(len, self._pools.values()))

    def held(self, lane: Lane) -> int:
        """Rows of one lane held."""
        return len(self._pools[lane])

    def add(
        self, lane: Lane, item: T, *, length: int, deadline_at_ms: int, alone: object = None
    ) -> Pending[T]:
        """Hold a row until its batch comes.

        Args:
            lane: it came by.
            item: what `next` gives back.
            length: tokens, or whatever the backend pads.
            deadline_at_ms: not worth running after this.
            alone: if not None, it shares a batch only with rows that have the same object here.
        """
        row = Pending(length, next(self._order), deadline_at_ms, item, alone)
        self._pools[lane].add(row)
        return row

    def discard(self, lane: Lane, row: Pending[T]) -> None:
        """Forget a row that nobody wants any more; no matter if it has left already."""
        if not row.taken:
            self._pools[lane].remove(row)

    def next(
        self,
        now_ms: int,
        *,
        lanes: Iterable[Lane] = tuple(Lane),
        bulk_tokens: int | None = None,
    ) -> MicroBatch[T]:
        """Take the next micro-batch; empty when nothing is held.

        Args:
            now_ms: rows whose deadline lies before this are set aside.
            lanes: it is made of, the most urgent first.
            bulk_tokens: padded tokens of a batch that rows of bulk join; as of any if not given.
        """
        window = _Window[T](self._limits, now_ms)
        for lane in lanes:
            pool = self._pools[lane]
            if lane is Lane.BULK and bulk_tokens is not None:
                window.max_tokens = bulk_tokens
            while (seed := pool.oldest()) is not None:
                if seed.deadline_at_ms >= now_ms:
                    break
                pool.remove(seed)
                window.expired.append(seed)
            if seed is None:
                continue
            if seed.alone is not None and not window.rows:
                window.take_alone(pool, seed)
                return MicroBatch(window.rows, window.expired, alone=True)
            window.grow(pool, seed)
        window.rows.sort(key=_LENGTH)
        return MicroBatch(window.rows, window.expired)


class _Window(Generic[T]):
    """A batch in the making: grows along each pool's rows, sorted by length, least padding first.

    The greedy choice follows the idea of bucketing by sequence length; it looks at no more rows
    than it takes.
    """

    def __init__(self, limits: BatchLimits, now_ms: int) -> None:
        self._limits = limits
        self.max_tokens = limits.max_tokens
        self._now_ms = now_ms
        self._tokens = 0
        self._longest = 0
        self.rows: list[Pending[T]] = []
        self.expired: list[Pending[T]] = []

    def grow(self, pool: _Pool[T], seed: Pending[T]) -> None:
        """Take rows of `pool`: around `seed` if the batch is empty, else around its middle."""
        by_length = pool.by_length
        if self.rows:
            middle = self.rows[len(self.rows) // 2].length
            low = bisect.bisect_left(by_length, middle, key=_LENGTH) - 1
            high = low + 1
        else:
            at = pool.position(seed)
            self._take(seed)
            low, high = at - 1, at + 1
        while len(self.rows) < self._limits.max_rows:
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

    def take_alone(self, pool: _Pool[T], seed: Pending[T]) -> None:
        """Take rows that stand alone together with `seed`, as they came, up to the limits."""
        for row in [row for row in pool.alone if row.alone is seed.alone]:
            padded = (len(self.rows) + 1) * max(self._longest, row.length)
            if self.rows and (len(self.rows) == self._limits.max_rows or padded > self.max_tokens):
                break
            pool.remove(row)
            self._take(row)
        self.rows.sort(key=_LENGTH)

    def _padding_with(self, row: Pending[T]) -> int | None:
        """Padding of the batch if `row` joins, or None where it would be over a limit."""
        padded = (len(self.rows) + 1) * max(self._longest, row.length)
        padding = padded - self._tokens - row.length
        if padded > self.max_tokens or padding > self._limits.max_padding * padded:
            return None
        return padding

    def _take(self, row: Pending[T]) -> None:
        row.taken = True
        if row.deadline_at_ms < self._now_ms:
            self.expired.append(row)
            return
        self.rows.append(row)
        self._tokens += row.length
        self._longest = max(self._longest, row.length)
