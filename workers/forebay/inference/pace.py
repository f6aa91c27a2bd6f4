"""How large the next micro-batch may be, by what batches were seen to take. Pure but for a clock.

Nobody waits for bulk, so its batches may be as large as is quickest. While somebody waits in
realtime they are short, for whoever comes next waits until one of those that run is over; unless
it is interrupted for them.
"""

import math
import time
from collections.abc import Callable
from typing import Final

import msgspec

from forebay.contract.model import BatchLimits
from forebay.inference.buckets import Bound, bound_of
from forebay.inference.cost import Cost

PRESENT_S: Final = 2.0
"""Realtime counts as present for so long after a row of it."""

BULK_RUN_S: Final = 0.012
"""What a batch with rows of bulk may take while realtime is present."""

FIXED: Final = 0.5
"""But of what it takes, no more than this share is what any batch takes, however small it is."""


class Pace:
    """Bounds of the batches of one replica.

    Args:
        limits: of any batch.
        now: a clock that never goes back, seconds.

    Attributes:
        cost: what batches take; told of each that has run.
    """

    def __init__(self, limits: BatchLimits, *, now: Callable[[], float] = time.monotonic) -> None:
        self._any = bound_of(limits)
        self._alone = msgspec.structs.replace(
            self._any, max_tokens=limits.bulk_max_tokens or limits.max_tokens, seconds=math.inf
        )
        self._now = now
        self._came = float("-inf")
        self.cost = Cost()

    def came(self) -> None:
        """A row of realtime has come."""
        self._came = self._now()

    def bulk(self, *, interrupted: bool = False) -> Bound:
        """Of the next batch that has rows of bulk.

        Args:
            interrupted: whether it waits for realtime by itself, however long it is.
        """
        if interrupted or self._now() - self._came >= PRESENT_S:
            return self._alone
        run_s = max(BULK_RUN_S, self.cost.parts[0] / FIXED)
        return msgspec.structs.replace(self._any, seconds=run_s)
