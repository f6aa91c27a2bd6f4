"""The predictions that have an id, of all models, by when they came.

Each shard of a model lists its own in a stream, and a reader merges them. An entry's spot is its id
in that stream, and which stream it is: of all entries no two have the same, and none ever changes
its own, so that pages neither repeat nor skip what was there when the first was read.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Final, cast

import msgspec

from forebay.lanes.keys import Keys
from forebay.runtime.redis import Commands

AT_ONCE: Final = 8
"""Streams that are read at once: each takes a connection."""

_NEWEST: Final = 2**64 - 1


class Spot(msgspec.Struct, frozen=True, order=True):
    """Where an entry stands among those of all models; a newer one's is greater.

    Attributes:
        ms: when it was listed, Unix time in ms by the server that has its stream.
        sequence: which of that ms.
        model: what its version is served under.
    """

    ms: int
    sequence: int
    model: str


class Listed(msgspec.Struct, frozen=True):
    """An entry: a prediction's id, and where it stands."""

    spot: Spot
    prediction: str


class Listing:
    """Reads the list.

    Args:
        redis: client whose commands are not retried.
        keys: key builder.
    """

    def __init__(self, redis: Commands, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys

    async def models(self, catalog: Iterable[str]) -> list[str]:
        """The models of a catalog, and those that were in one before and are in it no more.

        Raises:
            redis.exceptions.RedisError: Redis is out of reach.
        """
        members = await self._redis.execute_command("SMEMBERS", self._keys.models)
        return sorted({raw.decode() for raw in cast(Iterable[bytes], members)}.union(catalog))

    async def older(
        self, models: Sequence[str], than: Spot | None, *, since_ms: int = 0, most: int
    ) -> list[Listed]:
        """Entries before a spot, the newest first.

        Args:
            models: whose.
            than: the spot; all entries are before None.
            since_ms: what was listed earlier is left out.
            most: how many.

        Raises:
            redis.exceptions.RedisError: Redis is out of reach.
        """

        async def read(model: str) -> list[Listed]:
            last = "+" if than is None else _bound(than, beyond=model >= than.model)
            return await self._range("XREVRANGE", model, last, str(since_ms), most)

        return sorted(await self._each(read, models), key=_spot, reverse=True)[:most]

    async def newer(
        self, models: Sequence[str], than: Spot, *, until_ms: int = _NEWEST, most: int
    ) -> list[Listed]:
        """Entries after a spot, the oldest first.

        Args:
            models: whose.
            than: the spot.
            until_ms: what was listed later is left out.
            most: how many.

        Raises:
            redis.exceptions.RedisError: Redis is out of reach.
        """

        async def read(model: str) -> list[Listed]:
            first = _bound(than, beyond=model <= than.model)
            return await self._range("XRANGE", model, first, str(until_ms), most)

        return sorted(await self._each(read, models), key=_spot)[:most]

    async def _each(
        self, read: Callable[[str], Awaitable[list[Listed]]], models: Sequence[str]
    ) -> list[Listed]:
        found: list[Listed] = []
        for first in range(0, len(models), AT_ONCE):
            for some in await asyncio.gather(*map(read, models[first : first + AT_ONCE])):
                found += some
        return found

    async def _range(
        self, command: str, model: str, start: str, end: str, most: int
    ) -> list[Listed]:
        entries = await self._redis.execute_command(
            command, self._keys.of(model).predictions, start, end, "COUNT", most
        )
        return [
            Listed(_spot_of(entry, model), fields[1].decode())
            for entry, fields in cast(list[tuple[bytes, list[bytes]]], entries)
        ]


def _bound(spot: Spot, *, beyond: bool) -> str:
    """A spot as one end of a range of a stream; `beyond`: its own id is not in it."""
    return f"{'(' if beyond else ''}{spot.ms}-{spot.sequence}"


def _spot_of(entry: bytes, model: str) -> Spot:
    ms, _, sequence = entry.partition(b"-")
    return Spot(int(ms), int(sequence), model)


def _spot(listed: Listed) -> Spot:
    return listed.spot
