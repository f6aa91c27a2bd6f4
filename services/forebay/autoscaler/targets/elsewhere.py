"""Replicas that something else starts and ends, such as KEDA: that is told how many.

What is there is what is present on the lanes. One that is on its way isn't seen, so from none the
policy goes on asking for one until that has come.
"""

import asyncio
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from forebay.lanes.presence import Present

FRESH_S: Final = 10.0
"""What was wanted before that is not known to be wanted still: Redis may be away."""


class Elsewhere:
    """As `Target`: keeps what is wanted for whoever asks.

    `Autoscaler` tells it in Redis, too.
    """

    def __init__(self) -> None:
        self._wanted: dict[str, int] = {}
        self._since: dict[str, float] = {}
        self._changed = asyncio.Event()

    def started(self, model: str, present: "Sequence[Present]") -> int:
        """As in `Target`: those that are ready."""
        return len(present)

    def busy(self, model: str, present: "Sequence[Present]") -> int:
        """As in `Target`."""
        return sum(one.busy for one in present)

    def scale(self, model: str, replicas: int, present: "Sequence[Present]") -> None:
        """Note it: it is told."""
        self._since[model] = time.monotonic()
        if self._wanted.get(model) != replicas:
            self._wanted[model] = replicas
            self._changed.set()
            self._changed = asyncio.Event()

    def replicas(self, model: str) -> int | None:
        """How many a model should have; None if nobody has looked lately."""
        if time.monotonic() - self._since.get(model, -FRESH_S) >= FRESH_S:
            return None
        return self._wanted[model]

    async def active(self, model: str, *, other_than: bool | None) -> bool:
        """Whether a model should have any replicas, once that is another answer than this.

        Args:
            model: by its name.
            other_than: what was told before; None if nothing was.
        """
        while True:
            changed, wanted = self._changed, self._wanted.get(model)
            if wanted is not None and (wanted > 0) is not other_than:
                return wanted > 0
            await changed.wait()
