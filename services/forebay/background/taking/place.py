r"""Where messages are that were taken from a Redis' lists and not told the outcome of yet.

| key, `BASE:` before | type   | what                                            |
|---------------------|--------|-------------------------------------------------|
| `held:TAKER`        | hash   | messages that a taker holds, by place           |
| `takers`            | zset   | takers by the end of their leases               |
| `due`               | zset   | `PLACE\nMESSAGE` by when its time comes         |
| `taken`             | string | how many were ever taken; numbers the places    |

The base is `P:{celery}` for tasks of Celery apps and `P:{trigger QUEUE}` for the events of a
trigger, with P from `settings.key_prefix`. They are where the queues are, if that is a Redis, so
that a script moves a message from one to the other; else where the lanes are. A place is
`NUMBER QUEUE`, and stays a message's own whoever takes it over.
"""

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple, cast

from forebay.runtime.redis import Arg, Commands, Script

MOST_BYTES: Final = 4_000_000
"""Messages taken in one go come to this much, and one more."""

MARK: Final = "@"
"""What a place begins with while the message is the broker's."""

_SCRIPTS = f"{__package__}.scripts"
_take = Script(_SCRIPTS, "take")
_reclaim = Script(_SCRIPTS, "reclaim")
_put_off = Script(_SCRIPTS, "put_off")
_give_back = Script(_SCRIPTS, "give_back")


class Taken(NamedTuple):
    """A message in its place."""

    place: str
    message: bytes

    @property
    def queue(self) -> str:
        """The queue that it was sent to."""
        return self.place.partition(" ")[2]

    @property
    def numbered(self) -> bool:
        """Whether the place is one of ours, and not the broker's."""
        return self.place[0] != MARK


def lists_of(queue: str, *, prefix: str, separator: str, steps: Sequence[int]) -> list[str]:
    """Keys of a queue's lists, in the order in which they are emptied.

    Args:
        queue: its name.
        prefix: kombu's `global_keyprefix`.
        separator: between the name and a priority.
        steps: priorities that have a list, the highest first, which is 0.
    """
    return [f"{prefix}{queue}{separator}{step}" if step else f"{prefix}{queue}" for step in steps]


class Place:
    """What one taker takes and holds.

    Args:
        redis: client whose commands are not retried.
        base: what its keys begin with; a colon and their names follow.
        taker: a name of its own.
        lease_s: for how long what it holds is its own if it is not heard of.
    """

    def __init__(self, redis: Commands, base: str, *, taker: str, lease_s: float) -> None:
        self._redis = redis
        self._base = base
        self._taker = taker
        self._lease_ms = int(lease_s * 1000)

    async def take(
        self, queues: Mapping[str, tuple[Sequence[str], int]], *, most_due: int
    ) -> tuple[bool, list[Taken]]:
        """Take messages, and renew the lease.

        Args:
            queues: by name, the lists of each in the order in which they are emptied, and the most
                to take from them.
            most_due: most whose time has come.

        Returns:
            Whether the lease was still known, and what was taken. If it was not, others have taken
            over what was held.

        Raises:
            redis.exceptions.RedisError: nobody knows what was taken: see `held`.
        """
        keys = [self.held_key, self._key("takers"), self._key("due"), self._key("taken")]
        args: list[Arg] = [self._taker, self._lease_ms, MOST_BYTES, most_due]
        for name, (lists, most) in queues.items():
            keys += lists
            args += (name, len(lists), most)
        known, *found = await _take.call(self._redis, keys, args)
        return bool(known), _pairs(found)

    async def held(self) -> list[Taken]:
        """All that is held."""
        found = await self._redis.execute_command("HGETALL", self.held_key)
        if isinstance(found, dict):  # as the third version of the protocol has it
            found = [one for pair in found.items() for one in pair]
        return sorted(
            _pairs(cast(list[bytes], found)), key=lambda taken: int(taken.place.partition(" ")[0])
        )

    async def reclaim(self, *, most: int) -> list[Taken]:
        """Take over what others held whose leases have ended."""
        args: list[Arg] = [self._taker, self._key("held:"), most]
        return _pairs(await _reclaim.call(self._redis, [self._key("takers"), self.held_key], args))

    async def drop(self, places: Sequence[str]) -> None:
        """Hold these no more: their outcomes are told."""
        await self._redis.execute_command("HDEL", self.held_key, *places)

    async def put_off(self, taken: Taken, until_ms: int) -> None:
        """Have a message that is held wait for its time, Unix ms."""
        args: list[Arg] = [taken.place, until_ms, taken.message]
        await _put_off.call(self._redis, [self.held_key, self._key("due")], args)

    async def keep(self, queue: str, message: bytes, until_ms: int) -> None:
        """Keep a message that came another way until its time comes, Unix ms."""
        number = await self._redis.execute_command("INCR", self._key("taken"))
        waiting = b"%d %s\n%s" % (number, queue.encode(), message)
        await self._redis.execute_command("ZADD", self._key("due"), until_ms, waiting)

    async def leave(self) -> None:
        """Leave what is held to others, who take it over before long."""
        await self._redis.execute_command("ZADD", self._key("takers"), "XX", 0, self._taker)

    async def give_back(self, key: str) -> None:
        """Put all that is held back on a list, so that it is taken from there next."""
        keys = [self.held_key, self._key("takers"), key]
        await _give_back.call(self._redis, keys, [self._taker])

    @property
    def held_key(self) -> str:
        """Key of what is held."""
        return self._key(f"held:{self._taker}")

    def _key(self, name: str) -> str:
        return f"{self._base}:{name}"


def _pairs(found: Sequence[bytes]) -> list[Taken]:
    return [Taken(found[at].decode(), found[at + 1]) for at in range(0, len(found), 2)]
