"""The inbox: one subscription per gateway process, demultiplexed by prediction.

Pub/sub delivers at most once, so it is only the fast way: results are stored before they are
published, and the inbox re-reads the records of whatever it waits for after each reconnect, and
of what has been waiting long, now and then.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Protocol

import msgspec
from redis.asyncio import Redis
from redis.exceptions import RedisError

from forebay.contract.errors import ForebayError
from forebay.contract.generation import Chunk
from forebay.contract.messages import Reply, decode_published
from forebay.contract.messages import UnknownWireVersionError as UnknownWireVersion
from forebay.contract.prediction import PredictionId, Status
from forebay.lanes.lane import unavailable
from forebay.lanes.predictions import Records, missing_reply, unreadable_reply
from forebay.runtime.clock import Clock
from forebay.runtime.redis import Link

log = logging.getLogger(__name__)

RECHECK_S = 0.5
"""How often records of overdue waiters are re-read."""

OVERDUE_S = 2.0
"""A waiter older than this may have missed its message."""

OVERDUE_SHARE = 0.25
"""Who has waited long is looked after the less often: after a quarter of that again …"""

LONGEST_UNSEEN_S = 15.0
"""… but after so long at the latest."""

RECHECK_MAX = 256
"""Most records re-read in one go, oldest first."""

OUTAGE_GRACE_S = 1.0
"""Waiters survive an absence of Redis this long before they are told."""

BEGUN_GRACE_S = 5.0
"""So do those who read a text that has begun: asking again costs them more. With the time that it
takes to notice, and what may be gone of a reader's lease (`readers`), that is less than one."""


class Ear(Protocol):
    """Who listens to a prediction's chunks while they come."""

    @property
    def begun(self) -> bool:
        """Whether some of them have come."""
        ...

    def hear(self, chunk: Chunk) -> None:
        """A chunk was published; others may have been lost before it."""
        ...

    def missed(self) -> None:
        """Some may have been published that never came."""
        ...


class Waiter:
    """Somebody waiting for a prediction's replies. Await `future` for them, one a part.

    The future holds all parts' replies once all have succeeded, or just the reply that ended the
    prediction otherwise. It raises what the inbox or the lane refused it with.

    Attributes:
        also: another who waits for the same prediction here.
        ear: is told of chunks, if it wants them.
        then: called when the prediction is on its lane.
    """

    __slots__ = (
        "also",
        "begun",
        "ear",
        "enqueued",
        "future",
        "id",
        "parts",
        "replies",
        "since",
        "then",
    )

    def __init__(self, id_: PredictionId, parts: int, ear: Ear | None = None) -> None:
        self.id = id_
        self.ear = ear
        self.parts = parts
        self.since = self.begun = time.monotonic()
        self.replies: dict[int, Reply] = {}
        self.enqueued = False
        self.also: Waiter | None = None
        self.then: Callable[[], None] | None = None
        self.future: asyncio.Future[tuple[Reply, ...]] = asyncio.get_running_loop().create_future()

    def take(self, reply: Reply) -> bool:
        """Add a reply; True when the wait is over, for all who wait for this prediction here."""
        also_over = self.also is None or self.also.take(reply)
        return self._take(reply) and also_over

    def _take(self, reply: Reply) -> bool:
        if self.future.done():
            return True
        if reply.status is not Status.SUCCEEDED:
            self.future.set_result((reply,))
            return True
        self.replies[reply.part] = reply
        if len(self.replies) < self.parts:
            return False
        self.future.set_result(tuple(self.replies[part] for part in range(self.parts)))
        return True

    def hear(self, chunk: Chunk) -> None:
        """Tell all who wait for this prediction here of a chunk."""
        waiter: Waiter | None = self
        now = time.monotonic()
        while waiter is not None:
            waiter.since = now  # it lives: nothing has been missed that this does not show
            if waiter.ear is not None:
                waiter.ear.hear(chunk)
            waiter = waiter.also

    @property
    def overdue_at(self) -> float:
        """When its message may have been missed, by `time.monotonic`."""
        if self.ear is not None:
            return self.since + OVERDUE_S  # somebody reads: silence is felt
        waited_s = OVERDUE_SHARE * (self.since - self.begun)
        return self.since + max(min(waited_s, LONGEST_UNSEEN_S), OVERDUE_S)

    @property
    def grace_s(self) -> float:
        """How long it survives an absence of Redis, seconds."""
        return BEGUN_GRACE_S if self.ear is not None and self.ear.begun else OUTAGE_GRACE_S

    def submitted(self, error: ForebayError | None, *, known: bool = False) -> None:
        """What became of the submission; the `Done` of `LaneWriter.submit`."""
        if error is None:
            self.enqueued = True
            if known:
                self.since = 0.0  # it may have ended before anybody listened here: look soon
            if self.then is not None:
                self.then()
        elif not self.future.done():
            self.future.set_exception(error)


