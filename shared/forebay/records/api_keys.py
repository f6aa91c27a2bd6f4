"""API keys: what is known of each, and how operators make and change them.

fb_3f9c2a7be014_9d0e…   what a client sends: `fb`, the key's id, and its secret
   └─ id        └─ 256 random bits, of which only the SHA-256 is kept
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Sequence
from typing import Final, cast

import msgspec

from forebay.contract.errors import InvalidInput, NotFound
from forebay.contract.prediction import Lane
from forebay.lanes.keys import Keys
from forebay.records.keys import api_key_keys
from forebay.runtime.redis import Commands, Script, now_ms

_TOKEN: Final = re.compile(rb"fb_(?P<id>[0-9a-f]{12})_(?P<secret>[0-9a-f]{64})")
_TRIES: Final = 5
_SCRIPTS: Final = "forebay.records.scripts"

_put = Script(_SCRIPTS, "api_key")
_allow = Script(_SCRIPTS, "allow")


class Limits(msgspec.Struct, frozen=True, omit_defaults=True):
    """How much a key may ask for; 0 is as much as there is room for.

    Attributes:
        requests_per_minute: requests, at any gateway.
        concurrency: requests that are answered at once.
        batch_rows: rows of one request.
    """

    requests_per_minute: int = 0
    concurrency: int = 0
    batch_rows: int = 0


class Scopes(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a key may ask for.

    Attributes:
        models: which; none are all.
        lanes: which; none are all.
        admin: what concerns everybody, such as loading models.
        dashboard: the dashboard.
    """

    models: tuple[str, ...] = ()
    lanes: tuple[Lane, ...] = ()
    admin: bool = False
    dashboard: bool = False


