"""Asks Redis what is on a model's lanes, and who is there."""

import math

import msgspec

from forebay.lanes.depth import Depth, depth
from forebay.lanes.keys import Keys
from forebay.lanes.presence import Present, present
from forebay.runtime.redis import Commands, now_ms


class Seen(msgspec.Struct, frozen=True):
    """What was found of one model.

    Attributes:
        depth: what is on its lanes.
        present: its workers, whoever has started them.
    """

    depth: Depth
    present: tuple[Present, ...]

    @property
    def entered(self) -> int:
        """Rows that ever entered either lane."""
        return sum(self.depth.entered.values())

    @property
    def rate(self) -> float:
        """Rows a second that one replica works off, of those that know; 0 if none does."""
        known = [one.rate for one in self.present if one.rate > 0]
        return math.fsum(known) / len(known) if known else 0.0


class Sampler:
    """Looks at models.

    Args:
        redis: client with a timeout.
        keys: key builder.
    """

    def __init__(self, redis: Commands, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys

    async def look(self, model: str) -> Seen:
        """See how a model is.

        Raises:
            redis.exceptions.RedisError: Redis is out of reach.
        """
        keys = self._keys.of(model)
        at_ms = await now_ms(self._redis)
        found = await depth(self._redis, keys, now_ms=at_ms)
        there = await present(self._redis, keys, now_ms=at_ms) if found.replicas else []
        return Seen(found, tuple(there))
