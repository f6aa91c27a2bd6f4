"""Dead letters as operators handle them: told, opened, replayed, dropped (decision 0016)."""

import functools
import re
from collections.abc import Iterable, Sequence
from typing import Final, cast

import msgspec
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as AnswerTimeoutError

from forebay.contract.errors import ForebayError, LaneFull, NotFound, Unavailable
from forebay.contract.messages import Computation, decode_computation, encode
from forebay.contract.messages import UnknownWireVersionError as UnknownWireVersion
from forebay.contract.model import ModelSpec
from forebay.contract.prediction import Lane, PredictionId
from forebay.lanes import scripts
from forebay.lanes.keys import Keys, LaneKeys
from forebay.lanes.lane import (
    ELASTIC_ROWS,
    FULL_RETRY_S,
    MAX_BULK_ROWS,
    UNAVAILABLE_RETRY_S,
    UNTOLD_RETRY_S,
    Part,
    Submission,
    wake_channel,
)
from forebay.lanes.scripts import EnqueueOutcome, RawLetter
from forebay.runtime.redis import Commands, now_ms

PAGE: Final = 50
"""Letters looked at in one script call, which reads over what they carry."""

MAX_CALL_DROPS: Final = 100
"""Letters dropped by one command."""

OTHER_RELEASE: Final = "release"

_LACKS: Final = {
    "large": "it was too large to be kept whole",
    "gone": "part of it was gone already when it died",
    OTHER_RELEASE: "another release made this letter",
}


class Letter(msgspec.Struct, frozen=True):
    """What is told of a dead letter; what it carries is read by `DeadLetters.open`.

    Attributes:
        entry: in the stream of dead letters.
        prediction: id of the prediction; empty where the letter can't be understood.
        part: which part of it died.
        at_ms: when, Unix time in ms, by the Redis server's clock.
        reason: why it was given up.
        attempts: how many workers had it.
        strikes: how many were lost while they were running it.
        lane: name of the lane it was on.
        history: a line for each strike.
        bytes: size in Redis.
        lacks: why it can't be replayed, in a word; empty where it can.
        joined: predictions that had joined this one, and have failed with it.
    """

    entry: bytes
    prediction: str
    part: int
    at_ms: int
    reason: str
    attempts: int
    strikes: int
    lane: str
    history: tuple[str, ...]
    bytes: int
    lacks: str
    joined: tuple[str, ...] = ()

    @property
    def why_not(self) -> str:
        """Why it can't be replayed, in words; empty where it can."""
        return _LACKS.get(self.lacks, _LACKS[OTHER_RELEASE]) if self.lacks else ""


class Contents(msgspec.Struct, frozen=True):
    """What a dead letter carries.

    Attributes:
        message: the encoded `Computation` that died, if it was not too large.
        parts: all parts of its prediction, in order; none where the letter lacks any.
        input: the input as the client sent it, where that was kept.
        hits: what the response cache had answered of it, as its record had that.
        notice: whom to tell of it, packed; empty if nobody.
    """

    message: bytes | None
    parts: tuple[Part, ...]
    input: bytes
    hits: bytes = b""
    notice: bytes = b""

    def computation(self) -> Computation | None:
        """The computation that died, if it was kept.

        Raises:
            ForebayError: this release can't read it.
        """
        return None if self.message is None else _read(self.message)


