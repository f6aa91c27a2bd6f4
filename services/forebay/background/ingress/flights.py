"""Tasks under way: from a message that was taken to an outcome that is told.

taken ─▶ begun ─▶ served ─┬─▶ told ─────────────────────┬─▶ given up ─▶ forgotten
                          └─▶ told with others, in bulk ┘
"""

import asyncio
import contextlib
import logging
from collections.abc import Iterable, Mapping
from typing import Any, Final

from redis.exceptions import RedisError

from forebay.background.ingress.apps import TASK, Apps
from forebay.background.ingress.flight import Finished, Flight
from forebay.background.ingress.results import Told
from forebay.background.ingress.revocations import Revocations
from forebay.background.ingress.serving import RETRY_S, Serving
from forebay.background.ingress.source import Source
from forebay.background.ingress.telling import Telling
from forebay.background.taking.place import Taken
from forebay.contract.asking import Asking
from forebay.contract.errors import NotFound, Unavailable

log = logging.getLogger(__name__)

MOST_BYTES: Final = 64_000_000
"""Messages under way come to this much, and what one take brings: no more are taken then."""

END_S: Final = 5.0
"""How long outcomes may take to be told that are there when this process ends."""


class Flights:
    """All tasks under way of one process.

    Args:
        serving: serves each.
        asking: runs models.
        source: where messages are.
        telling: tells outcomes.
        apps: what is known of those who wait for them.
        revocations: tasks that are to end.
        most: tasks under way of each queue.
    """

    def __init__(
        self,
        serving: Serving,
        asking: Asking,
        source: Source,
        telling: Telling,
        *,
        apps: Apps,
        revocations: Revocations,
        most: int,
    ) -> None:
        self._serving = serving
        self._asking = asking
        self._source = source
        self._telling = telling
        self._apps = apps
        self._revocations = revocations
        self._most = most
        self._bytes = 0
        self._flights: dict[str, Flight] = {}
        self._room = dict.fromkeys(apps.queues, most)
        self._cancels: set[asyncio.Task[None]] = set()
        self._finished: list[Finished] = []
        self._any_finished = asyncio.Event()
        self.freed = asyncio.Event()

    @property
    def room(self) -> Mapping[str, int]:
        """How many more of each queue may be taken."""
        return self._room if self._bytes < MOST_BYTES else dict.fromkeys(self._room, 0)

    @property
    def full(self) -> bool:
        """Whether there is no room for more of some queue."""
        return min(self.room.values(), default=1) <= 0

    def begin(self, taken: Taken) -> None:
        """Begin with a message; one that is under way already is no matter."""
        if taken.place in self._flights:
            return
        flight = self._flights[taken.place] = Flight(taken)
        self._room[taken.queue] = self._room.get(taken.queue, self._most) - 1
        self._bytes += len(taken.message)
        flight.task = asyncio.create_task(self._fly(flight))

    def revoke(self, ids: Iterable[str]) -> None:
        """End tasks, under way or yet to come."""
        meant = frozenset(ids)
        self._revocations.add(meant)
        for flight in self._flights.values():
            if flight.id in meant and flight.key:
                task = asyncio.create_task(self._cancel(flight))
                self._cancels.add(task)
                task.add_done_callback(self._cancels.discard)

    def active(self) -> list[dict[str, Any]]:
        """Tasks under way, as Celery's `inspect().active()` lists them."""
        return [
            {"id": flight.id, "name": TASK, "args": [], "kwargs": {}}
            for flight in list(self._flights.values())
            if flight.id
        ]

    def drop(self) -> None:
        """Let go of all: others have taken over the messages, or will."""
        for flight in self._flights.values():
            if flight.task is not None:
                flight.task.cancel()
        self._flights.clear()
        self._finished.clear()
        self._room = dict.fromkeys(self._apps.queues, self._most)
        self._bytes = 0
        self.freed.set()

    async def end(self) -> None:
        """Let go of all, but tell the outcomes that are there."""
        tasks = [flight.task for flight in self._flights.values() if flight.task is not None]
        tasks += self._cancels
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=END_S)
        if self._finished:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(END_S):
                    await self.flush()

    async def run(self) -> None:
        """Tell outcomes until cancelled, those that are there at once together."""
        while True:
            await self._any_finished.wait()
            self._any_finished.clear()
            await self.flush()

    async def flush(self) -> None:
        """Tell the outcomes that are there."""
        finished, self._finished = self._finished, []
        by_backend: dict[str, tuple[str, list[Told]]] = {}
        for one in finished:
            if one.told is not None:
                queue = one.flight.taken.queue
                backend = self._apps.backend_of(queue)
                by_backend.setdefault(backend, (queue, []))[1].append(one.told)
        try:
            for queue, told in by_backend.values():
                await self._telling.write(queue, told)
        except Exception:
            self._finished += finished
            self._any_finished.set()
            raise
        await self._give_up([one.flight for one in finished])
        with contextlib.suppress(Unavailable):
            await self._asking.forget(
                *(one.ended.prediction for one in finished if one.ended.prediction)
            )

    async def _give_up(self, flights: list[Flight]) -> None:
        while flights:
            try:
                await self._source.done([flight.taken.place for flight in flights])
            except (RedisError, OSError) as error:
                log.warning("tasks that are done can't be given up: %s", error)
                await asyncio.sleep(RETRY_S)
            else:
                break
        for flight in flights:
            self._end(flight)

    def _end(self, flight: Flight) -> None:
        if self._flights.get(flight.taken.place) is flight:
            del self._flights[flight.taken.place]
            self._room[flight.taken.queue] += 1
            self._bytes -= len(flight.taken.message)
            self.freed.set()

    async def _fly(self, flight: Flight) -> None:
        finished = await self._serving.serve(flight)
        if finished is None:
            self._end(flight)
        else:
            self._finished.append(finished)
            self._any_finished.set()

    async def _cancel(self, flight: Flight) -> None:
        """End what was asked for; again until it has ended: it may not be on its lane yet."""
        while self._flights.get(flight.taken.place) is flight:
            try:
                await self._asking.cancel(flight.model, flight.key)
            except NotFound:
                return
            except Unavailable as error:
                log.warning("task %s can't be ended: %s", flight.id, error.message)
            await asyncio.sleep(RETRY_S)
