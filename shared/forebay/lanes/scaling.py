"""What the autoscaler wants for a model, and why: told to people, in a key that lapses with it."""

import logging

import msgspec

from forebay.lanes.keys import LaneKeys
from forebay.runtime.redis import Commands

log = logging.getLogger(__name__)

WIRE_VERSION = 1

KEPT_MS = 10_000
"""How long a word stands; it is repeated more often than that."""


class Wanted(msgspec.Struct, frozen=True):
    """How many replicas of a model there should be.

    Attributes:
        replicas: how many.
        started: how many have been started, ready or not.
        why: what they are for, in words.
    """

    replicas: int
    started: int
    why: str
    v: int = WIRE_VERSION


_wanted = msgspec.json.Decoder(Wanted)


async def tell(redis: Commands, keys: LaneKeys, wanted: Wanted) -> None:
    """Say what is wanted.

    Raises:
        redis.exceptions.RedisError: Redis is out of reach.
    """
    await redis.execute_command("SET", keys.scaling, msgspec.json.encode(wanted), "PX", KEPT_MS)


async def told(redis: Commands, keys: LaneKeys) -> Wanted | None:
    """What is wanted; None if nobody says, as where nobody scales the model.

    Raises:
        redis.exceptions.RedisError: Redis is out of reach.
    """
    raw = await redis.execute_command("GET", keys.scaling)
    if raw is None:
        return None
    try:
        return _wanted.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        log.warning("what is wanted can't be read from %s: %s", keys.scaling, error)
        return None
