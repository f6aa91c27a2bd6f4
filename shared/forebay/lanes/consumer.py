"""What a worker does with its lanes: join, read, renew, reclaim, settle, leave.

A lease is the entry in the group's pending list plus an attempt number. Settle carries the
attempt and is refused if a peer has taken the entry over since.
"""

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec
from redis.exceptions import ResponseError

from forebay.contract.caching import CacheOptions
from forebay.contract.messages import Computation, Reply, decode_computation, encode
from forebay.contract.messages import UnknownWireVersionError as UnknownWireVersion
from forebay.contract.prediction import Lane
from forebay.lanes import scripts
from forebay.lanes.keys import AHEAD_ENTRY, GROUP, LaneKeys
from forebay.lanes.presence import holders
from forebay.lanes.scripts import SettleOutcome
from forebay.runtime.clock import Clock
from forebay.runtime.process import is_gone
from forebay.runtime.redis import Arg, Commands

log = logging.getLogger(__name__)

RELEASED_IDLE_MS = 86_400_000
"""Idle time given to an entry that is let go, and which no pause of the server makes up: even a
worker that may not judge others yet takes at once what has half of it, whatever a clock does."""


LeaseId = tuple[Lane, bytes]
"""Lane and entry: two lanes may have entries of the same id."""


class Delivery(msgspec.Struct, frozen=True):
    """A lane entry leased to this worker.

    Attributes:
        entry: id in the lane's stream.
        prediction: id of the prediction it is part of.
        part: which part.
        attempt: 1 for the first delivery; settle must carry it.
        size: of its message, bytes.
        strikes: how many workers were lost while they were running it.
        computation: what to run; None where the bytes can't be read by this release.
        received_at_ms: when this worker got it, by the server's clock.
    """

    entry: bytes
    lane: Lane
    prediction: str
    part: int
    attempt: int
    computation: Computation | None
    received_at_ms: float
    size: int
    strikes: int = 0

    @property
    def lease(self) -> LeaseId:
        """What tells it from all others of this worker."""
        return self.lane, self.entry

    @property
    def went_ahead(self) -> bool:
        """Whether it went ahead of those that wait for their turn on the lane."""
        return self.entry.startswith(AHEAD_ENTRY)


class Settlement(msgspec.Struct, frozen=True):
    """How a delivery ended.

    Attributes:
        spilled: outputs kept beside the record (msgpack), where `reply.spilled` names their key.
        dead: reason, if the computation becomes a dead letter.
        kept: for the response cache, key and entry of each row that it is to have.
    """

    delivery: Delivery
    reply: Reply
    spilled: bytes | None = None
    dead: str = ""
    kept: tuple[tuple[bytes, bytes], ...] = ()


class ConsumerLimits(msgspec.Struct, frozen=True):
    """Times and bounds of a consumer, from the settings of the same names; the model's cache.

    Attributes:
        ready_rows: rows that are to be ready for this worker on each lane; what is beyond waits for
            its caller's turn.
    """

    lease_ms: int
    presence_ms: int
    dead_letter_max: int
    dead_letter_max_bytes: int
    cache: CacheOptions = CacheOptions()
    ready_rows: int = 256


