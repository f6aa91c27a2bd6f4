"""Where messages come from, and where they are until their outcome is told.

a Redis        lists ─▶ place      one script, so that nothing is ever nowhere
any other      broker ─▶ here      acknowledged later; what waits for its time is in a place
"""

import asyncio
import time
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec
from redis.exceptions import RedisError

from forebay.background.ingress.apps import Apps
from forebay.background.ingress.consumer import Consumer
from forebay.background.ingress.letters import Letter, Letters
from forebay.background.taking.place import MARK, Place, Taken

MOST_DUE: Final = 64
"""Messages whose time has come that are taken in one go, and likewise of those taken over."""

MOST_A_TAKE: Final = 128
"""Messages of one queue taken in one go: longer scripts would hold up everybody else's commands."""


class Batch(msgspec.Struct, frozen=True):
    """What was taken.

    Attributes:
        messages: some may be known already.
        lost: what was taken before is others' now.
    """

    messages: list[Taken]
    lost: bool = False


class Source:
    """The queues of the apps.

    Args:
        apps: whose queues they are.
        place: this process's own.
        letters: what is put aside.
        lease_s: its lease.
        most: messages held of each queue.
    """

    def __init__(
        self, apps: Apps, place: Place, letters: Letters, *, lease_s: float, most: int
    ) -> None:
        self._place = place
        self._letters = letters
        self._lease_s = lease_s
        self._known = False
        self._unsure = False
        self._reclaim_at = 0.0
        self._came: deque[Taken] = deque()
        self._lost = False
        self._loop = asyncio.get_running_loop()
        self.arrived = asyncio.Event()
        self._lists = {name: apps.lists(name) for name in apps.queues} if apps.redis else {}
        self._consumer: Consumer | None = None
        if apps.redis is None:
            self._consumer = Consumer(
                apps.celery(""),
                tuple(apps.queues),
                most=most,
                arrived=lambda taken: self._soon(taken),
                lost=lambda: self._soon(None),
            )

    def start(self) -> None:
        """Start to consume, where that takes a thread."""
        if self._consumer is not None:
            self._consumer.start()

    async def take(self, room: Mapping[str, int]) -> Batch:
        """Take messages.

        Args:
            room: how many of each queue.

        Raises:
            redis.exceptions.RedisError: Redis is out of reach. What was taken is in the next.
        """
        lost, self._lost = self._lost, False
        if lost:
            self._came.clear()
        messages = list(self._came)
        self._came.clear()
        self.arrived.clear()
        queues = {
            name: (lists, min(room[name], MOST_A_TAKE))
            for name, lists in self._lists.items()
            if room[name] > 0
        }
        try:
            if self._unsure:
                messages += await self._place.held()
                self._unsure = False
            known, taken = await self._place.take(queues, most_due=MOST_DUE)
            messages += taken
            if time.monotonic() >= self._reclaim_at:
                messages += await self._reclaimed()
        except (RedisError, OSError):
            self._unsure = True
            self._came.extendleft(reversed(messages))
            self._lost = lost
            raise
        lost = lost or (self._known and not known)
        self._known = True
        return Batch(messages, lost)

    async def done(self, places: Sequence[str]) -> None:
        """Give up messages whose outcome is told.

        Raises:
            redis.exceptions.RedisError: Redis is out of reach, and their outcome is told again.
        """
        theirs = [place for place in places if place.startswith(MARK)]
        if theirs and self._consumer is not None:
            self._consumer.done(theirs)
        if ours := [place for place in places if not place.startswith(MARK)]:
            await self._place.drop(ours)

    async def put_off(self, taken: Taken, until_ms: int) -> None:
        """Have a message wait for its time, Unix ms.

        Raises:
            redis.exceptions.RedisError: Redis is out of reach.
        """
        if taken.numbered:
            await self._place.put_off(taken, until_ms)
            return
        await self._place.keep(taken.queue, taken.message, until_ms)
        await self.done([taken.place])

    async def bury(self, taken: Taken, letter: Letter, *, most: int) -> None:
        """Put a message aside for good.

        Raises:
            redis.exceptions.RedisError: Redis is out of reach.
        """
        theirs = not taken.numbered
        place = "" if theirs else taken.place
        await self._letters.bury(letter, held=self._place, place=place, most=most)
        if theirs:
            await self.done([taken.place])

    async def leave(self) -> None:
        """Leave what is held to others, at once."""
        if self._consumer is not None:
            await asyncio.to_thread(self._consumer.stop)
        await self._place.leave()

    async def _reclaimed(self) -> list[Taken]:
        found: list[Taken] = []
        while some := await self._place.reclaim(most=MOST_DUE):
            found += some
        self._reclaim_at = time.monotonic() + self._lease_s / 3
        return found

    def _soon(self, taken: Taken | None) -> None:
        """On the consumer's thread: a message has come, or all that were there are lost."""
        try:
            self._loop.call_soon_threadsafe(self._note, taken)
        except RuntimeError:
            return  # the loop is closed: this process ends

    def _note(self, taken: Taken | None) -> None:
        if taken is None:
            self._lost = True
            self._came.clear()
        else:
            self._came.append(taken)
        self.arrived.set()
