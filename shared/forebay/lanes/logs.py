"""What the code that runs a prediction says of it: in its record, for its client to read."""

from collections.abc import Sequence
from typing import Final

import msgspec

from forebay.lanes import scripts
from forebay.lanes.consumer import Delivery
from forebay.lanes.keys import LaneKeys
from forebay.lanes.scripts import TellOutcome
from forebay.runtime.redis import Arg, Commands

MAX_LINE: Final = 8_192
"""Characters of a line; it is cut after so many. Logs are cut between lines, and have many."""


class Said(msgspec.Struct, frozen=True):
    """Lines of one prediction.

    Attributes:
        delivery: whose lease allows it.
        lines: in UTF-8, each of `MAX_LINE` characters at most, and with its end.
    """

    delivery: Delivery
    lines: bytes


async def log(redis: Commands, keys: LaneKeys, said: Sequence[Said]) -> list[TellOutcome]:
    """Add lines to the logs of many predictions in one call. What is repeated is there twice.

    Args:
        redis: client whose commands are not retried.
        keys: of the model's shard.
        said: of each delivery at most once.

    Returns:
        For each whether it was added, or why not.

    Raises:
        redis.exceptions.RedisError: Redis is out of reach.
    """
    records = [keys.record(one.delivery.prediction) for one in said]
    args: list[Arg] = []
    for one in said:
        delivery = one.delivery
        args += (delivery.prediction, delivery.part, delivery.attempt, one.lines)
    return await scripts.log(redis, keys, records=records, args=args)
