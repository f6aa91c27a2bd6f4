"""Readers of streams that end with them: a lease on each, renewed by the gateway that has them.

    gateway ──attend, thrice a lease──▶ record ◀──tell── worker: has it lapsed, it ends the text

A gateway that is killed, or cut off, renews nothing: what it streamed ends at the first chunk after
the lease. Streams that somebody can come back for have none.
"""

import asyncio
from collections.abc import Iterable

from redis.exceptions import RedisError, ResponseError

from forebay.contract.prediction import PredictionId
from forebay.lanes import scripts
from forebay.lanes.keys import Keys
from forebay.runtime.redis import Commands, Link

BITE = 256
"""Leases renewed in one script call."""

RENEWALS = 3
"""Renewals a lease."""


class Readers:
    """The readers that one gateway has.

    Args:
        redis: client with a timeout.
        keys: key builder.
        link: whether Redis is within reach.
        lease_s: how long a reader counts as there after a renewal, seconds.
    """

    def __init__(self, redis: Commands, keys: Keys, link: Link, *, lease_s: float) -> None:
        self._redis = redis
        self._keys = keys
        self._link = link
        self._lease_s = lease_s
        self._reading: set[PredictionId] = set()

    def __len__(self) -> int:
        """How many there are."""
        return len(self._reading)

    @property
    def lease_ms(self) -> int:
        """How long a reader counts as there, ms."""
        return int(self._lease_s * 1000)

    def come(self, id_: PredictionId) -> None:
        """Somebody reads a prediction that ends with its reader."""
        self._reading.add(id_)

    def go(self, id_: PredictionId) -> None:
        """Nobody does any more."""
        self._reading.discard(id_)

    async def run(self) -> None:
        """Renew leases until cancelled."""
        while True:
            await self._link.returned()
            try:
                await self.renew()
            except ResponseError:
                raise  # Redis is there and says no: a bug, not an outage
            except (RedisError, OSError) as error:
                self._link.suspect(error)
            else:
                await asyncio.sleep(self._lease_s / RENEWALS)

    async def renew(self) -> None:
        """Renew the leases of all.

        Raises:
            redis.exceptions.RedisError: Redis is out of reach.
        """
        for shard in _by_shard(self._reading):
            keys = self._keys.of_prediction(shard[0])
            for first in range(0, len(shard), BITE):
                records = [keys.record(id_.text) for id_ in shard[first : first + BITE]]
                await scripts.attend(self._redis, records, lease_ms=self.lease_ms)


def _by_shard(ids: Iterable[PredictionId]) -> list[list[PredictionId]]:
    """Predictions whose keys share a slot, together."""
    shards: dict[tuple[str, int], list[PredictionId]] = {}
    for id_ in ids:
        shards.setdefault((id_.model, id_.shard), []).append(id_)
    return list(shards.values())
