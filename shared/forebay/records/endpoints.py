"""Receivers that operators have added, for events whose requests name none: OpenAI's."""

import msgspec

from forebay.contract.notices import Format
from forebay.lanes.keys import Keys
from forebay.records.keys import webhook_keys
from forebay.runtime.redis import Commands

OWN_SECRET_KEPT_MS = 14 * 24 * 3_600_000
"""An endpoint's own secret outlives it by so long: what is under way is still signed with it, and
who adds it again finds it."""


class Endpoint(msgspec.Struct, frozen=True):
    """A receiver.

    Attributes:
        url: where it is.
        events: what it wants to be told of, as `response.completed`; none are all.
        format: how bodies are wrapped.
    """

    url: str
    events: tuple[str, ...] = ()
    format: Format = Format.PLAIN

    def wants(self, event: str) -> bool:
        """Whether it wants to be told of an event."""
        return not self.events or event in self.events


_endpoint = msgspec.json.Decoder(Endpoint)


class Endpoints:
    """Reads and writes them.

    Args:
        redis: any client.
        keys: key builder.

    Every method raises what the server or the connection does, a `redis.exceptions.RedisError`.
    """

    def __init__(self, redis: Commands, keys: Keys) -> None:
        self._redis = redis
        self._keys = webhook_keys(keys)

    async def all(self) -> list[Endpoint]:
        """All of them, by URL."""
        found = await self._redis.execute_command("HVALS", self._keys.endpoints)
        return sorted((_endpoint.decode(one) for one in found), key=lambda one: one.url)

    async def add(self, endpoint: Endpoint) -> None:
        """Add one; another of the same URL goes."""
        await self._redis.execute_command(
            "HSET", self._keys.endpoints, endpoint.url, msgspec.json.encode(endpoint)
        )
        await self._redis.execute_command("PERSIST", self._keys.secrets_of(endpoint.url))

    async def has(self, url: str) -> bool:
        """Whether there is one of this URL."""
        return bool(await self._redis.execute_command("HEXISTS", self._keys.endpoints, url))

    async def remove(self, url: str) -> bool:
        """Remove one; False if there was none."""
        if not await self._redis.execute_command("HDEL", self._keys.endpoints, url):
            return False
        await self._redis.execute_command("PEXPIRE", self._keys.secrets_of(url), OWN_SECRET_KEPT_MS)
        return True