class DeadLetters:
    """The dead letters of all models.

    Args:
        redis: client whose commands are not retried.
        keys: key builder.
    """

    def __init__(self, redis: Commands, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys

    async def models(self, catalog: Iterable[str]) -> list[str]:
        """The models of a catalog, and those that were ever swept: theirs outlive it."""
        swept = cast(
            Iterable[bytes], await self._redis.execute_command("SMEMBERS", self._keys.models)
        )
        return sorted({*catalog, *(raw.decode() for raw in swept)})

    async def newest(self, model: str, *, most: int) -> list[Letter]:
        """The newest of a model, newest first."""
        return await self._told(self._keys.of(model), most=most)

    async def every(self, model: str) -> list[Letter]:
        """All of a model, newest first."""
        return await self._told(self._keys.of(model))

    async def of_prediction(self, id_: PredictionId) -> list[Letter]:
        """Those of a prediction, or of the one that it had joined, newest first.

        Raises:
            NotFound: there is none.
        """
        found = await self._told(self._keys.of_prediction(id_), prediction=id_.text)
        if not found:
            raise NotFound(f"There is no dead letter of {id_.text}, or no longer.")
        return found

    async def open(self, id_: PredictionId, letter: Letter) -> Contents:
        """What a letter carries.

        Raises:
            NotFound: it has gone meanwhile.
            ForebayError: it is damaged.
        """
        keys = self._keys.of_prediction(id_)
        found = await self._redis.execute_command("XRANGE", keys.dead, letter.entry, letter.entry)
        if not found:
            raise _gone(id_.text)
        fields = _fields(found[0][1])
        own = fields.get(b"m")
        parts: tuple[Part, ...] = ()
        if own is not None and not letter.lacks:
            try:
                parts = _parts(letter.part, own, fields[b"rows"], fields[b"rest"])
            except (KeyError, ValueError) as error:
                raise ForebayError(f"The dead letter of {id_.text} is damaged: {error}.") from error
        input_, hits, notice = (fields.get(name, b"") for name in (b"in", b"hi", b"no"))
        return Contents(own, parts, input_, hits, notice)

    async def replay(
        self, id_: PredictionId, letters: Sequence[Letter], spec: ModelSpec, *, retain_ms: int
    ) -> PredictionId:
        """Make a new prediction of a dead one, on the lane it was on; its letters go.

        Who was to be told of the dead one is told of the new one.

        Args:
            id_: of the dead one.
            letters: all of its letters, newest first.
            spec: of its model, for the lane's bound and deadline.
            retain_ms: how long the new record is kept once the prediction has ended.

        Returns:
            The new prediction's id.

        Raises:
            LaneFull: nothing was enqueued, and the letters stay.
            NotFound: somebody else has replayed or dropped them meanwhile.
            Unavailable: Redis went away, and it is not known whether it was replayed; or somebody
                is to be told of it, and too many events wait to be told: the letters stay.
            ForebayError: what they carry can't be run (again); the letters stay.
            redis.exceptions.RedisError: Redis is out of reach; nothing was enqueued.
        """
        whole = next((letter for letter in letters if not letter.lacks), None)
        if whole is None:
            raise ForebayError(f"{id_.text} can't be replayed: {letters[0].why_not}.")
        contents = await self.open(id_, whole)
        lane = Lane(whole.lane)
        deadline_s = (spec.realtime if lane is Lane.REALTIME else spec.bulk).deadline_s
        at_ms = await now_ms(self._redis)
        deadline_ms = int(deadline_s * 1000)
        try:
            parts = tuple(
                Part(part.rows, _renewed(part.message, at_ms, at_ms + deadline_ms))
                for part in contents.parts
            )
        except ForebayError as error:
            raise ForebayError(f"{id_.text} can't be replayed: {error.message}") from error
        new = PredictionId.new(id_.model, id_.shard, owner=id_.owner)

        submission = Submission(
            new, lane, parts, at_ms, deadline_ms, retain_ms, input=contents.input
        )
        keys = self._keys.of_prediction(id_)
        call = functools.partial(
            scripts.enqueue,
            self._redis,
            keys,
            records=[keys.record(new.text)],
            bounds=(spec.realtime.max_rows or ELASTIC_ROWS, spec.bulk.max_rows or MAX_BULK_ROWS),
            elastic=spec.realtime.max_rows is None,
            retry_of=id_.text,
            letters=[letter.entry for letter in letters],
            wake=wake_channel(spec, keys),
            hits=(new.text, contents.hits) if contents.hits else (),
            notices=(new.text, contents.notice) if contents.notice else (),
            args=submission.args(),
        )
        try:
            try:
                (enqueued,) = await call()
            except (RedisConnectionError, AnswerTimeoutError):
                # Idempotent by the new id: once more does no harm, and may tell what became of it.
                (enqueued,) = await call()
        except (RedisConnectionError, AnswerTimeoutError, OSError) as error:
            raise Unavailable(
                f"Redis went away while {id_.text} was being replayed as {new.text}. If its dead "
                "letter is still there it was not, and can be replayed.",
                retry_after_s=UNAVAILABLE_RETRY_S,
            ) from error
        if enqueued.outcome is EnqueueOutcome.FULL:
            wait_ms = enqueued.room_in_ms
            raise LaneFull(
                f"{id_.text} was not replayed: the {lane.value} lane of {id_.model!r} has no room "
                f"for {sum(part.rows for part in parts)} more rows. Its dead letter stays; try "
                "again later.",
                retry_after_s=FULL_RETRY_S if wait_ms is None else wait_ms / 1000,
            )
        if enqueued.outcome is EnqueueOutcome.UNTOLD:
            raise Unavailable(
                f"{id_.text} was not replayed: too many events of {id_.model!r} wait to be told to "
                "webhooks. Its dead letter stays. See that a background is running.",
                retry_after_s=UNTOLD_RETRY_S,
            )
        if enqueued.outcome is EnqueueOutcome.LETTER_GONE:
            raise _gone(id_.text)
        return new

    async def drop(self, model: str, letters: Sequence[Letter], *, shard: int = 0) -> int:
        """Drop letters of a model; returns how many were still there."""
        keys = self._keys.of(model, shard)
        dropped = 0
        for first in range(0, len(letters), MAX_CALL_DROPS):
            entries = [letter.entry for letter in letters[first : first + MAX_CALL_DROPS]]
            dropped += int(await self._redis.execute_command("XDEL", keys.dead, *entries))
        return dropped

    async def _told(
        self, keys: LaneKeys, *, most: int | None = None, prediction: str = ""
    ) -> list[Letter]:
        told: list[Letter] = []
        begin = "+"
        while begin and (most is None or len(told) < most):
            page = PAGE if most is None or prediction else min(PAGE, most - len(told))
            begin, raw = await scripts.letters(
                self._redis, keys, begin=begin, most=page, prediction=prediction
            )
            told += (_letter(one) for one in raw)
        return told


def _letter(raw: RawLetter) -> Letter:
    entry, size, flat = raw
    fields = {name: value.decode(errors="replace") for name, value in _fields(flat).items()}
    prediction, _, part = fields.get(b"c", "").rpartition(".")
    return Letter(
        entry=entry,
        prediction=prediction,
        part=_number(part),
        at_ms=_number(fields.get(b"at", "")),
        reason=fields.get(b"reason", ""),
        attempts=_number(fields.get(b"attempts", "")),
        strikes=_number(fields.get(b"strikes", "")),
        lane=fields.get(b"lane", ""),
        history=tuple(fields.get(b"history", "").splitlines()),
        bytes=size,
        lacks=_lacks(fields),
        joined=tuple(fields.get(b"joined", "").split()),
    )


def _lacks(fields: dict[bytes, str]) -> str:
    if b"rows" in fields and fields.get(b"lane") in set(Lane):
        return ""
    return fields.get(b"lacks", OTHER_RELEASE)


def _number(text: str) -> int:
    return int(text) if re.fullmatch("[0-9]{1,13}", text) else 0


def _fields(flat: Sequence[bytes]) -> dict[bytes, bytes]:
    return dict(zip(flat[::2], flat[1::2], strict=True))


def _parts(died: int, own: bytes, rows: bytes, rest: bytes) -> tuple[Part, ...]:
    """The parts as `settle.lua` has packed them.

    Raises:
        ValueError: they don't add up.
    """
    parts: list[Part] = []
    at = 0
    for number, pair in enumerate(rows.split()):
        count, size = (int(text) for text in pair.split(b":"))
        if number == died:
            parts.append(Part(count, own))
        else:
            parts.append(Part(count, rest[at : at + size]))
            at += size
    if at != len(rest) or died >= len(parts):
        raise ValueError("its parts don't add up")
    return tuple(parts)


def _read(message: bytes) -> Computation:
    try:
        return decode_computation(message)
    except UnknownWireVersion as error:
        raise ForebayError(f"another release wrote its rows ({error}).") from error
    except msgspec.MsgspecError as error:
        raise ForebayError(f"its rows can't be read ({error}).") from error


def _renewed(message: bytes, enqueued_at_ms: int, deadline_at_ms: int) -> bytes:
    """A computation with new times, and whatever else it says, known to this release or not."""
    computation = msgspec.structs.replace(
        _read(message), enqueued_at_ms=enqueued_at_ms, deadline_at_ms=deadline_at_ms
    )
    known = msgspec.msgpack.decode(encode(computation))
    return msgspec.msgpack.encode({**msgspec.msgpack.decode(message), **known})


def _gone(prediction: str) -> NotFound:
    return NotFound(
        f"The dead letter of {prediction} is gone: somebody has replayed or dropped it meanwhile."
    )