class Inbox:
    """Receives what workers publish for this gateway.

    Args:
        redis: client whose commands are not retried.
        channel: this gateway's reply channel.
        records: to re-read what may have been missed.
        link: whether Redis is within reach.
        clock: the server's clock.
    """

    def __init__(
        self, redis: Redis, channel: str, *, records: Records, link: Link, clock: Clock
    ) -> None:
        self.channel = channel
        self._link = link
        self._redis = redis
        self._records = records
        self._clock = clock
        self._waiters: dict[str, Waiter] = {}
        self._listening = asyncio.Event()

    def __len__(self) -> int:
        """How many predictions are waited for."""
        return len(self._waiters)

    @property
    def listening(self) -> bool:
        """Whether the subscription stands."""
        return self._listening.is_set()

    def expect(self, id_: PredictionId, parts: int, *, ear: Ear | None = None) -> Waiter:
        """Start waiting; call before the prediction is submitted, and `forget` in the end."""
        waiter = Waiter(id_, parts, ear)
        waiter.also = self._waiters.get(id_.text)
        self._waiters[id_.text] = waiter
        return waiter

    def forget(self, waiter: Waiter) -> None:
        """Stop waiting; others who wait for the same prediction go on."""
        first = self._waiters.get(waiter.id.text)
        if first is waiter:
            if waiter.also is None:
                del self._waiters[waiter.id.text]
            else:
                self._waiters[waiter.id.text] = waiter.also
            return
        while first is not None and first.also is not waiter:
            first = first.also
        if first is not None:
            first.also = waiter.also

    async def look(self, waiter: Waiter) -> None:
        """Read at once what is recorded of a prediction that may have been enqueued long ago.

        Raises:
            redis.exceptions.RedisError: Redis is out of reach.
        """
        await self._recheck([waiter])

    async def run(self) -> None:
        """Listen until cancelled, through any number of reconnects."""
        recheck = asyncio.create_task(self._look_after_waiters(), name="inbox-recheck")
        try:
            while True:
                try:
                    await self._listen()
                except (RedisError, OSError) as error:
                    log.warning("the reply channel is interrupted: %s", error)
                    self._link.suspect(error)
                self._listening.clear()
                await self._link.returned()
        finally:
            recheck.cancel()

    async def _listen(self) -> None:
        async with self._redis.pubsub(ignore_subscribe_messages=False) as pubsub:
            await pubsub.subscribe(self.channel)
            async for message in pubsub.listen():
                kind = message["type"]
                if kind == "message":
                    self._receive(message["data"])
                elif kind == "subscribe":
                    self._listening.set()
                    await self._recheck(list(self._waiters.values()))

    def _receive(self, data: bytes) -> None:
        try:
            published = decode_published(data)
        except (msgspec.MsgspecError, UnknownWireVersion):
            log.exception("a reply of %d bytes can't be read", len(data))
            return
        waiters = self._waiters
        for one in published:
            waiter = waiters.get(one.prediction)
            if waiter is None:
                continue
            if isinstance(one, Chunk):
                waiter.hear(one)
            elif waiter.take(one):
                del waiters[one.prediction]

    def _give_up(self, down_s: float) -> None:
        """Tell waiters that Redis has been away for so long, seconds."""
        for first in list(self._waiters.values()):
            waiter: Waiter | None = first
            while waiter is not None:
                if down_s > waiter.grace_s:
                    self.forget(waiter)
                    if not waiter.future.done():
                        waiter.future.set_exception(unavailable())
                waiter = waiter.also

    async def _look_after_waiters(self) -> None:
        while True:
            await asyncio.sleep(RECHECK_S)
            if self._link.down_s > OUTAGE_GRACE_S:
                self._give_up(self._link.down_s)
            if not (self._link.up and self.listening):
                continue
            now = time.monotonic()
            overdue = [w for w in self._waiters.values() if w.enqueued and w.overdue_at < now]
            try:
                await self._recheck(overdue[:RECHECK_MAX])
            except (RedisError, OSError) as error:
                log.debug("re-reading overdue records failed: %s", error)

    async def _recheck(self, waiters: list[Waiter]) -> None:
        for waiter in waiters:
            # Asked before the record is: it may be written between the two.
            enqueued = waiter.enqueued
            for reply in await self._recorded(waiter.id, expected=enqueued):
                if waiter.take(reply):
                    self.forget(waiter)
                    break
            waiter.since = time.monotonic()
            if waiter.ear is not None:
                waiter.ear.missed()

    async def _recorded(self, id_: PredictionId, *, expected: bool) -> tuple[Reply, ...]:
        try:
            record = await self._records.record(id_)
        except (msgspec.MsgspecError, UnknownWireVersion):
            log.exception("the record of %s can't be read", id_.text)
            return (unreadable_reply(id_, self._clock.now_ms()),)
        if record is not None:
            return record.replies
        return (missing_reply(id_, self._clock.now_ms()),) if expected else ()
