"""The sender of logs, on the real server: what waits, what is bounded, what an outage costs."""

from collections.abc import Sequence
from typing import Any

import pytest
from redis.exceptions import ConnectionError as NoConnectionError

from forebay.contract.prediction import PredictionId
from forebay.inference.assembly import Assembly
from forebay.inference.log_sender import LogSender
from forebay.lanes.consumer import Delivery
from forebay.lanes.logs import MAX_LINE
from forebay.lanes.predictions import Records
from forebay.lanes.scripts import LOGS_CUT, MAX_LOGS_BYTES
from forebay.runtime.redis import Commands
from tests.fixtures.lanes import enqueue, join, read, submission
from tests.fixtures.servers import LaneServer


class Away(Commands):
    """A server that is away until it is said to be there."""

    def __init__(self, redis: Commands) -> None:
        self._redis = redis
        self.there = False
        self.calls = 0

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        self.calls += 1
        if not self.there:
            raise NoConnectionError("away")
        return await self._redis.execute_command(*args, **options)


async def held(lanes: LaneServer, number: int) -> list[Assembly]:
    await enqueue(lanes, *(submission() for _ in range(number)))
    deliveries: Sequence[Delivery] = await read(await join(lanes), number)
    return [Assembly(one, one.computation) for one in deliveries if one.computation is not None]


async def logs_of(lanes: LaneServer, assembly: Assembly) -> str:
    id_ = PredictionId.parse(assembly.delivery.prediction)
    return await Records(lanes.redis, lanes.keys).logs(id_)


async def test_lines_outlast_an_outage_in_their_order(real_lanes: LaneServer) -> None:
    first, second = await held(real_lanes, 2)
    redis = Away(real_lanes.redis)
    sender = LogSender(redis, real_lanes.echo)
    sender.take(first, "a")
    for line in ("b", "c"):
        with pytest.raises(NoConnectionError):
            await sender.send()
        sender.take(first, line)
    sender.take(second, "größer \ud800")
    redis.there = True
    await sender.send()
    assert await logs_of(real_lanes, first) == "a\nb\nc\n"
    assert await logs_of(real_lanes, second) == "größer ?\n"
    calls = redis.calls
    await sender.send()
    assert redis.calls == calls


async def test_what_waits_is_bounded_and_the_record_says_what_is_gone(
    real_lanes: LaneServer,
) -> None:
    (mine,) = await held(real_lanes, 1)
    sender = LogSender(real_lanes.redis, real_lanes.echo)
    sender.take(mine, "the first")
    for number in range(20):
        sender.take(mine, f"{number:02} {'x' * MAX_LINE}")
    await sender.send()
    logs = await logs_of(real_lanes, mine)
    assert logs.startswith(LOGS_CUT)
    assert len(logs) <= MAX_LOGS_BYTES
    kept = logs.removeprefix(LOGS_CUT).splitlines()
    assert [line[:2] for line in kept] == [f"{number:02}" for number in range(20)][-len(kept) :]
    assert all(len(line) == MAX_LINE and line.endswith("…") for line in kept)


async def test_what_has_ended_says_nothing_more(real_lanes: LaneServer) -> None:
    (mine,) = await held(real_lanes, 1)
    sender = LogSender(real_lanes.redis, real_lanes.echo)
    mine.settled = True
    sender.take(mine, "after")
    await sender.send()
    assert (mine.logged, await logs_of(real_lanes, mine)) == (False, "")
