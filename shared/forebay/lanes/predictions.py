"""Read predictions back from their records."""

from collections.abc import Sequence
from typing import cast

import msgspec
from redis.exceptions import ResponseError

from forebay.contract.errors import ErrorInfo, ErrorKind
from forebay.contract.hits import Hits, decode_hits
from forebay.contract.messages import Reply, decode_outputs, decode_reply
from forebay.contract.prediction import (
    Lane,
    Prediction,
    PredictionId,
    Status,
    Timing,
    added_up,
)
from forebay.contract.rows import Output
from forebay.lanes import scripts
from forebay.lanes.coalescer import MAX_CALL_ITEMS
from forebay.lanes.depth import depth
from forebay.lanes.keys import GROUP, Keys, LaneKeys
from forebay.runtime.redis import Commands


class Record(msgspec.Struct, frozen=True):
    """What a record says so far.

    Attributes:
        status: as recorded; `starting` also while a worker has it.
        parts: number of parts.
        replies: those of settled parts, in order of part, or the one that ended the prediction.
        entries: lane entry of each part.
        rows: of all parts.
        entered: rows that had ever entered the lane, its own included.
        retry_of: the prediction whose dead letter was replayed as this one.
        leader: the prediction that this one has joined; lane, entries, rows and replies are that
            one's.
        hits: what the response cache has answered of its rows; replies are of the others.
        logs: what its code has said of it.
    """

    status: Status
    lane: Lane
    parts: int
    created_at_ms: int
    deadline_at_ms: int
    completed_at_ms: int | None
    replies: tuple[Reply, ...]
    entries: tuple[str, ...]
    rows: int
    entered: int
    input: bytes | None
    retry_of: str | None = None
    leader: str | None = None
    hits: Hits | None = None
    logs: str = ""