class Consumer:
    """One worker's end of a model's lanes.

    Args:
        redis: client whose commands are not retried, for upkeep.
        reads: likewise, one for each lane, for reading; a blocking read may keep it busy.
        settles: likewise, for settling.
        keys: of the model's shard.
        worker: unique name of this worker, made by `process_name` so that peers can check it.
        limits: times and bounds.
        clock: follows the server's.
        now: seconds that only go forward, from any start.
    """

    def __init__(
        self,
        redis: Commands,
        keys: LaneKeys,
        *,
        reads: Mapping[Lane, Commands],
        settles: Commands,
        worker: str,
        limits: ConsumerLimits,
        clock: Clock,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.worker = worker
        self.keys = keys
        self.limits = limits
        self._redis = redis
        self._reads = reads
        self._settles = settles
        self._clock = clock
        self._now = now
        self._last_beat = float("-inf")
        self._steady_since = now()

    async def join(self) -> None:
        """Make sure that the lanes and their group exist, and say that this worker is present."""
        for stream in self.keys.streams:
            try:
                await self._redis.execute_command(
                    "XGROUP", "CREATE", stream, GROUP, "0", "MKSTREAM"
                )
            except ResponseError as error:
                if not str(error).startswith("BUSYGROUP"):
                    raise
        await self.beat()

    async def beat(self, *, rate: float = 0.0) -> None:
        """Say that this worker is present; follow the server's clock.

        Args:
            rate: rows a second that it works off; 0 if not known.
        """
        sent = self._now()
        server_us = await scripts.beat(
            self._redis,
            self.keys,
            worker=self.worker,
            presence_ms=self.limits.presence_ms,
            rate=rate,
            ready_rows=self.limits.ready_rows,
        )
        now = self._now()
        self._clock.follow(server_us, sent, now)
        if now - self._last_beat > self.limits.presence_ms / 1000:
            # Somebody was out of reach, server or worker: leases that look lapsed may not be.
            self._steady_since = now
        self._last_beat = now

    @property
    def steady(self) -> bool:
        """Whether this worker has been connected for a whole lease, and so may judge others."""
        return self._now() - self._steady_since >= self.limits.lease_ms / 1000

    async def read(self, lane: Lane, *, rows: int) -> list[Delivery]:
        """Lease entries that are ready now: about so many rows, but at least one entry.

        Those that went ahead come first, and besides. For no rows there are none but those.
        """
        entries = await scripts.read(
            self._reads[lane], self.keys, lane=lane, worker=self.worker, rows=rows
        )
        return self._deliveries(lane, entries)

    async def wait(self, lane: Lane, *, most: int, block_ms: int) -> list[Delivery]:
        """Wait until something is ready and lease it.

        Args:
            lane: where.
            most: entries, however many rows they have.
            block_ms: how long to wait at most.
        """
        reply = await self._reads[lane].execute_command(
            "XREADGROUP", "GROUP", GROUP, self.worker, "COUNT", most, "BLOCK", block_ms,
            "STREAMS", self.keys.lane(lane), ">",
        )  # fmt: skip
        return self._deliveries(lane, reply[0][1]) if reply else []

    async def reclaim(self, lane: Lane, *, rows: int) -> list[Delivery]:
        """Take over leases that nobody will settle: about so many rows, at least one entry.

        Those are what was let go, and what a worker holds whose process is known to have ended.
        While `steady`, and present itself, also what lapsed, and what a worker holds that is
        absent.
        """
        ended = [name for name in await holders(self._redis, self.keys, lane) if is_gone(name)]
        taken = [
            lease
            for stream in (self.keys.ahead(lane), self.keys.lane(lane))
            for lease in await scripts.reclaim(
                self._redis,
                self.keys,
                lane=lane,
                stream=stream,
                worker=self.worker,
                rows=rows,
                lapse_ms=self.limits.lease_ms,
                released_ms=RELEASED_IDLE_MS // 2,
                judge=self.steady,
                ended=ended,
            )
        ]
        now = self._clock.now() * 1000
        return [
            self._delivery(lane, entry, fields, attempt, now, strikes)
            for entry, attempt, strikes, fields in taken
        ]

    async def renew(self, deliveries: Iterable[Delivery]) -> set[LeaseId]:
        """Renew leases; returns those that are no longer this worker's."""
        return await self._set_idle(deliveries, 0)

    async def release(self, deliveries: Iterable[Delivery]) -> None:
        """Let leases go, so that a peer takes them over at once."""
        await self._set_idle(deliveries, RELEASED_IDLE_MS)

    async def _set_idle(self, deliveries: Iterable[Delivery], idle_ms: int) -> set[LeaseId]:
        streams: dict[tuple[Lane, str], list[bytes]] = {}
        for delivery in deliveries:
            stream = self.keys.stream(delivery.lane, delivery.entry)
            streams.setdefault((delivery.lane, stream), []).append(delivery.entry)
        lost: set[LeaseId] = set()
        for (lane, stream), entries in streams.items():
            others = await scripts.renew(
                self._redis,
                stream=stream,
                worker=self.worker,
                idle_ms=idle_ms,
                entries=entries,
            )
            lost.update((lane, entry) for entry in others)
        return lost

    async def settle(self, settlements: Sequence[Settlement]) -> list[SettleOutcome]:
        """Record how deliveries ended. Safe to repeat: what is recorded stays as it is."""
        pairs: list[str] = []
        args: list[Arg] = []
        cached: list[Arg] = []
        for number, settlement in enumerate(settlements, 1):
            delivery = settlement.delivery
            outputs = self.keys.outputs(delivery.prediction, delivery.part, delivery.attempt)
            pairs += (self.keys.record(delivery.prediction), outputs)
            args += (
                delivery.lane.value,
                delivery.entry,
                delivery.prediction,
                delivery.part,
                delivery.attempt,
                settlement.reply.status.value,
                encode(settlement.reply),
                settlement.spilled or b"",
                settlement.dead,
            )
            if settlement.kept:
                for key, entry in settlement.kept:
                    cached += (number, key, entry)
        if cached:
            cache = self.limits.cache
            cached[:0] = (self.keys.cache, self.keys.cached, cache.ttl_ms, cache.redis_bytes)
        return await scripts.settle(
            self._settles,
            self.keys,
            pairs=pairs,
            dead_max=self.limits.dead_letter_max,
            dead_max_bytes=self.limits.dead_letter_max_bytes,
            ready_rows=self.limits.ready_rows,
            args=args,
            cached=cached,
        )

    async def leave(self) -> None:
        """Say that this worker is gone. Its consumer goes too if it holds nothing."""
        await scripts.leave(self._redis, self.keys, worker=self.worker)

    def _deliveries(self, lane: Lane, entries: Sequence[scripts.RawEntry]) -> list[Delivery]:
        now = self._clock.now() * 1000
        return [self._delivery(lane, entry, fields, 1, now) for entry, fields in entries]

    def _delivery(
        self,
        lane: Lane,
        entry: bytes,
        fields: Sequence[bytes],
        attempt: int,
        now: float,
        strikes: int = 0,
    ) -> Delivery:
        prediction, part = _part_of(fields)
        computation = None
        if prediction:
            try:
                computation = _computation_of(fields)
            except (msgspec.MsgspecError, UnknownWireVersion, IndexError, ValueError):
                log.exception("lane entry %s of %s can't be read", entry, prediction)
        else:
            # It has no record, so settling takes it off the lane and no more.
            log.error("lane entry %s is none of Forebay's", entry)
        size = len(fields[3]) if computation is not None else 0
        return Delivery(entry, lane, prediction, part, attempt, computation, now, size, strikes)


def _computation_of(fields: Sequence[bytes]) -> Computation:
    """What an entry asks to run, until the deadline of who wants it longest."""
    computation = decode_computation(fields[3])
    if len(fields) > 5:
        later = max(computation.deadline_at_ms, int(fields[5]))
        return msgspec.structs.replace(computation, deadline_at_ms=later)
    return computation


def _part_of(fields: Sequence[bytes]) -> tuple[str, int]:
    """Prediction and part that an entry names; no prediction if it is none of ours."""
    try:
        prediction, _, part = fields[1].decode().rpartition(".")
        return prediction, int(part)
    except (ValueError, IndexError):
        return "", 0
