"""The outbox: what is to be told of predictions, written by the step that made it happen.

A prediction's events are written beside its record, in the slot of its model. What ends elsewhere,
as batches do, has an outbox of its own. A relay moves both into deliveries, and deletes what it has
moved, and nothing else ever is: while a model's outbox is full, enqueue accepts no more of which
somebody is to be told. A channel with the name of the outbox says that there is something in it.
"""

from collections.abc import Sequence
from enum import StrEnum

import msgspec

from forebay.lanes.keys import Keys
from forebay.records.keys import webhook_keys
from forebay.runtime.redis import Commands


class BatchEnd(StrEnum):
    """How a batch may end, as OpenAI names the event."""

    COMPLETED = "batch.completed"
    FAILED = "batch.failed"
    CANCELLED = "batch.cancelled"
    EXPIRED = "batch.expired"


class Written(msgspec.Struct, frozen=True):
    """What an outbox holds of one event.

    Attributes:
        entry: in the stream.
        subject: id of what it happened to.
        event: what did.
        notice: of the prediction, packed; empty where it was none.
        sequence: of the last chunk there was, where the event is an output; of logs, when.
    """

    entry: bytes
    subject: str
    event: str
    notice: bytes
    sequence: str = ""


async def batch_ended(redis: Commands, keys: Keys, batch: str, end: BatchEnd) -> None:
    """Have the endpoints told that a batch has ended. Repeat it if in doubt: they hear it once.

    Args:
        redis: any client.
        keys: key builder.
        batch: its id, as clients know it.
        end: how.

    Raises:
        redis.exceptions.RedisError: Redis is out of reach; it may have been written.
    """
    outbox = webhook_keys(keys).outbox
    await redis.execute_command("XADD", outbox, "*", "p", batch, "e", end.value, "n", "")
    await redis.execute_command("PUBLISH", outbox, "")


async def written(redis: Commands, outbox: str, *, most: int) -> list[Written]:
    """The oldest events in an outbox.

    Raises:
        redis.exceptions.RedisError: Redis is out of reach.
    """
    found: list[Written] = []
    for entry, flat in await redis.execute_command("XRANGE", outbox, "-", "+", "COUNT", most):
        fields = dict(zip(flat[::2], flat[1::2], strict=True))
        found.append(
            Written(
                entry,
                fields[b"p"].decode(),
                fields[b"e"].decode(),
                fields[b"n"],
                fields.get(b"s", b"").decode(),
            )
        )
    return found


async def moved(redis: Commands, outbox: str, entries: Sequence[bytes]) -> None:
    """Delete what has been moved on.

    Raises:
        redis.exceptions.RedisError: Redis is out of reach.
    """
    if entries:
        await redis.execute_command("XDEL", outbox, *entries)
