"""API keys as this process knows them, none older than 2 seconds.

Keys that are used are read again together, well before they are stale, so a request waits for
Redis only with a key that was not used of late. Wrong keys wait together, for one command at a
time: however many come, they don't keep Redis busy.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Final

import msgspec

from forebay.gateway.reads import Reads
from forebay.records.api_keys import ApiKey, ApiKeys

FRESH_S: Final = 1.8
"""What was read so long ago is not gone by any more: what is revoked is refused within 2 s."""

REFRESH_S: Final = 0.6
"""How often keys that are used are read again."""

IDLE_S: Final = 60.0
"""A key that was not used for so long is forgotten."""

AT_ONCE: Final = 500
"""Keys read in one command."""

MOST: Final = 20_000
"""Keys known, wrong ones included."""


class _Known(msgspec.Struct):
    key: ApiKey | None
    read_at: float
    used_at: float


class Keyring:
    """Reads keys as they are needed, and again while they are used.

    Args:
        keys: where they are kept.
        reads: how to ask Redis.
        now: seconds that only go forward, from any start.
    """

    def __init__(
        self, keys: ApiKeys, reads: Reads, *, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._keys = keys
        self._reads = reads
        self._now = now
        self._known: dict[str, _Known] = {}
        self._wanted: dict[str, asyncio.Future[ApiKey | None]] = {}
        self._wants = asyncio.Event()

    async def find(self, id_: str) -> ApiKey | None:
        """The key with this id; None if there is none.

        Raises:
            Unavailable: it is not known, and Redis is out of reach.
        """
        now = self._now()
        known = self._known.get(id_)
        if known is not None and now - known.read_at < FRESH_S:
            known.used_at = now
            return known.key
        wanted = self._wanted.get(id_)
        if wanted is None:
            wanted = self._wanted[id_] = asyncio.get_running_loop().create_future()
            self._wants.set()
        # Whoever gives up leaves the others waiting.
        return await asyncio.shield(wanted)

    async def run(self) -> None:
        """Read what is wanted, and what is used again, until cancelled."""
        try:
            while True:
                try:
                    await asyncio.wait_for(self._wants.wait(), REFRESH_S)
                except TimeoutError:
                    await self._refresh()
                self._wants.clear()
                while self._wanted:
                    await self._answer()
        finally:
            for wanted in self._wanted.values():
                wanted.cancel()
            self._wanted.clear()

    async def _answer(self) -> None:
        """Answer those that wait."""
        ids = list(self._wanted)[:AT_ONCE]
        try:
            found = await self._read(ids)
        except Exception as error:
            for id_ in ids:
                wanted = self._wanted.pop(id_)
                if not wanted.done():
                    wanted.set_exception(error)
                    wanted.exception()  # nobody may be left to look at it
            return
        for id_, key in zip(ids, found, strict=True):
            wanted = self._wanted.pop(id_)
            if not wanted.done():
                wanted.set_result(key)

    async def _refresh(self) -> None:
        """Read keys again that are used; forget those that are not."""
        now = self._now()
        for id_ in [one for one, known in self._known.items() if now - known.used_at > IDLE_S]:
            del self._known[id_]
        used = [one for one, known in self._known.items() if known.key is not None]
        for first in range(0, len(used), AT_ONCE):
            try:
                await self._read(used[first : first + AT_ONCE])
            except Exception:
                return

    async def _read(self, ids: list[str]) -> list[ApiKey | None]:
        asked_at = self._now()
        found = await self._reads.run(lambda: self._keys.some(ids))
        for id_, key in zip(ids, found, strict=True):
            known = self._known.pop(id_, None)
            used_at = asked_at if known is None else known.used_at
            self._known[id_] = _Known(key, asked_at, used_at)
        while len(self._known) > MOST:
            del self._known[next(iter(self._known))]
        return found
