"""What deliveries are signed with: made when it is first needed, and changed without a gap.

All receivers share one secret, but those that were given one of their own. While a rotation's grace
lasts, deliveries carry a signature of each secret, so that receivers can take up the new one when
it suits them.
"""

import base64
from secrets import token_bytes

import msgspec

from forebay.lanes.keys import Keys
from forebay.records.keys import webhook_keys
from forebay.runtime.redis import Commands, Script, now_ms

PREFIX = "whsec_"
BYTES = 32
"""Of a secret; Standard Webhooks takes 24 to 64."""

MOST_FORMER = 8
"""Secrets that sign beside the current one, the latest: each makes a header longer."""

_exchange = Script("forebay.records.scripts", "exchange")


class Former(msgspec.Struct, frozen=True):
    """A secret that was current before.

    Attributes:
        until_ms: when its grace ends, Unix time.
    """

    secret: str
    until_ms: int


class Secrets(msgspec.Struct, frozen=True, omit_defaults=True):
    """What to sign with.

    Attributes:
        current: as receivers are given it.
        former: what was current before, the latest first; those whose grace is over may be there.
    """

    current: str
    former: tuple[Former, ...] = ()

    def valid(self, at_ms: int) -> tuple[str, ...]:
        """Those to sign with, the current one first."""
        return (self.current, *(one.secret for one in self.former if at_ms < one.until_ms))

    def rotated(self, at_ms: int, *, grace_ms: int) -> "Secrets":
        """With another current one; none of those before signs for longer than the grace."""
        end_ms = at_ms + grace_ms
        before = (Former(self.current, end_ms), *self.former)
        kept = (Former(one.secret, min(one.until_ms, end_ms)) for one in before)
        former = tuple(one for one in kept if at_ms < one.until_ms)
        return Secrets(_new(), former[:MOST_FORMER])


_secrets = msgspec.json.Decoder(Secrets)


class SecretStore:
    """Keeps them in Redis.

    Args:
        redis: any client.
        keys: key builder.

    Every method raises what the server or the connection does, a `redis.exceptions.RedisError`.
    """

    def __init__(self, redis: Commands, keys: Keys) -> None:
        self._redis = redis
        self._keys = webhook_keys(keys)

    async def read(self) -> Secrets:
        """What to sign with where a receiver has none of its own; made if there is nothing yet."""
        return _secrets.decode(await self._shared())

    async def of(self, url: str) -> Secrets:
        """What to sign with for a receiver: its own, or what all share."""
        own = await self._redis.execute_command("GET", self._keys.secrets_of(url))
        return await self.read() if own is None else _secrets.decode(own)

    async def rotate(self, *, grace_ms: int) -> Secrets:
        """Make another the current one; those before sign beside it for so long."""
        return await self._rotate(self._keys.secrets, grace_ms=grace_ms)

    async def rotate_of(self, url: str, *, grace_ms: int) -> Secrets:
        """Likewise for one receiver, which has a secret of its own from then on."""
        return await self._rotate(self._keys.secrets_of(url), grace_ms=grace_ms)

    async def _rotate(self, key: str, *, grace_ms: int) -> Secrets:
        while True:
            found = await self._redis.execute_command("GET", key) or b""
            before = _secrets.decode(found or await self._shared())
            after = before.rotated(await now_ms(self._redis), grace_ms=grace_ms)
            done = await _exchange.call(self._redis, [key], [found, msgspec.json.encode(after)])
            if done:
                return after

    async def _shared(self) -> bytes:
        found = await self._redis.execute_command("GET", self._keys.secrets)
        if found is None:
            made = msgspec.json.encode(Secrets(_new()))
            await self._redis.execute_command("SET", self._keys.secrets, made, "NX")
            found = await self._redis.execute_command("GET", self._keys.secrets)
        return bytes(found)


def _new() -> str:
    return PREFIX + base64.b64encode(token_bytes(BYTES)).decode()
