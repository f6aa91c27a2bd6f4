"""The Lua scripts, one atomic operation each, and a typed stub for every one."""

from collections.abc import Mapping, Sequence
from enum import IntEnum
from typing import NamedTuple, cast

from forebay.contract.prediction import Lane
from forebay.lanes.keys import GROUP, LANE_ENDS, LaneKeys
from forebay.runtime.redis import Arg, Commands, Script


class EnqueueOutcome(IntEnum):
    """What became of a submission."""

    UNTOLD = 4
    JOINED = 3
    LETTER_GONE = 2
    ENQUEUED = 1
    KNOWN = 0
    FULL = -1


class Enqueued(NamedTuple):
    """What became of a submission, and when its lane has room if it was full.

    Attributes:
        outcome: what became of it.
        room_in_ms: when full, after how long the same would fit; None if nobody can tell.
    """

    outcome: EnqueueOutcome
    room_in_ms: int | None = None


class SettleOutcome(IntEnum):
    """What became of a result."""

    AGAIN = 3
    ENDED = 2
    RECORDED = 1
    LATE = 0
    STALE = -1
    GONE = -2


class TellOutcome(IntEnum):
    """What became of chunks, and of logs."""

    UNREAD = 2
    TOLD = 1
    ENDED = 0
    STALE = -1
    GONE = -2


class FinishOutcome(IntEnum):
    """What became of a finish."""

    ENDED = 1
    LATE = 0
    GONE = -2


MAX_JOINED = 128
"""Predictions that join one under way. They end in one script call, and more would hold it up."""

MAX_EVENTS = 16_384
"""Chunks of a prediction that are kept, about; a client can come back for those."""

MAX_WRITTEN = 100_000
"""Events in an outbox from which on nothing is accepted of which somebody is to be told: 30 MB.
What is under way already is noted all the same, so that nothing is lost."""

MAX_LOGS_BYTES = 65_536
"""Of one prediction's logs. Whoever reads the record reads them too."""

LOGS_CUT = "(earlier lines are gone: logs hold 64 kB)\n"
"""First line of logs of which some are gone."""

READ_BYTES = 1_048_576
"""Payload after which a worker reads no more in one go."""

RawEntry = tuple[bytes, list[bytes]]
RawLetter = tuple[bytes, int, list[bytes]]
"""Entry, bytes, and the fields that tell of it."""

_enqueue = Script(__name__, "enqueue", adds=True, before=("outbox", "waiting"), ends=LANE_ENDS)
_read = Script(__name__, "read", before=("waiting",), ends=LANE_ENDS)
_settle = Script(__name__, "settle", before=("outbox", "replies", "waiting"), ends=LANE_ENDS)
_finish = Script(__name__, "finish", before=("outbox", "waiting"), ends=LANE_ENDS)
_renew = Script(__name__, "renew")
_reclaim = Script(__name__, "reclaim", before=("outbox", "logs"))
_beat = Script(__name__, "beat")
_leave = Script(__name__, "leave")
_tidy = Script(__name__, "tidy")
_sketch = Script(__name__, "sketch")
_letters = Script(__name__, "letters")
_unclaim = Script(__name__, "unclaim")
_traffic = Script(__name__, "traffic")
_copied = Script(__name__, "copied", adds=True)
_tell = Script(__name__, "tell", before=("outbox", "replies"))
_log = Script(__name__, "log", before=("outbox", "logs"))
_follow = Script(__name__, "follow")
_forget = Script(__name__, "forget")
_attend = Script(__name__, "attend")
_discard = Script(__name__, "discard")
_unlist = Script(__name__, "unlist")


def _lanes(keys: LaneKeys) -> list[str]:
    return [keys.lane(Lane.REALTIME), keys.lane(Lane.BULK)]


async def enqueue(
    redis: Commands,
    keys: LaneKeys,
    *,
    records: Sequence[str],
    bounds: tuple[int, int],
    elastic: bool = False,
    retry_of: str = "",
    letters: Sequence[bytes] = (),
    wake: str = "",
    hits: Sequence[Arg] = (),
    notices: Sequence[Arg] = (),
    args: Sequence[Arg],
) -> list[Enqueued]:
    """`enqueue.lua`.

    Args:
        redis: where.
        keys: of the model's shard.
        records: of the predictions.
        bounds: most rows in realtime, and in bulk.
        elastic: whether realtime takes more if that is worked off before the deadline.
        retry_of: the dead prediction that is replayed as the only one of these.
        letters: its dead letters' entries.
        wake: channel on which to say that no worker is present; empty if nobody starts one.
        hits: (id, what the response cache has answered), flat, of those that it has for.
        notices: (id, notice), flat, of those that somebody is to be told of.
        args: the packed predictions, in the order of `records`.
    """
    reply = await _enqueue.call(
        redis,
        [
            *_lanes(keys),
            keys.deadlines,
            keys.demand,
            keys.dead,
            keys.leaders,
            keys.counters,
            keys.predictions,
            keys.outbox,
            *records,
        ],
        [
            *bounds,
            int(elastic),
            retry_of,
            b" ".join(letters),
            GROUP,
            keys.records,
            keys.joined,
            MAX_JOINED,
            wake,
            MAX_WRITTEN,
            keys.endings,
            len(hits) // 2,
            *hits,
            len(notices) // 2,
            *notices,
            *args,
        ],
    )
    return [
        Enqueued(EnqueueOutcome(max(code, -1)), -code if code < -1 else None)
        for code in cast(list[int], reply)
    ]


