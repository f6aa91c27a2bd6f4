"""Asking workers, one by one, to take up what has been built since they started.

    operator: asked ─▶ worker: trying ─▶ restarting ─▶ done VERSION
                                  └────▶ failed WHY: it goes on with what it has

The word is kept in a hash, by worker, and goes when nobody has touched it for a while. A worker
keeps its name over this restart, so the one that says `done` is the one that was asked.
"""

from enum import StrEnum
from typing import Final, cast

import msgspec

from forebay.lanes.keys import LaneKeys
from forebay.runtime.redis import Commands, now_ms

KEPT_MS: Final = 600_000
"""How long a word is kept, from the last one on."""


class Stage(StrEnum):
    """How far a worker is."""

    ASKED = "asked"
    TRYING = "trying"
    RESTARTING = "restarting"
    DONE = "done"
    FAILED = "failed"


class Word(msgspec.Struct, frozen=True):
    """What was last said of a worker's reload; `detail` is the version once done, or why not."""

    stage: Stage
    detail: str = ""


class Reloads:
    """Reloads of what is served under one name.

    Whatever the server or the connection raises comes out as it is.

    Args:
        redis: where.
        keys: of what is served.
    """

    def __init__(self, redis: Commands, keys: LaneKeys) -> None:
        self._redis = redis
        self._keys = keys

    async def workers(self) -> list[str]:
        """Workers that are present, by name."""
        found = await self._redis.execute_command(
            "ZRANGEBYSCORE", self._keys.workers, await now_ms(self._redis), "+inf"
        )
        return sorted(name.decode() for name in cast(list[bytes], found))

    async def say(self, worker: str, stage: Stage, detail: str = "") -> None:
        """Say how far a worker is."""
        word = f"{stage.value} {detail}".strip()
        await self._redis.execute_command("HSET", self._keys.reloads, worker, word)
        await self._redis.execute_command("PEXPIRE", self._keys.reloads, KEPT_MS)

    async def word(self, worker: str) -> Word | None:
        """What was last said of a worker."""
        raw = await self._redis.execute_command("HGET", self._keys.reloads, worker)
        if raw is None:
            return None
        stage, _, detail = cast(bytes, raw).decode().partition(" ")
        return Word(Stage(stage), detail)

    async def forget(self, worker: str) -> None:
        """Forget what was said of a worker."""
        await self._redis.execute_command("HDEL", self._keys.reloads, worker)