class Records:
    """Reads records.

    Args:
        redis: client whose commands are not retried.
        keys: key builder.
    """

    def __init__(self, redis: Commands, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys

    async def record(self, id_: PredictionId) -> Record | None:
        """A prediction's record, or None where there is none (any more).

        Raises:
            msgspec.MsgspecError: it is damaged.
            UnknownWireVersionError: another release wrote it.
            redis.exceptions.RedisError: Redis is out of reach.
        """
        keys = self._keys.of_prediction(id_)
        fields = await self._fields(keys.record(id_.text))
        if not fields:
            return None
        leader = fields.get(b"of")
        if leader is None:
            return _parse(fields)
        return _joined(fields, await self._fields(keys.record(leader.decode())))

    async def _fields(self, key: str) -> dict[bytes, bytes]:
        flat = cast(
            list[bytes] | dict[bytes, bytes],
            await self._redis.execute_command("HGETALL", key),
        )
        return dict(flat) if isinstance(flat, dict) else dict(_pairs(flat))

    async def prediction(self, id_: PredictionId) -> Prediction | None:
        """A prediction as its client sees it, or None where there is none (any more).

        Raises:
            redis.exceptions.RedisError: Redis is out of reach.
        """
        record = await self.record(id_)
        if record is None:
            return None
        status, place = record.status, None
        if status is Status.STARTING:
            keys = self._keys.of_prediction(id_)
            if await self._leased(keys, record):
                status = Status.PROCESSING
            else:
                demand = await depth(self._redis, keys, now_ms=0)
                place = demand.place(record.lane, entered=record.entered, rows=record.rows)
        failure = next((r for r in record.replies if r.status is not Status.SUCCEEDED), None)
        outputs: tuple[Output, ...] = ()
        if status is Status.SUCCEEDED:
            outputs = await self.outputs(record.replies)
            if record.hits is not None:
                outputs = record.hits.merged(outputs)
        error = failure.error if failure else None
        if error is not None and record.hits is not None:
            error = record.hits.placed(error)
        started = [r.started_at_ms for r in record.replies if r.started_at_ms is not None]
        return Prediction(
            id=id_.text,
            model=id_.model,
            status=status,
            created_at_ms=record.created_at_ms,
            deadline_at_ms=record.deadline_at_ms,
            version=next((r.version for r in record.replies if r.version), None),
            started_at_ms=min(started, default=None),
            completed_at_ms=record.completed_at_ms,
            input=msgspec.json.decode(record.input) if record.input else None,
            outputs=outputs,
            error=error,
            timing=combined_timing(record.replies),
            place=place,
            retry_of=record.retry_of,
            steps=added_up([step for reply in record.replies for step in reply.steps]),
            logs=record.logs,
        )

    async def logs(self, id_: PredictionId) -> str:
        """What the code that ran a prediction has said of it; empty where there is no record.

        Raises:
            redis.exceptions.RedisError: Redis is out of reach.
        """
        keys = self._keys.of_prediction(id_)
        own, leader = await self._redis.execute_command("HMGET", keys.record(id_.text), "lg", "of")
        if leader is not None:
            record = keys.record(leader.decode())
            own = await self._redis.execute_command("HGET", record, "lg")
        return _text(own)

    async def forget(self, id_: PredictionId) -> None:
        """Delete a prediction that has ended. Safe to repeat.

        Raises:
            redis.exceptions.RedisError: Redis is out of reach.
        """
        keys = self._keys.of_prediction(id_)
        record = await self.record(id_)
        if record is None:
            return
        own = record.replies if record.leader is None else ()
        beside = [reply.spilled for reply in own if reply.spilled is not None]
        await scripts.forget(self._redis, keys.record(id_.text), [keys.events(id_.text), *beside])

    async def discard(self, ids: Sequence[PredictionId]) -> None:
        """Delete many predictions that have ended; others stay. Safe to repeat.

        Raises:
            redis.exceptions.RedisError: Redis is out of reach.
        """
        shards: dict[LaneKeys, list[str]] = {}
        for id_ in ids:
            shards.setdefault(self._keys.of_prediction(id_), []).append(id_.text)
        for keys, texts in shards.items():
            for at in range(0, len(texts), MAX_CALL_ITEMS):
                await scripts.discard(self._redis, keys, texts[at : at + MAX_CALL_ITEMS])

    async def outputs(self, replies: Sequence[Reply]) -> tuple[Output, ...]:
        """Outputs of all parts in order, those kept beside the record fetched.

        Raises:
            LookupError: outputs beside the record are gone.
            redis.exceptions.RedisError: Redis is out of reach.
        """
        outputs: list[Output] = []
        for reply in sorted(replies, key=lambda reply: reply.part):
            if reply.spilled is None:
                outputs += reply.outputs
                continue
            data = cast(bytes | None, await self._redis.execute_command("GET", reply.spilled))
            if data is None:
                raise LookupError(f"outputs of {reply.prediction} part {reply.part} are gone")
            outputs += decode_outputs(data)
        return tuple(outputs)

    async def _leased(self, keys: LaneKeys, record: Record) -> bool:
        for entry in record.entries:
            try:
                pending = await self._redis.execute_command(
                    "XPENDING", keys.stream(record.lane, entry.encode()), GROUP, entry, entry, 1
                )
            except ResponseError:
                return False  # no worker has ever come: there is no group yet
            if pending:
                return True
        return False


def combined_timing(replies: Sequence[Reply]) -> Timing | None:
    """Timing of a prediction whose parts ran side by side: the longest of each."""
    timings = [reply.timing for reply in replies if reply.timing is not None]
    if not timings:
        return None
    return Timing(
        queue_ms=max(t.queue_ms for t in timings),
        batch_ms=max(t.batch_ms for t in timings),
        compute_ms=max(t.compute_ms for t in timings),
    )


def missing_reply(id_: PredictionId, at_ms: int) -> Reply:
    """What a waiter is told whose record has disappeared."""
    return _failed(id_, at_ms, "The prediction's record is gone from Redis. Send it again.")


def unreadable_reply(id_: PredictionId, at_ms: int) -> Reply:
    """What a waiter is told whose record is damaged, or written by another release."""
    return _failed(id_, at_ms, "The prediction's record can't be read. Send it again.")


def _failed(id_: PredictionId, at_ms: int, message: str) -> Reply:
    return Reply(
        prediction=id_.text,
        status=Status.FAILED,
        completed_at_ms=at_ms,
        error=ErrorInfo(ErrorKind.INTERNAL, message),
    )


def _pairs(flat: Sequence[bytes]) -> list[tuple[bytes, bytes]]:
    return list(zip(flat[::2], flat[1::2], strict=True))


def _parse(fields: dict[bytes, bytes]) -> Record:
    entries = [pair.split(":") for pair in fields[b"en"].decode().split()]
    return Record(
        status=Status(fields[b"st"].decode()),
        lane=Lane(fields[b"ln"].decode()),
        parts=int(fields[b"n"]),
        created_at_ms=int(fields[b"ct"]),
        deadline_at_ms=int(fields[b"dl"]),
        completed_at_ms=int(fields[b"ft"]) if b"ft" in fields else None,
        replies=(decode_reply(fields[b"er"]),) if b"er" in fields else _settled(fields),
        entries=tuple(entry for entry, _ in entries),
        rows=sum(int(rows) for _, rows in entries),
        entered=int(fields.get(b"sq", 0)),
        input=fields.get(b"in"),
        retry_of=fields[b"rt"].decode() if b"rt" in fields else None,
        hits=decode_hits(fields[b"hi"]) if b"hi" in fields else None,
        logs=_text(fields.get(b"lg")),
    )


def _text(logs: bytes | None) -> str:
    return "" if logs is None else logs.decode(errors="replace")


def _joined(fields: dict[bytes, bytes], leader: dict[bytes, bytes]) -> Record | None:
    """The record of a prediction that has joined another; None if that one's is gone too soon."""
    own = _parse(fields)
    name = fields[b"of"].decode()
    if b"er" in fields:
        return msgspec.structs.replace(own, leader=name)
    if not leader:
        return None
    told = _parse(leader)
    return msgspec.structs.replace(
        own,
        leader=name,
        lane=told.lane,
        replies=_settled(leader) if own.status.terminal else (),
        entries=told.entries,
        rows=told.rows,
        entered=told.entered,
        logs=told.logs,
    )


def _settled(fields: dict[bytes, bytes]) -> tuple[Reply, ...]:
    """Replies of settled parts, in order."""
    replies = (fields.get(b"o%d" % part) for part in range(int(fields[b"n"])))
    return tuple(decode_reply(data) for data in replies if data is not None)