async def read(
    redis: Commands, keys: LaneKeys, *, lane: Lane, worker: str, rows: int
) -> list[RawEntry]:
    """`read.lua`: entries, without blocking; for no rows, those that went ahead."""
    reply = await _read.call(
        redis,
        [keys.lane(lane), keys.demand, keys.ahead(lane)],
        [GROUP, worker, rows, lane.value, READ_BYTES, keys.records],
    )
    return cast(list[RawEntry], reply)


async def settle(
    redis: Commands,
    keys: LaneKeys,
    *,
    pairs: Sequence[str],
    dead_max: int,
    dead_max_bytes: int,
    ready_rows: int,
    args: Sequence[Arg],
    cached: Sequence[Arg] = (),
) -> list[SettleOutcome]:
    """`settle.lua`.

    Args:
        redis: where.
        keys: of the model's shard.
        pairs: (record, spilled outputs) keys, flat.
        dead_max: most dead letters of the shard.
        dead_max_bytes: most bytes of them all, of which one takes a quarter at most.
        ready_rows: that are to be ready for one worker.
        args: the packed settlements, in the order of `pairs`.
        cached: what is to be kept in the response cache, packed; none if nothing is.
    """
    reply = await _settle.call(
        redis,
        [
            *_lanes(keys),
            keys.deadlines,
            keys.demand,
            keys.counters,
            keys.dead,
            keys.leaders,
            keys.outbox,
            *pairs,
        ],
        [
            GROUP,
            dead_max,
            keys.endings,
            dead_max_bytes,
            keys.parts,
            keys.records,
            keys.joined,
            ready_rows,
            *args,
            *cached,
        ],
    )
    return [SettleOutcome(code) for code in cast(list[int], reply)]


async def finish(
    redis: Commands, keys: LaneKeys, *, records: Sequence[str], args: Sequence[Arg]
) -> list[FinishOutcome]:
    """`finish.lua`; `args` are id, status and reply of each prediction, flat."""
    reply = await _finish.call(
        redis,
        [
            *_lanes(keys),
            keys.deadlines,
            keys.demand,
            keys.counters,
            keys.leaders,
            keys.outbox,
            *records,
        ],
        [GROUP, keys.endings, keys.parts, keys.records, keys.joined, *args],
    )
    return [FinishOutcome(code) for code in cast(list[int], reply)]


async def renew(
    redis: Commands,
    *,
    stream: str,
    worker: str,
    idle_ms: int,
    entries: Sequence[bytes],
) -> list[bytes]:
    """`renew.lua`: returns the entries that are no longer the worker's."""
    reply = await _renew.call(redis, [stream], [GROUP, worker, idle_ms, *entries])
    return cast(list[bytes], reply)


async def reclaim(
    redis: Commands,
    keys: LaneKeys,
    *,
    lane: Lane,
    stream: str,
    worker: str,
    rows: int,
    lapse_ms: int,
    released_ms: int,
    judge: bool,
    ended: Sequence[str],
) -> list[tuple[bytes, int, int, list[bytes]]]:
    """`reclaim.lua`: entries taken over, each with its new attempt number and its strikes.

    `stream` is the lane's, or that of what went ahead on it.
    """
    reply = await _reclaim.call(
        redis,
        [stream, keys.demand, keys.workers, keys.running, keys.outbox],
        [
            GROUP,
            worker,
            rows,
            lane.value,
            lapse_ms,
            int(judge),
            keys.records,
            released_ms,
            MAX_LOGS_BYTES,
            LOGS_CUT,
            *ended,
        ],
    )
    return cast(list[tuple[bytes, int, int, list[bytes]]], reply)


async def beat(
    redis: Commands,
    keys: LaneKeys,
    *,
    worker: str,
    presence_ms: int,
    rate: float,
    ready_rows: int,
) -> int:
    """`beat.lua`: returns the server's Unix time in microseconds."""
    return int(
        await _beat.call(
            redis,
            [keys.workers, keys.rates, keys.demand],
            [worker, presence_ms, f"{rate:.3f}", ready_rows],
        )
    )


async def sketch(redis: Commands, *, key: str, keep_ms: int, counts: Mapping[str, int]) -> None:
    """`sketch.lua`."""
    flat = [part for count in counts.items() for part in count]
    await _sketch.call(redis, [key], [keep_ms, *flat])


async def leave(redis: Commands, keys: LaneKeys, *, worker: str) -> None:
    """`leave.lua`."""
    await _leave.call(
        redis,
        [
            *_lanes(keys),
            keys.workers,
            keys.running,
            keys.rates,
            keys.demand,
            *map(keys.ahead, Lane),
        ],
        [GROUP, worker],
    )


