"""Prompts of texts that are cached, by what they mean: what gateways share of semantic caches.

    gateway ─▶ XADD, the oldest go ─▶ prompts ─▶ XRANGE, from the last one on ─▶ every gateway

It lies beside the cache whose keys it names, and lives as long. An entry whose key is no longer
cached answers nothing. Nothing depends on it: what can't be read is run.
"""

from collections.abc import Sequence
from typing import Final, cast

import msgspec

from forebay.lanes.keys import Keys
from forebay.runtime.redis import Commands

PROMPTS_A_CALL: Final = 500
"""That one command reads: 0.5 MB of MiniLM's vectors."""


class Prompt(msgspec.Struct, frozen=True):
    """What is known of a prompt whose text is cached.

    Attributes:
        key: of its row in the cache.
        context: digest of whatever else the text follows from, and of what embedded the prompt.
        vector: what it means, little-endian float16.
    """

    key: bytes
    context: bytes
    vector: bytes


class Prompts:
    """The prompts of all models.

    Args:
        redis: client whose commands are not retried.
        keys: key builder.
    """

    def __init__(self, redis: Commands, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys

    async def add(
        self, model: str, prompts: Sequence[Prompt], *, most: int, ttl_ms: int
    ) -> list[bytes]:
        """Remember prompts; returns their entries.

        Args:
            model: that writes their texts.
            prompts: the latest last.
            most: of the model that are remembered.
            ttl_ms: for how long after the last was added.

        Raises:
            redis.exceptions.RedisError: Redis is out of reach.
        """
        key = self._keys.of(model).prompts
        entries: list[bytes] = []
        for prompt in prompts:
            fields = ("k", prompt.key, "c", prompt.context, "v", prompt.vector)
            told = await self._redis.execute_command("XADD", key, "MAXLEN", most, "*", *fields)
            entries.append(cast(bytes, told))
        await self._redis.execute_command("PEXPIRE", key, ttl_ms)
        return entries

    async def since(self, model: str, entry: bytes) -> list[tuple[bytes, Prompt]]:
        """Prompts after an entry, each with its own, the oldest first; some of them, if many.

        Args:
            model: that writes their texts.
            entry: the last one that is known; empty for none.

        Raises:
            redis.exceptions.RedisError: Redis is out of reach.
        """
        first = b"(" + entry if entry else b"-"
        key = self._keys.of(model).prompts
        found = cast(
            Sequence[tuple[bytes, Sequence[bytes]]],
            await self._redis.execute_command("XRANGE", key, first, "+", "COUNT", PROMPTS_A_CALL),
        )
        return [(entry, Prompt(*fields[1::2])) for entry, fields in found]
