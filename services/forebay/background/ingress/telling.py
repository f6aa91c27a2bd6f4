"""Tells apps how their tasks ended: in bulk where that is all, by way of Celery where it is not."""

import asyncio
import contextvars
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from redis.exceptions import RedisError

from forebay.background.ingress.apps import Apps, redis_of
from forebay.background.ingress.messages import Message
from forebay.background.ingress.outcomes import Ended
from forebay.background.ingress.replay import AWAY, Replay
from forebay.background.ingress.results import Results, Told, is_quick
from forebay.runtime.redis import Channel, connect_blocking

log = logging.getLogger(__name__)

THREADS: Final = 4
"""Outcomes that Celery tells at once. Most of that is waiting for Redis, or for a broker."""

RETRY_S: Final = 1.0
"""Pause before broker or backend is tried again."""

TRIES: Final = 3
"""Of what fails for another reason than that one of them is away."""


class _Backend:
    """How outcomes are told to apps of one backend."""

    def __init__(self, apps: Apps, url: str) -> None:
        app = apps.celery(url)
        self.replay = Replay(app)
        self.results: Results | None = None
        if is_quick(app):
            redis_of(url, setting="celery_result_backend")
            client = connect_blocking(url, timeout_s=apps.timeout_s)
            self._client = client
            self._channel = Channel(client, timeout_s=apps.timeout_s)
            self.results = Results(app, self._channel)

    async def aclose(self) -> None:
        if self.results is not None:
            await self._channel.aclose()
            await self._client.aclose()


class Telling:
    """Tells outcomes.

    Args:
        apps: whom to.
    """

    def __init__(self, apps: Apps) -> None:
        self._apps = apps
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="celery-replay")
        self._backends: dict[str, _Backend] = {}

    def in_bulk(self, queue: str, *, plain: bool) -> bool:
        """Whether the outcome of a task of a queue may be written with others.

        Args:
            queue: of the task.
            plain: whether nothing follows.
        """
        return plain and self._of(queue).results is not None

    async def write(self, queue: str, told: Sequence[Told]) -> None:
        """Write outcomes that nothing follows, until that is done."""
        results = self._of(queue).results
        assert results is not None
        while True:
            try:
                await results.write(told)
            except (RedisError, OSError) as error:
                log.warning("results can't be written: %s", error)
                await asyncio.sleep(RETRY_S)
            else:
                return

    async def tell(self, queue: str, message: Message, ended: Ended) -> None:
        """Have Celery tell an outcome, until that is done.

        Raises:
            Exception: Celery can't, for a reason of the message's own.
        """
        replay = self._of(queue).replay
        await self._until_done(lambda: replay.tell(message, ended), message.headers.id)

    async def fail(self, queue: str, id_: str, error: Exception) -> None:
        """Likewise, of a task of whose message no more than the id is read."""
        replay = self._of(queue).replay
        await self._until_done(lambda: replay.fail(id_, error), id_)

    async def _until_done(self, call: Callable[[], None], id_: str) -> None:
        loop = asyncio.get_running_loop()
        tries = 0
        while True:
            # A context of its own each time: threads are used again.
            context = contextvars.copy_context()
            try:
                return await loop.run_in_executor(self._threads, context.run, call)
            except AWAY as error:
                log.warning("the outcome of %s can't be told: %s", id_, error)
            except Exception as error:
                tries += 1
                if tries == TRIES:
                    raise
                log.warning("the outcome of %s is told again: %s", id_, error)
            await asyncio.sleep(RETRY_S)

    async def aclose(self) -> None:
        """Hang up; what is being told is left to its thread."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        for backend in self._backends.values():
            await backend.aclose()

    def _of(self, queue: str) -> _Backend:
        url = self._apps.backend_of(queue)
        found = self._backends.get(url)
        if found is None:
            found = self._backends[url] = _Backend(self._apps, url)
        return found
