"""Sends what was said of predictions to their records: soon, and before they end."""

import asyncio
import contextlib
import logging
import threading
from collections import deque
from typing import Final

from redis.exceptions import RedisError

from forebay.inference import logs
from forebay.inference.assembly import Assembly
from forebay.lanes.keys import LaneKeys
from forebay.lanes.logs import MAX_LINE, Said, log
from forebay.lanes.scripts import MAX_LOGS_BYTES
from forebay.runtime.redis import Commands

_log = logging.getLogger(__name__)

GATHER_S: Final = 0.1
"""Lines are gathered for so long."""


class _Waiting:
    """Lines of one delivery that are not sent yet: the newest, if there are too many."""

    def __init__(self) -> None:
        self.lines: deque[bytes] = deque()
        self._size = 0

    def add(self, line: bytes) -> None:
        self.lines.append(line)
        self._size += len(line)
        # What is left is still over the bound, so that the record says that some are gone.
        while self._size - len(self.lines[0]) > MAX_LOGS_BYTES:
            self._size -= len(self.lines.popleft())


class LogSender:
    """Takes lines on any thread, and sends them from the event loop that it was made on.

    Args:
        redis: client whose commands are not retried.
        keys: of the model's shard.
    """

    def __init__(self, redis: Commands, keys: LaneKeys) -> None:
        self._redis = redis
        self._keys = keys
        self._loop = asyncio.get_running_loop()
        self._some = asyncio.Event()
        self._sending = asyncio.Lock()
        self._guard = threading.Lock()
        self._waiting: dict[Assembly, _Waiting] = {}
        logs.listen()

    def take(self, assembly: Assembly, line: str) -> None:
        """Have a line sent, unless what it is of has come to its end."""
        if assembly.settled:
            return
        cut = line if len(line) <= MAX_LINE else line[: MAX_LINE - 1] + "…"
        with self._guard:
            first = not self._waiting
            self._waiting.setdefault(assembly, _Waiting()).add(cut.encode(errors="replace") + b"\n")
        assembly.logged = True
        if first:
            # What a user's own thread still says when the worker has ended is lost.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._some.set)

    async def send(self) -> None:
        """Send what waits; when this returns, nothing that was said before is on its way.

        Raises:
            redis.exceptions.RedisError: Redis is out of reach; it still waits.
        """
        async with self._sending:
            with self._guard:
                taken, self._waiting = self._waiting, {}
            if not taken:
                return
            said = [
                Said(assembly.delivery, b"".join(waiting.lines))
                for assembly, waiting in taken.items()
            ]
            try:
                await log(self._redis, self._keys, said)
            except BaseException:
                self._put_back(taken)
                raise

    async def run(self) -> None:
        """Send what is said until cancelled, through outages."""
        while True:
            await self._some.wait()
            await asyncio.sleep(GATHER_S)
            self._some.clear()
            try:
                await self.send()
            except (RedisError, OSError) as error:
                _log.debug("what was said of predictions waits: %s", error)
                self._some.set()

    def _put_back(self, taken: dict[Assembly, _Waiting]) -> None:
        with self._guard:
            for assembly, newer in self._waiting.items():
                older = taken.setdefault(assembly, _Waiting())
                for line in newer.lines:
                    older.add(line)
            self._waiting = taken
