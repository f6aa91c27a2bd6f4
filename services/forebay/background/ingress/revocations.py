"""Tasks that were revoked lately.

Redis has them for the next process: the set `P:{celery}:revoked` of ids by when they were, with P
from `settings.key_prefix`.
"""

import time
from collections.abc import Iterable, Sequence
from typing import Any, Final, cast

from forebay.background.ingress.letters import key_of
from forebay.runtime.redis import Commands

MOST_IDS: Final = 50_000
"""Revoked ids that are kept, as Celery's workers do; the newest."""

IDS_KEPT_S: Final = 10_800.0
"""For how long they are, likewise."""


class Revocations:
    """Ids of tasks that were revoked, the newest of them, for as long as Celery's workers do."""

    def __init__(self) -> None:
        self._at: dict[str, float] = {}

    def add(self, ids: Iterable[str]) -> None:
        """Remember that these were."""
        self._at |= dict.fromkeys(ids, time.monotonic())
        for id_ in list(self._at)[: max(0, len(self._at) - MOST_IDS)]:
            del self._at[id_]

    def __contains__(self, id_: str) -> bool:
        """Whether a task was revoked lately: its id may come again."""
        at = self._at.get(id_)
        return at is not None and time.monotonic() - at < IDS_KEPT_S


class Revoked:
    """Those that outlive a process.

    Args:
        redis: client whose commands are not retried.
        prefix: `settings.key_prefix`.
    """

    def __init__(self, redis: Commands, prefix: str) -> None:
        self._redis = redis
        self._key = key_of(prefix, "revoked")

    async def add(self, ids: Sequence[str]) -> None:
        """Remember that these are revoked.

        Raises:
            redis.exceptions.RedisError: Redis is out of reach.
        """
        now = time.time()
        args: list[Any] = [arg for id_ in ids for arg in (now, id_)]
        await self._redis.execute_command("ZADD", self._key, *args)
        await self._redis.execute_command("ZREMRANGEBYSCORE", self._key, "-inf", now - IDS_KEPT_S)
        await self._redis.execute_command("ZREMRANGEBYRANK", self._key, 0, -MOST_IDS - 1)

    async def newest(self) -> list[str]:
        """Ids that were revoked lately.

        Raises:
            redis.exceptions.RedisError: likewise.
        """
        since = time.time() - IDS_KEPT_S
        found = await self._redis.execute_command("ZRANGE", self._key, since, "+inf", "BYSCORE")
        return [id_.decode() for id_ in cast(list[bytes], found)]
