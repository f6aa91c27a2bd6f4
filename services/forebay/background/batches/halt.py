"""Why work on a batch is to stop before all of it is done."""

import asyncio
import contextlib

from forebay.contract.batches import BatchStatus


class Halt:
    """Tells those who work on a batch when to stop.

    Args:
        moved: set as well; for those who wait for other things too.

    Attributes:
        why: `cancelling` or `expired`; None while they are to go on.
        event: set with it.
    """

    def __init__(self, moved: asyncio.Event) -> None:
        self._moved = moved
        self.why: BatchStatus | None = None
        self.event = asyncio.Event()

    def tell(self, why: BatchStatus) -> None:
        """Have them stop; the first reason stands."""
        self.why = self.why or why
        self.event.set()
        self._moved.set()

    async def within(self, seconds: float) -> None:
        """Wait so long, or until they are to stop."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.event.wait(), seconds)
