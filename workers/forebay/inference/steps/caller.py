"""Puts the parts of calls on lanes, however long there is no room, and waits for their answers.

It runs beside the worker's own upkeep, on the same event loop. Whoever calls has a deadline, and
cancels what has not come by then.
"""

import asyncio
import logging
import random
from collections.abc import Coroutine, Iterable, Sequence
from typing import Any, Final

import msgspec
from redis.exceptions import RedisError

from forebay.contract.errors import (
    DeadlineExceeded,
    ErrorInfo,
    ErrorKind,
    LaneFull,
    StepFailed,
    Unavailable,
)
from forebay.contract.messages import Reply
from forebay.contract.prediction import PredictionId, Status, Timing
from forebay.contract.rows import Output
from forebay.lanes.lane import Submission, unavailable
from forebay.lanes.producer import Producer
from forebay.runtime.redis import Commands

log = logging.getLogger(__name__)

PARTS_AT_ONCE: Final = 16
"""Of one call: enough to keep several workers busy, few enough to leave others room on the lane."""

FIRST_PAUSE_S: Final = 0.05
LONGEST_PAUSE_S: Final = 2.0
"""Before a part is tried again for which there was no room, at first and after many times."""

FORGET_AT_ONCE: Final = 64
"""Keys removed in one command."""


class Sending(msgspec.Struct, frozen=True):
    """A part of a call: the step's name, and its prediction without a reply channel."""

    step: str
    submission: Submission


class Answer(msgspec.Struct, frozen=True):
    """What a part came to: an output a row, and where the time went."""

    outputs: Sequence[Output]
    timing: Timing | None


class Sent:
    """What a row has asked of its steps so far, so that it can be cleaned up.

    Attributes:
        again: whether the row may have been run before, by a worker that died.
        over: whether nobody wants the row any more; it asks for nothing further then.
        open: by id, writes under way or done, of predictions not known to have ended.
        keys: by model, the keys of what has ended.
    """

    def __init__(self, *, again: bool) -> None:
        self.again = again
        self.over = False
        self.open: dict[PredictionId, asyncio.Future[None] | None] = {}
        self.keys: dict[str, list[str]] = {}


