"""Messages of Celery apps that nothing could be made of: the list `P:{celery}:dead`, newest first.

P is `settings.key_prefix`.
"""

from typing import cast

import msgspec

from forebay.background.taking.place import Place
from forebay.runtime.redis import Arg, Commands, Script

_bury = Script(f"{__package__}.scripts", "bury")


class Letter(msgspec.Struct, frozen=True, omit_defaults=True):
    """A message that nothing could be made of.

    Attributes:
        queue: where it was sent to.
        reason: what is wrong with it.
        at_ms: when it was put aside, Unix ms.
        id: of the task, if it could be read.
        message: as it came.
    """

    queue: str
    reason: str
    at_ms: int
    message: bytes
    id: str = ""


def base_of(prefix: str) -> str:
    """What all keys of the ingress begin with; `prefix` is `settings.key_prefix`."""
    return f"{prefix}:{{celery}}"


def key_of(prefix: str, name: str) -> str:
    """One of them."""
    return f"{base_of(prefix)}:{name}"


class Letters:
    """What was put aside.

    Args:
        redis: client whose commands are not retried.
        prefix: `settings.key_prefix`.
    """

    def __init__(self, redis: Commands, prefix: str) -> None:
        self._redis = redis
        self._key = key_of(prefix, "dead")

    async def bury(self, letter: Letter, *, held: Place, place: str, most: int) -> None:
        """Put a message aside for good.

        Args:
            letter: the message, and why.
            held: who holds it.
            place: where; empty if it came another way.
            most: letters kept.
        """
        args: list[Arg] = [place, msgspec.msgpack.encode(letter), most]
        await _bury.call(self._redis, [held.held_key, self._key], args)

    async def newest(self, *, most: int) -> list[Letter]:
        """The newest of them, in that order."""
        found = await self._redis.execute_command("LRANGE", self._key, 0, most - 1)
        return [msgspec.msgpack.decode(one, type=Letter) for one in cast(list[bytes], found)]

    async def drop(self) -> int:
        """Delete all; how many."""
        number = cast(int, await self._redis.execute_command("LLEN", self._key))
        await self._redis.execute_command("DEL", self._key)
        return number
