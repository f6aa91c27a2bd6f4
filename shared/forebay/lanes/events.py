"""What a prediction has generated so far: told by its worker, kept for who comes back for it.

    worker ──tell──▶ event stream of each prediction ──read──▶ gateways
                └──▶ one message a gateway with all its chunks

Every chunk has a sequence, which is its place in the event stream and its id for clients. So
nothing is kept twice, what was lost on the way to a gateway can be read again, and a stream goes
on anywhere after the last chunk that somebody has.
"""

from collections.abc import Sequence
from typing import cast

import msgspec

from forebay.contract.generation import Chunk
from forebay.contract.messages import decode_chunk, encode
from forebay.contract.prediction import PredictionId, Status
from forebay.lanes import scripts
from forebay.lanes.consumer import Delivery
from forebay.lanes.keys import Keys, LaneKeys
from forebay.lanes.scripts import TellOutcome
from forebay.runtime.redis import Arg, Commands

PAGE = 256
"""Chunks read in one go."""


class Told(msgspec.Struct, frozen=True):
    """Chunks of one prediction that a worker tells at once.

    Attributes:
        delivery: whose lease allows it.
        chunks: in order, at least one.
        last: no more follow.
    """

    delivery: Delivery
    chunks: tuple[Chunk, ...]
    last: bool = False


class Written(msgspec.Struct, frozen=True):
    """What was told of a prediction.

    Attributes:
        chunks: in order.
        version: of the artifact that generated them; None if there are none, or too many.
    """

    chunks: tuple[Chunk, ...]
    version: str | None


async def tell(
    redis: Commands, keys: LaneKeys, told: Sequence[Told], *, version: str, run_ms: int
) -> list[TellOutcome]:
    """Hand over chunks of many predictions in one call. Safe to repeat.

    Args:
        redis: client whose commands are not retried.
        keys: of the model's shard.
        told: of each prediction at most once.
        version: short digest of the artifact.
        run_ms: how long a prediction may run.

    Returns:
        For each whether it was told, or why not: then its worker may stop.

    Raises:
        redis.exceptions.RedisError: Redis is out of reach.
    """
    pairs: list[str] = []
    args: list[Arg] = []
    for one in told:
        delivery = one.delivery
        pairs += (keys.record(delivery.prediction), keys.events(delivery.prediction))
        args += (delivery.prediction, delivery.part, delivery.attempt, int(one.last))
        args += (version, len(one.chunks))
        for chunk in one.chunks:
            args += (chunk.sequence, encode(chunk))
    return await scripts.tell(redis, keys, pairs=pairs, run_ms=run_ms, args=args)


async def written(redis: Commands, keys: LaneKeys, prediction: str) -> Written:
    """All that was told of a prediction, for a worker that goes on with it.

    Raises:
        msgspec.MsgspecError: the event stream is damaged.
        redis.exceptions.RedisError: Redis is out of reach.
    """
    entries = await _entries(redis, keys.events(prediction), after=0)
    chunks = tuple(decode_chunk(fields[b"c"]) for fields in entries)
    if not entries or chunks[0].sequence != 1:
        return Written(chunks, None)
    return Written(chunks, entries[0].get(b"v", b"").decode())


class Events:
    """Reads event streams.

    Args:
        redis: client whose commands are not retried.
        keys: key builder.
    """

    def __init__(self, redis: Commands, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys

    async def follow(self, id_: PredictionId, channel: str) -> tuple[Status, int] | None:
        """Have what is still to come published on a channel, and on no other.

        Returns:
            Status and number of parts; None if there is no such prediction, or no longer.

        Raises:
            redis.exceptions.RedisError: Redis is out of reach.
        """
        record = self._keys.of_prediction(id_).record(id_.text)
        found = await scripts.follow(self._redis, record, channel)
        return None if found is None else (Status(found[0].decode()), found[1])

    async def from_(self, id_: PredictionId, sequence: int) -> Chunk | None:
        """The first chunk that is kept of those with this sequence and later ones; None if none is.

        Raises:
            msgspec.MsgspecError: the event stream is damaged.
            redis.exceptions.RedisError: Redis is out of reach.
        """
        key = self._keys.of_prediction(id_).events(id_.text)
        entries = await _entries(self._redis, key, after=sequence - 1, most=1)
        return decode_chunk(entries[0][b"c"]) if entries else None

    async def after(self, id_: PredictionId, sequence: int) -> tuple[Chunk, ...]:
        """The next chunks after one, `PAGE` at most.

        Raises:
            msgspec.MsgspecError: the event stream is damaged.
            redis.exceptions.RedisError: Redis is out of reach.
        """
        key = self._keys.of_prediction(id_).events(id_.text)
        entries = await _entries(self._redis, key, after=sequence, most=PAGE)
        return tuple(decode_chunk(fields[b"c"]) for fields in entries)


async def _entries(
    redis: Commands, key: str, *, after: int, most: int | None = None
) -> list[dict[bytes, bytes]]:
    count: tuple[str | int, ...] = () if most is None else ("COUNT", most)
    reply = await redis.execute_command("XRANGE", key, f"({after}-0", "+", *count)
    entries = cast(list[tuple[bytes, list[bytes]]], reply)
    return [dict(zip(fields[::2], fields[1::2], strict=True)) for _, fields in entries]