class Caller:
    """Asks steps.

    Args:
        producer: this worker's way onto lanes.
    """

    def __init__(self, producer: Producer) -> None:
        self._producer = producer
        self._cleaning: set[asyncio.Task[None]] = set()

    async def ask(self, sendings: Sequence[Sending], sent: Sent) -> list[Answer]:
        """Send the parts of a call and wait for their answers, in order.

        Raises:
            StepFailed: one of them failed; of several the first.
            DeadlineExceeded: its deadline, which is the caller's, has passed.
        """
        if len(sendings) == 1:
            return [await self._ask(sendings[0], sent)]
        turns = asyncio.Semaphore(PARTS_AT_ONCE)

        async def one(sending: Sending) -> Answer:
            async with turns:
                return await self._ask(sending, sent)

        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(one(sending)) for sending in sendings]
        except BaseExceptionGroup as several:
            raise several.exceptions[0] from None
        return [task.result() for task in tasks]

    def forget(self, sents: Iterable[Sent]) -> None:
        """Clean up after rows that have ended: cancel what still runs, drop what was kept."""
        for sent in sents:
            if sent.open or sent.keys:
                self._in_background(self._forget(sent))

    def forget_if_ended(self, prediction: str, sents: Iterable[Sent]) -> None:
        """Likewise, unless a peer has taken the rows over: it will want to find what was kept."""
        self._in_background(self._forget_if_ended(PredictionId.parse(prediction), list(sents)))

    async def cleaned(self) -> None:
        """Wait until what is being cleaned up is done."""
        while self._cleaning:
            await asyncio.wait(self._cleaning)

    async def _ask(self, sending: Sending, sent: Sent) -> Answer:
        pause_s = FIRST_PAUSE_S
        look = sent.again
        while True:
            if sent.over:
                raise asyncio.CancelledError
            try:
                reply = await self._reply(sending.submission, sent, look=look)
                if reply is not None:
                    return await self._answer(sending, reply, sent)
                retry_after_s = None
            except (LaneFull, Unavailable) as error:
                log.debug("step %s is tried again: %s", sending.step, error)
                retry_after_s = error.retry_after_s
            # Together they would all come again at once.
            longest_s = min(max(pause_s, retry_after_s or 0.0), LONGEST_PAUSE_S)
            await asyncio.sleep(longest_s * random.uniform(0.5, 1.0))  # noqa: S311 - no secret
            pause_s = min(pause_s * 2, LONGEST_PAUSE_S)
            look = True

    async def _reply(self, submission: Submission, sent: Sent, *, look: bool) -> Reply | None:
        """What a part's prediction came to; None if it is lost, and has to be sent again."""
        producer, id_ = self._producer, submission.id
        waiter = producer.inbox.expect(id_, 1)
        waiter.future.add_done_callback(_heard)
        own = msgspec.structs.replace(submission, reply_channel=producer.inbox.channel)
        try:
            # Whoever waits may be cancelled at any time; then it is canceled once it is written.
            write = asyncio.ensure_future(producer.writer.enqueue(own))
            sent.open[id_] = write
            write.add_done_callback(_heard)
            await asyncio.shield(write)
            waiter.submitted(None)
            if look:
                await producer.inbox.look(waiter)
            (reply,) = await waiter.future
            if _lost(reply) and await producer.records.record(id_) is None:
                return None
        except (LaneFull, Unavailable):
            raise
        except (RedisError, OSError) as error:
            raise unavailable() from error
        finally:
            producer.inbox.forget(waiter)
        return reply

    async def _answer(self, sending: Sending, reply: Reply, sent: Sent) -> Answer:
        id_ = sending.submission.id
        self._ended(id_, reply, sent)
        if reply.status is Status.EXPIRED:
            raise DeadlineExceeded(
                f"The prediction's deadline passed while its step {sending.step!r} was under way."
            )
        if reply.status is not Status.SUCCEEDED:
            why = reply.error or ErrorInfo(ErrorKind.INTERNAL, f"it has {reply.status.value}.")
            raise StepFailed(sending.step, why)
        if reply.spilled is None:
            return Answer(reply.outputs, reply.timing)
        try:
            outputs = await self._producer.records.outputs((reply,))
        except LookupError:
            why = ErrorInfo(ErrorKind.INTERNAL, "Its outputs were too large to be kept, and gone.")
            raise StepFailed(sending.step, why) from None
        except (RedisError, OSError) as error:
            raise unavailable() from error
        return Answer(outputs, reply.timing)

    def _ended(self, id_: PredictionId, reply: Reply, sent: Sent) -> None:
        sent.open.pop(id_, None)
        keys = sent.keys.setdefault(id_.model, [])
        keys.append(self._producer.keys.of_prediction(id_).record(id_.text))
        if reply.spilled is not None:
            keys.append(reply.spilled)

    async def _forget(self, sent: Sent) -> None:
        producer = self._producer
        commands: Commands = producer.redis
        try:
            for id_, write in list(sent.open.items()):
                if write is not None:
                    await asyncio.wait([write])
                await producer.canceler.cancel(id_)
                record = producer.keys.of_prediction(id_).record(id_.text)
                sent.keys.setdefault(id_.model, []).append(record)
            for keys in sent.keys.values():
                for first in range(0, len(keys), FORGET_AT_ONCE):
                    some = keys[first : first + FORGET_AT_ONCE]
                    await commands.execute_command("UNLINK", *some)
        except (RedisError, OSError) as error:
            log.debug("what steps had kept is left to its retention: %s", error)

    async def _forget_if_ended(self, id_: PredictionId, sents: Sequence[Sent]) -> None:
        try:
            record = await self._producer.records.record(id_)
        except (RedisError, OSError, ValueError) as error:
            log.debug("whether %s has ended can't be told: %s", id_.text, error)
            return
        if record is None or record.status.terminal:
            for sent in sents:
                await self._forget(sent)

    def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._cleaning.add(task)
        task.add_done_callback(self._cleaning.discard)


def _lost(reply: Reply) -> bool:
    """Whether this may be the inbox's word for a record that is gone."""
    return reply.error is not None and reply.error.kind is ErrorKind.INTERNAL


def _heard(future: "asyncio.Future[Any]") -> None:
    """Take notice of an error, even where nobody waits for it any more."""
    if not future.cancelled():
        future.exception()
