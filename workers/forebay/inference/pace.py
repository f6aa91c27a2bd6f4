"""How large the next micro-batch may be, by what batches were seen to take. Pure but for a clock.

Nobody waits for bulk, so its batches may be as large as is quickest. While somebody waits in
realtime they are short, for whoever comes next waits until one of those that run is over; unless
it is interrupted for them.
"""

import time
from collections.abc import Callable
from typing import Final

from forebay.contract.model import BatchLimits

PRESENT_S: Final = 2.0
"""Realtime counts as present for so long after a row of it."""

BULK_RUN_S: Final = 0.012
"""What a batch with rows of bulk may take while realtime is present."""

FIXED: Final = 0.5
"""But of what it takes, no more than this share is what any batch takes, however small it is."""

_WEIGHT: Final = 0.02
"""Of the last batch; about 50 count."""


class Cost:
    """What a batch takes: so much however small it is, and so much a padded token.

    The line of least squares through what was seen, with a memory that fades.
    """

    def __init__(self) -> None:
        self._x = self._y = self._xx = self._xy = self._all = 0.0

    def saw(self, tokens: int, seconds: float) -> None:
        """A batch of so many padded tokens has taken so long."""
        kept = 1.0 - _WEIGHT
        self._all = self._all * kept + _WEIGHT
        self._x = self._x * kept + _WEIGHT * tokens
        self._y = self._y * kept + _WEIGHT * seconds
        self._xx = self._xx * kept + _WEIGHT * tokens * tokens
        self._xy = self._xy * kept + _WEIGHT * tokens * seconds

    @property
    def known(self) -> bool:
        """Whether anything was seen."""
        return self._x > 0.0 and self._y > 0.0

    @property
    def line(self) -> tuple[float, float]:
        """Seconds of any batch, and seconds a padded token; only where `known`."""
        x, y = self._x / self._all, self._y / self._all
        spread = self._xx / self._all - x * x
        slope = (self._xy / self._all - x * y) / spread if spread > 1e-3 * x * x else y / x
        # Neither is below nothing, whatever noise there is.
        slope = min(max(slope, 1e-3 * y / x), y / x)
        return y - slope * x, slope


class Pace:
    """Bounds of the batches of one replica.

    Args:
        limits: of any batch.
        now: a clock that never goes back, seconds.
    """

    def __init__(self, limits: BatchLimits, *, now: Callable[[], float] = time.monotonic) -> None:
        self._limits = limits
        self._now = now
        self._came = float("-inf")
        self._cost = Cost()

    def came(self) -> None:
        """A row of realtime has come."""
        self._came = self._now()

    def ran(self, padded_tokens: int, seconds: float) -> None:
        """A batch has run."""
        self._cost.saw(padded_tokens, seconds)

    def bulk_tokens(self, *, interrupted: bool = False) -> int:
        """Padded tokens of the next batch that has rows of bulk.

        Args:
            interrupted: whether it waits for realtime by itself, however long it is.
        """
        limits = self._limits
        if interrupted or self._now() - self._came >= PRESENT_S:
            return limits.bulk_max_tokens or limits.max_tokens
        if not self._cost.known:
            return limits.max_tokens
        fixed_s, token_s = self._cost.line
        run_s = max(BULK_RUN_S, fixed_s / FIXED)
        return max(min(int((run_s - fixed_s) / token_s), limits.max_tokens), 1)
