"""Names that clients give to their requests, and the prediction each stands for.

An Idempotency-Key, or an id of the client's own making, is claimed before anything is enqueued: the
first to come chooses the prediction's id, and whoever comes again with the same name is led to it.
A claim is in a slot of its own, so any gateway finds it without knowing the model.
"""

from typing import cast

import msgspec

from forebay.contract.prediction import PredictionId
from forebay.lanes import scripts
from forebay.lanes.keys import Keys
from forebay.runtime.redis import Commands


class Claim(msgspec.Struct, frozen=True):
    """What a name stands for.

    Attributes:
        id: of the prediction.
        fingerprint: of the request that came first with this name.
        fresh: whether that was this one.
    """

    id: PredictionId
    fingerprint: str
    fresh: bool


class Claims:
    """Reads and writes claims.

    Args:
        redis: client whose commands are not retried.
        keys: key builder.
    """

    def __init__(self, redis: Commands, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys

    async def claim(self, name: str, id_: PredictionId, fingerprint: str, *, ttl_ms: int) -> Claim:
        """Claim a name, unless it is taken. Safe to repeat.

        Args:
            name: as the client gives it, with what tells kinds of names apart.
            id_: the prediction it is to stand for.
            fingerprint: of the request, without blanks.
            ttl_ms: how long the name is kept.

        Raises:
            redis.exceptions.RedisError: Redis is out of reach.
        """
        taken = cast(
            bytes | None,
            await self._redis.execute_command(
                "SET", self._keys.claim(name), _text(id_, fingerprint),
                "NX", "GET", "PX", ttl_ms,
            ),
        )  # fmt: skip
        if taken is None:
            return Claim(id_, fingerprint, fresh=True)
        return _parse(taken)

    async def release(self, name: str, id_: PredictionId, fingerprint: str) -> None:
        """Give a name back that was claimed for a prediction which was refused then.

        Raises:
            redis.exceptions.RedisError: Redis is out of reach; the name lapses in its time.
        """
        await scripts.unclaim(self._redis, self._keys.claim(name), _text(id_, fingerprint))

    async def find(self, name: str) -> PredictionId | None:
        """The prediction that a name stands for, or None.

        Raises:
            redis.exceptions.RedisError: Redis is out of reach.
        """
        taken = cast(bytes | None, await self._redis.execute_command("GET", self._keys.claim(name)))
        return None if taken is None else _parse(taken).id


def _text(id_: PredictionId, fingerprint: str) -> str:
    return f"{id_.text} {fingerprint}"


def _parse(taken: bytes) -> Claim:
    id_, fingerprint = taken.decode().split(" ")
    return Claim(PredictionId.parse(id_), fingerprint, fresh=False)