async def tidy(
    redis: Commands, keys: LaneKeys, *, stream: str, grace_ms: int, idle_ms: int
) -> tuple[int, int]:
    """`tidy.lua`: (leases released, consumers removed)."""
    others = [other for other in keys.streams if other != stream]
    reply = await _tidy.call(
        redis,
        [stream, keys.workers, keys.absences, keys.running, keys.rates, *others],
        [GROUP, grace_ms, idle_ms],
    )
    return reply[0], reply[1]


async def unclaim(redis: Commands, key: str, claim: str) -> None:
    """`unclaim.lua`."""
    await _unclaim.call(redis, [key], [claim])


async def traffic(
    redis: Commands, keys: LaneKeys, *, last: str, most: int, fields: Sequence[Arg]
) -> str | None:
    """`traffic.lua`: the entry of the change; None if another has come after `last`."""
    reply = await _traffic.call(redis, [keys.traffic], [last, most, *fields])
    return None if reply is None else cast(bytes, reply).decode()


async def copied(
    redis: Commands,
    keys: LaneKeys,
    *,
    most: int,
    counters: Mapping[str, int],
    copies: Sequence[str] = (),
    of: str = "",
    sum_: float = 0.0,
    largest: float = 0.0,
) -> None:
    """`copied.lua`.

    Args:
        redis: where.
        keys: of a shadow.
        most: copies that wait to be compared.
        counters: by how much each grows.
        copies: that are to wait.
        of: version of the shadow's artifact that was compared.
        sum_: of the differences of its rows.
        largest: of them.
    """
    flat = [arg for pair in counters.items() for arg in pair]
    args: list[Arg] = [most, of, f"{sum_:.9g}", f"{largest:.9g}", len(counters), *flat, *copies]
    await _copied.call(redis, [keys.copies, keys.disagreement], args)


async def letters(
    redis: Commands, keys: LaneKeys, *, begin: str, most: int, prediction: str
) -> tuple[str, list[RawLetter]]:
    """`letters.lua`: where to go on, empty after the last page; and the letters of this one."""
    reply = await _letters.call(redis, [keys.dead], [begin, most, prediction])
    return cast(bytes, reply[0]).decode(), cast(list[RawLetter], reply[1:])


async def tell(
    redis: Commands,
    keys: LaneKeys,
    *,
    pairs: Sequence[str],
    run_ms: int,
    args: Sequence[Arg],
) -> list[TellOutcome]:
    """`tell.lua`.

    Args:
        redis: where.
        keys: of the model's shard.
        pairs: (record, events) keys, flat.
        run_ms: how long a prediction may run.
        args: the packed chunks, in the order of `pairs`.
    """
    reply = await _tell.call(
        redis, [keys.deadlines, keys.outbox, *pairs], [MAX_EVENTS, run_ms, *args]
    )
    return [TellOutcome(code) for code in cast(list[int], reply)]


async def log(
    redis: Commands,
    keys: LaneKeys,
    *,
    records: Sequence[str],
    args: Sequence[Arg],
) -> list[TellOutcome]:
    """`log.lua`.

    Args:
        redis: where.
        keys: of the model's shard.
        records: of the predictions.
        args: the packed lines, in the order of `records`.
    """
    reply = await _log.call(redis, [keys.outbox, *records], [MAX_LOGS_BYTES, LOGS_CUT, *args])
    return [TellOutcome(code) for code in cast(list[int], reply)]


async def follow(redis: Commands, record: str, channel: str) -> tuple[bytes, int] | None:
    """`follow.lua`: status and number of parts; None if there is no such record."""
    reply = await _follow.call(redis, [record], [channel])
    return None if reply is None else (cast(bytes, reply[0]), int(reply[1]))


async def forget(redis: Commands, record: str, beside: Sequence[str]) -> bool:
    """`forget.lua`: whether the prediction had ended, or was not there.

    Args:
        redis: client whose commands are not retried.
        record: of the prediction.
        beside: what else there is of it.
    """
    return bool(await _forget.call(redis, [record, *beside], []))


async def discard(redis: Commands, keys: LaneKeys, predictions: Sequence[str]) -> int:
    """`discard.lua`: how many have not ended, and stay.

    Args:
        redis: client whose commands are not retried.
        keys: of the shard.
        predictions: their ids, all of the shard.
    """
    args = [
        key
        for prediction in predictions
        for key in (keys.events(prediction), keys.outputs_of(prediction))
    ]
    return cast(int, await _discard.call(redis, list(map(keys.record, predictions)), args))


async def attend(redis: Commands, records: Sequence[str], *, lease_ms: int) -> None:
    """`attend.lua`: the readers of these are there for so long from now on."""
    await _attend.call(redis, records, [lease_ms])


async def unlist(redis: Commands, keys: LaneKeys, *, after: str, most: int) -> tuple[int, str]:
    """`unlist.lua`: how many were taken off, and where to go on; empty where nothing follows."""
    reply = await _unlist.call(redis, [keys.predictions], [keys.records, after, most])
    return int(reply[0]), cast(bytes, reply[1]).decode()
