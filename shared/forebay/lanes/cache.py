"""The response cache in Redis: what workers have kept there, read by gateways (decision 0035).

    settle ─▶ cache: key → entry;  cached: key → when;  the oldest go beyond the model's bytes
    gateway ─▶ HMGET, one for all that look something up at once

It lies in the slot of the model's shard, so that settling writes a result and its entries at once.
Nothing but time depends on it: whatever can't be read is run.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Final, cast

import msgspec
from redis.exceptions import RedisError

from forebay.contract.prediction import PredictionId
from forebay.lanes.coalescer import Coalescer
from forebay.lanes.depth import counters
from forebay.lanes.keys import Keys
from forebay.runtime.redis import Commands, Link

log = logging.getLogger(__name__)

KEYS_A_CALL: Final = 256
"""Entries that one command reads: more would hold up everybody else's."""

_READ_BYTES: Final = 4_096
"""What an entry is taken to have where calls are cut: the answer must not grow without bounds."""

CLEARED: Final = "cache_cleared"
"""Counter of how often a model's cache was emptied; gateways empty theirs when it changes."""


class Count(msgspec.Struct):
    """Rows that one gateway has looked up.

    Attributes:
        near: answered from its own memory.
        far: answered from Redis.
        alike: answered with what was written for a prompt that means about the same.
        missed: run.
        unreadable: entries that could not be read; these rows are run, too.
    """

    near: int = 0
    far: int = 0
    alike: int = 0
    missed: int = 0
    unreadable: int = 0


class Standing(msgspec.Struct, frozen=True):
    """How a model's cache stands.

    Attributes:
        entries: in Redis.
        bytes: that they take there, about.
        near: rows answered from a gateway's memory since the counters began; likewise the others.
        far: from Redis.
        alike: with what was written for a prompt that means about the same.
        missed: rows looked up and run.
        kept: entries written.
        evicted: entries that made room before their time.
        unreadable: entries that could not be read.
    """

    entries: int
    bytes: int
    near: int
    far: int
    alike: int
    missed: int
    kept: int
    evicted: int
    unreadable: int


class Cache:
    """The caches of all models.

    Args:
        redis: client whose commands are not retried.
        keys: key builder.
    """

    def __init__(self, redis: Commands, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys

    async def count(self, model: str, count: Count) -> int:
        """Add to a model's counters; returns how often its cache was emptied.

        Raises:
            redis.exceptions.RedisError: Redis is out of reach.
        """
        keys = self._keys.of(model)
        for field in Count.__struct_fields__:
            if rows := getattr(count, field):
                await self._redis.execute_command("HINCRBY", keys.counters, f"cache_{field}", rows)
        cleared = await self._redis.execute_command("HGET", keys.counters, CLEARED)
        return int(cleared or 0)

    async def standing(self, model: str) -> Standing:
        """How a model's cache stands.

        Raises:
            redis.exceptions.RedisError: Redis is out of reach.
        """
        keys = self._keys.of(model)
        entries = int(await self._redis.execute_command("ZCARD", keys.cached))
        taken = int(await self._redis.execute_command("HGET", keys.cache, "bytes") or 0)
        counted = await counters(self._redis, keys)
        told: Mapping[str, int] = {
            field: counted.get(f"cache_{field}", 0) for field in Standing.__struct_fields__[2:]
        }
        return Standing(entries, taken, **told)

    async def clear(self, model: str) -> int:
        """Empty a model's cache, and have gateways empty theirs; returns how many entries it had.

        What is under way at this moment is kept when it is done, all the same.

        Raises:
            redis.exceptions.RedisError: Redis is out of reach.
        """
        keys = self._keys.of(model)
        entries = int(await self._redis.execute_command("ZCARD", keys.cached))
        await self._redis.execute_command("UNLINK", keys.cache, keys.cached, keys.prompts)
        await self._redis.execute_command("HINCRBY", keys.counters, CLEARED, 1)
        return entries


class _Wanted:
    """Keys that somebody waits for."""

    __slots__ = ("found", "id", "keys")

    def __init__(self, id_: PredictionId, keys: Sequence[bytes]) -> None:
        self.id = id_
        self.keys = keys
        self.found: asyncio.Future[Sequence[bytes | None]] = (
            asyncio.get_running_loop().create_future()
        )


class Lookups:
    """Looks entries up; requests that come while a command is under way share the next.

    Args:
        redis: client whose commands are not retried.
        keys: key builder.
        link: whether Redis is within reach.
    """

    def __init__(self, redis: Commands, keys: Keys, link: Link) -> None:
        self._redis = redis
        self._keys = keys
        self._link = link
        self._waiting: Coalescer[_Wanted] = Coalescer(
            self._read,
            prediction=lambda wanted: wanted.id,
            size=lambda wanted: _READ_BYTES * len(wanted.keys),
        )

    async def find(self, id_: PredictionId, keys: Sequence[bytes]) -> list[bytes | None]:
        """Encoded entries, None where there is none, or where Redis is out of reach.

        Args:
            id_: the prediction that wants them, of the model and its shard.
            keys: of rows.
        """
        if not self._link.up:
            return [None] * len(keys)
        several = [
            _Wanted(id_, keys[first : first + KEYS_A_CALL])
            for first in range(0, len(keys), KEYS_A_CALL)
        ]
        for wanted in several:
            self._waiting.add(wanted)
        return [entry for wanted in several for entry in await wanted.found]

    async def run(self) -> None:
        """Look up until cancelled."""
        await self._waiting.run()

    async def _read(self, items: list[_Wanted]) -> None:
        keys = self._keys.of_prediction(items[0].id)
        wanted = [key for item in items for key in item.keys]
        found: Sequence[bytes | None] = [None] * len(wanted)
        try:
            found = cast(
                Sequence[bytes | None],
                await self._redis.execute_command("HMGET", keys.cache, *wanted),
            )
        except (RedisError, OSError) as error:
            log.warning("looking up %d rows failed, they are run: %s", len(wanted), error)
            self._link.suspect(error)
        finally:
            at = 0
            for item in items:
                if not item.found.done():
                    item.found.set_result(found[at : at + len(item.keys)])
                at += len(item.keys)
