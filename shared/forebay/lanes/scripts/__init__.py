"""The Lua scripts, one atomic operation each, and a typed stub for every one.

Scripts run by EVALSHA and are loaded on the first NOSCRIPT, which Redis answers before anything
has run, so repeating the call is safe: after a restart or failover nothing needs deploying.
"""

import hashlib
from collections.abc import Sequence
from enum import IntEnum
from importlib import resources
from typing import Any, cast

from redis.exceptions import NoScriptError

from forebay.contract.prediction import Lane
from forebay.lanes.keys import GROUP, LaneKeys
from forebay.runtime.redis import Commands

Arg = str | bytes | int


class Script:
    """A Lua script and its SHA-1.

    Args:
        name: file name without `.lua`.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.source = (resources.files(__name__) / f"{name}.lua").read_text("utf-8")
        self.sha = hashlib.sha1(self.source.encode(), usedforsecurity=False).hexdigest()

    async def call(self, redis: Commands, keys: Sequence[str], args: Sequence[Arg]) -> Any:
        """Run it; returns the raw reply.

        Raises:
            redis.exceptions.RedisError: whatever the server or the connection raised.
        """
        try:
            return await redis.execute_command("EVALSHA", self.sha, len(keys), *keys, *args)
        except NoScriptError:
            return await redis.execute_command("EVAL", self.source, len(keys), *keys, *args)


class EnqueueOutcome(IntEnum):
    """What became of a submission."""

    ENQUEUED = 1
    KNOWN = 0
    FULL = -1


class SettleOutcome(IntEnum):
    """What became of a result."""

    ENDED = 2
    RECORDED = 1
    LATE = 0
    STALE = -1
    GONE = -2


class FinishOutcome(IntEnum):
    """What became of a finish."""

    ENDED = 1
    LATE = 0
    GONE = -2


RawEntry = tuple[bytes, list[bytes]]

_enqueue = Script("enqueue")
_read = Script("read")
_settle = Script("settle")
_finish = Script("finish")
_renew = Script("renew")
_reclaim = Script("reclaim")
_beat = Script("beat")
_leave = Script("leave")
_tidy = Script("tidy")


def _lanes(keys: LaneKeys) -> list[str]:
    return [keys.lane(Lane.REALTIME), keys.lane(Lane.BULK)]


async def enqueue(
    redis: Commands,
    keys: LaneKeys,
    *,
    records: Sequence[str],
    bounds: tuple[int, int],
    args: Sequence[Arg],
) -> list[EnqueueOutcome]:
    """`enqueue.lua`; `args` are the packed predictions, in the order of `records`."""
    reply = await _enqueue.call(
        redis, [*_lanes(keys), keys.deadlines, keys.demand, *records], [*bounds, *args]
    )
    return [EnqueueOutcome(code) for code in cast(list[int], reply)]


async def read(
    redis: Commands, keys: LaneKeys, *, lane: Lane, worker: str, rows: int
) -> list[RawEntry]:
    """`read.lua`: entries, without blocking."""
    reply = await _read.call(
        redis, [keys.lane(lane), keys.demand], [GROUP, worker, rows, lane.value]
    )
    return cast(list[RawEntry], reply)


async def settle(
    redis: Commands, keys: LaneKeys, *, pairs: Sequence[str], dead_max: int, args: Sequence[Arg]
) -> list[SettleOutcome]:
    """`settle.lua`; `pairs` are (record, spilled outputs) keys, flat."""
    reply = await _settle.call(
        redis,
        [*_lanes(keys), keys.deadlines, keys.demand, keys.counters, keys.dead, *pairs],
        [GROUP, dead_max, keys.endings, *args],
    )
    return [SettleOutcome(code) for code in cast(list[int], reply)]


async def finish(
    redis: Commands, keys: LaneKeys, *, records: Sequence[str], args: Sequence[Arg]
) -> list[FinishOutcome]:
    """`finish.lua`; `args` are id, status and reply of each prediction, flat."""
    reply = await _finish.call(
        redis,
        [*_lanes(keys), keys.deadlines, keys.demand, keys.counters, *records],
        [GROUP, keys.endings, *args],
    )
    return [FinishOutcome(code) for code in cast(list[int], reply)]


async def renew(
    redis: Commands,
    keys: LaneKeys,
    *,
    lane: Lane,
    worker: str,
    idle_ms: int,
    entries: Sequence[bytes],
) -> list[bytes]:
    """`renew.lua`: returns the entries that are no longer the worker's."""
    reply = await _renew.call(redis, [keys.lane(lane)], [GROUP, worker, idle_ms, *entries])
    return cast(list[bytes], reply)


async def reclaim(
    redis: Commands,
    keys: LaneKeys,
    *,
    lane: Lane,
    worker: str,
    rows: int,
    lapse_ms: int,
    judge: bool,
    ended: Sequence[str],
) -> list[tuple[bytes, int, int, list[bytes]]]:
    """`reclaim.lua`: entries taken over, each with its new attempt number and its strikes."""
    reply = await _reclaim.call(
        redis,
        [keys.lane(lane), keys.demand, keys.workers, keys.running],
        [GROUP, worker, rows, lane.value, lapse_ms, int(judge), keys.records, *ended],
    )
    return cast(list[tuple[bytes, int, int, list[bytes]]], reply)


async def beat(redis: Commands, keys: LaneKeys, *, worker: str, presence_ms: int) -> int:
    """`beat.lua`: returns the server's Unix time in microseconds."""
    return int(await _beat.call(redis, [keys.workers], [worker, presence_ms]))


async def leave(redis: Commands, keys: LaneKeys, *, worker: str) -> None:
    """`leave.lua`."""
    await _leave.call(redis, [*_lanes(keys), keys.workers, keys.running], [GROUP, worker])


async def tidy(
    redis: Commands, keys: LaneKeys, *, lane: Lane, grace_ms: int, idle_ms: int
) -> tuple[int, int]:
    """`tidy.lua`: (leases released, consumers removed)."""
    (other,) = (one for one in Lane if one is not lane)
    reply = await _tidy.call(
        redis,
        [keys.lane(lane), keys.workers, keys.absences, keys.running, keys.lane(other)],
        [GROUP, grace_ms, idle_ms],
    )
    return reply[0], reply[1]
