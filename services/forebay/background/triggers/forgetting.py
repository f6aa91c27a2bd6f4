"""Outcomes that were published are kept for the event that comes again, and then deleted.

A publisher sends twice what it is not sure of, and a broker what it has not heard the
acknowledgement of; both do so soon.
"""

import asyncio
import collections
import contextlib
import time
from collections.abc import Generator
from typing import Final

from forebay.background.triggers.letters import Outgoing
from forebay.contract.asking import Asking
from forebay.contract.errors import Unavailable

KEPT_S: Final = 60.0
"""How long after its result is published an event that comes again is not run again."""

PACE_S: Final = 0.1
"""Between two deletions, so that each is of many."""


class Forgetting:
    """Deletes the predictions of outcomes.

    Args:
        asking: that they were asked of.
        kept_s: for how long they are kept.
    """

    def __init__(self, asking: Asking, *, kept_s: float) -> None:
        self._asking = asking
        self._kept_s = kept_s
        self._waiting: collections.Counter[str] = collections.Counter()
        self._told: collections.deque[tuple[float, Outgoing]] = collections.deque()
        self._any = asyncio.Event()

    @contextlib.contextmanager
    def waiting(self, key: str) -> Generator[None]:
        """Delete nothing of an event's until the block ends, as somebody waits for it."""
        self._waiting[key] += 1
        try:
            yield
        finally:
            self._waiting[key] -= 1
            if not self._waiting[key]:
                del self._waiting[key]

    def add(self, outgoing: Outgoing) -> None:
        """Begin the time of an outcome: it is published, and its message acknowledged."""
        if outgoing.predictions:
            self._told.append((time.monotonic() + self._kept_s, outgoing))
            self._any.set()

    async def run(self) -> None:
        """Delete until cancelled. What is left then goes when its time is over."""
        while True:
            await self._any.wait()
            await asyncio.sleep(max(0.0, self._told[0][0] - time.monotonic()) + PACE_S)
            ids = self._due()
            if not self._told:
                self._any.clear()
            if ids:
                with contextlib.suppress(Unavailable):  # likewise
                    await self._asking.forget(*ids)

    def _due(self) -> list[str]:
        now = time.monotonic()
        ids: list[str] = []
        while self._told and self._told[0][0] <= now:
            _, outgoing = self._told.popleft()
            # Whoever waits for the same has an outcome of their own to add.
            if not self._waiting[outgoing.key]:
                ids += outgoing.predictions
        return ids