class ApiKey(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is known of a key.

    Attributes:
        id: 12 hexadecimal digits; no secret.
        digest: SHA-256 of its secret, hexadecimal.
        created_at_ms: Unix time; likewise the other `_ms` fields, where 0 is never.
        name: what operators call it.
        former: digest of the secret before, after a rotation with grace.
        former_until_ms: until when that one is taken as well.
    """

    id: str
    digest: str
    created_at_ms: int
    name: str = ""
    scopes: Scopes = Scopes()
    limits: Limits = Limits()
    expires_at_ms: int = 0
    revoked_at_ms: int = 0
    former: str = ""
    former_until_ms: int = 0

    def takes(self, digest: str, at_ms: int) -> bool:
        """Whether this is the digest of a secret that it has, compared in constant time."""
        current = hmac.compare_digest(digest, self.digest)
        former = hmac.compare_digest(digest, self.former) and at_ms < self.former_until_ms
        return current or former

    def state(self, at_ms: int) -> str:
        """`active`, `revoked` or `expired`."""
        if self.revoked_at_ms:
            return "revoked"
        return "expired" if 0 < self.expires_at_ms <= at_ms else "active"


class Token(msgspec.Struct, frozen=True):
    """What a client has sent, taken apart.

    Attributes:
        id: of the key that it says it is.
        digest: SHA-256 of the secret, hexadecimal.
    """

    id: str
    digest: str

    @classmethod
    def parse(cls, text: bytes) -> "Token | None":
        """Take it apart; None if it has not the form of a key."""
        match = _TOKEN.fullmatch(text)
        return None if match is None else cls(match["id"].decode(), digest_of(match["secret"]))


class Lent(msgspec.Struct, frozen=True):
    """What a gateway was lent.

    Attributes:
        requests: it may let pass.
        left: requests there still are, for any gateway.
        wait_ms: until there is another, if it got fewer than it asked for.
        slots: it has in all.
    """

    requests: int
    left: int
    wait_ms: int
    slots: int


_key = msgspec.json.Decoder(ApiKey)


class ApiKeys:
    """Reads and writes them.

    Args:
        redis: client whose commands are not retried.
        keys: key builder.

    Every method raises what the server or the connection does, a `redis.exceptions.RedisError`.
    """

    def __init__(self, redis: Commands, keys: Keys) -> None:
        self._redis = redis
        self._keys = api_key_keys(keys)

    async def all(self) -> list[ApiKey]:
        """All of them, by when they were made."""
        found = await self._redis.execute_command("HVALS", self._keys.all)
        return sorted((_key.decode(one) for one in found), key=lambda one: one.created_at_ms)

    async def some(self, ids: Sequence[str]) -> list[ApiKey | None]:
        """Those with these ids, in their order; None where there is none."""
        read = await self._redis.execute_command("HMGET", self._keys.all, *ids)
        found = cast(list[bytes | None], read)
        return [None if one is None else _key.decode(one) for one in found]

    async def find(self, id_: str) -> ApiKey:
        """One of them.

        Raises:
            NotFound: there is none.
        """
        (found,) = await self.some([id_])
        if found is None:
            raise NotFound(f"There is no API key {id_[:80]!r}: `forebay keys list` shows all.")
        return found

    async def create(
        self, *, name: str, scopes: Scopes, limits: Limits, lives_ms: int = 0
    ) -> tuple[ApiKey, str]:
        """Make one; returns it and what its client is to send, which is told nowhere else.

        Args:
            name: what operators call it.
            scopes: what it may ask for.
            limits: how much.
            lives_ms: for how long; 0 for ever.
        """
        at_ms = await now_ms(self._redis)
        for _ in range(_TRIES):
            id_, secret = secrets.token_hex(6), secrets.token_hex(32)
            key = ApiKey(
                id_,
                digest_of(secret.encode()),
                at_ms,
                name,
                scopes,
                limits,
                expires_at_ms=at_ms + lives_ms if lives_ms else 0,
            )
            if await self._exchange(key.id, b"", key):
                return key, f"fb_{id_}_{secret}"
        raise RuntimeError("every id that was drawn is taken")

    async def revoke(self, id_: str) -> ApiKey:
        """Have one refused from now on; safe to repeat.

        Raises:
            NotFound: there is none.
        """
        while True:
            read, key = await self._read(id_)
            if key.revoked_at_ms:
                return key
            gone = msgspec.structs.replace(key, revoked_at_ms=await now_ms(self._redis))
            if await self._exchange(id_, read, gone):
                return gone

    async def rotate(self, id_: str, *, grace_ms: int) -> tuple[ApiKey, str]:
        """Give one another secret; returns it and what its client is to send.

        Args:
            id_: of the key.
            grace_ms: for how long the secret before is taken as well.

        Raises:
            NotFound: there is none.
            InvalidInput: it is revoked.
        """
        secret = secrets.token_hex(32)
        while True:
            read, key = await self._read(id_)
            if key.revoked_at_ms:
                raise InvalidInput(f"{id_} is revoked: create another key.")
            new = msgspec.structs.replace(
                key,
                digest=digest_of(secret.encode()),
                former=key.digest if grace_ms else "",
                former_until_ms=await now_ms(self._redis) + grace_ms if grace_ms else 0,
            )
            if await self._exchange(id_, read, new):
                return new, f"fb_{id_}_{secret}"

    async def lend(
        self,
        key: ApiKey,
        gateway: str,
        *,
        requests: int,
        back: int,
        slots: int,
        lease_ms: int,
        kept_ms: int,
    ) -> Lent:
        """Lend a gateway some of a key's allowance; `allow.lua`.

        Args:
            key: whose limits hold.
            gateway: any name of its own.
            requests: wanted.
            back: that it had and gives back.
            slots: that it wants in all.
            lease_ms: for how long those.
            kept_ms: how long is known what was spent, if nothing more is asked.
        """
        limits = key.limits
        lent = await _allow.call(
            self._redis,
            [self._keys.spent(key.id), self._keys.held(key.id)],
            [
                limits.requests_per_minute,
                requests,
                back,
                limits.concurrency,
                gateway,
                slots,
                lease_ms,
                kept_ms,
            ],
        )
        return Lent(*(int(number) for number in lent))

    async def _read(self, id_: str) -> tuple[bytes, ApiKey]:
        found = await self._redis.execute_command("HGET", self._keys.all, id_)
        if found is None:
            raise NotFound(f"There is no API key {id_[:80]!r}: `forebay keys list` shows all.")
        return cast(bytes, found), _key.decode(found)

    async def _exchange(self, id_: str, read: bytes, key: ApiKey) -> bool:
        encoded = msgspec.json.encode(key)
        return bool(await _put.call(self._redis, [self._keys.all], [id_, read, encoded]))


def digest_of(secret: bytes) -> str:
    """What is kept of a secret: it has 256 random bits, so nothing slow is needed to hide it."""
    return hashlib.sha256(secret).hexdigest()
