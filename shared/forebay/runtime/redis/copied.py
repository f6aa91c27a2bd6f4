"""Writes that count only once a replica has them: `durability = replicated`."""

from typing import Any

from redis.exceptions import ResponseError

from forebay.runtime.redis.channel import Channel
from forebay.runtime.redis.cluster import Command

REPLICAS = 1

WAIT_SHARE = 0.5
"""Share of a channel's timeout given to the replicas."""


class NotCopiedError(ResponseError):
    """The server has done it, but no replica has confirmed so in time: a failover may undo it."""


class CopiedWrites:
    """Sends commands, and waits until a replica has what they wrote.

    WAIT counts the replicas that have what *its* connection has written last. So it goes with the
    command, on the same connection: on another one, to a server that has just been promoted, it
    would count replicas that never had the write. A command that finds everything written already
    (a repeated one) writes nothing, and then WAIT would not wait for the first one's write (Valkey
    9). Hence a write between the two that always is one.

    Args:
        channel: to send through.
        mark: a write without effect, to a key in the same slot.
    """

    def __init__(self, channel: Channel, mark: Command) -> None:
        self._channel = channel
        self._mark = mark

    async def execute_command(self, *args: Any, **_: Any) -> Any:
        """Send a command; its raw answer, once a replica has what it wrote.

        Raises:
            NotCopiedError: no replica had it in time.
            redis.exceptions.RedisError: as for `Channel.execute_command`.
        """
        wait_ms = int(self._channel.timeout_s * WAIT_SHARE * 1000)
        answer, _, copies = await self._channel.execute_together(
            args, self._mark, ("WAIT", REPLICAS, wait_ms)
        )
        if copies < REPLICAS:
            raise NotCopiedError(f"no replica had it within {wait_ms} ms")
        return answer
