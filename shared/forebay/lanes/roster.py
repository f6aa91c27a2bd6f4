"""Who works here: each worker's card, which lapses with its presence.

A worker's presence on a model's lanes is told apart from this, with that model's keys, by `beat`:
that is what leases go by. The roster is for people, and for who gives orders.
"""

import logging

import msgspec

from forebay.contract.workers import WorkerCard
from forebay.lanes.keys import Keys
from forebay.runtime.redis import Commands

log = logging.getLogger(__name__)

_card = msgspec.json.Decoder(WorkerCard)


class Roster:
    """The workers of one installation.

    Args:
        redis: client with a timeout.
        keys: key builder.
    """

    def __init__(self, redis: Commands, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys

    async def enter(self, card: WorkerCard, *, presence_ms: int) -> None:
        """Say that a worker is present, and what it has; for so long.

        Raises:
            redis.exceptions.RedisError: Redis is out of reach.
        """
        if any(model.away for model in card.models):
            await self._redis.execute_command("SET", self._keys.away, "1", "PX", presence_ms)
        await self._redis.execute_command("SADD", self._keys.roster, card.name)
        await self._redis.execute_command(
            "SET", self._keys.card(card.name), msgspec.json.encode(card), "PX", presence_ms
        )

    async def leave(self, worker: str) -> None:
        """Say that a worker is gone.

        Raises:
            redis.exceptions.RedisError: Redis is out of reach.
        """
        await self._redis.execute_command("SREM", self._keys.roster, worker)
        # Which removes it, by a command that workers may use anyway.
        await self._redis.execute_command("PEXPIRE", self._keys.card(worker), 0)

    async def has_away(self) -> bool:
        """Whether a worker is present, or was a moment ago, that was told to unload a model.

        Raises:
            redis.exceptions.RedisError: Redis is out of reach.
        """
        return bool(await self._redis.execute_command("EXISTS", self._keys.away))

    async def present(self) -> list[WorkerCard]:
        """Cards of all workers that are present, the one that has worked longest first.

        Raises:
            redis.exceptions.RedisError: Redis is out of reach.
        """
        found: list[WorkerCard] = []
        for raw in await self._redis.execute_command("SMEMBERS", self._keys.roster):
            name = raw.decode()
            told = await self._redis.execute_command("GET", self._keys.card(name))
            if told is None:
                continue  # it ended without a word; see `tidy`
            try:
                found.append(_card.decode(told))
            except (msgspec.MsgspecError, UnicodeDecodeError) as error:
                log.warning("the card of worker %s can't be read: %s", name, error)
        return sorted(found, key=lambda card: (card.since_ms, card.name))

    async def tidy(self) -> int:
        """Strike off workers that ended without a word; how many there were.

        Raises:
            redis.exceptions.RedisError: Redis is out of reach.
        """
        names = await self._redis.execute_command("SMEMBERS", self._keys.roster)
        gone = [
            name
            for name in names
            if not await self._redis.execute_command("EXISTS", self._keys.card(name.decode()))
        ]
        # One that comes back meanwhile enters again with its next card.
        if gone:
            await self._redis.execute_command("SREM", self._keys.roster, *gone)
        return len(gone)
