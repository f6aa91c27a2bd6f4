"""Streams: predictions read while they are generated.

    chunks published ──▶ a bounded buffer ──▶ whoever iterates
                              ▲
    event stream ─────────────┘ after a gap: what was lost, what came too fast, what was before

A reader who is slow, or was away, costs nobody anything: what doesn't fit into its buffer is
dropped, and read again from the event stream once there is room. A text that has begun waits for a
Redis that is away (`lanes.replies.BEGUN_GRACE_S`): its reader sees a pause.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Final

import msgspec

from forebay.contract.errors import DeadlineExceeded, ForebayError, InvalidInput, Unavailable
from forebay.contract.generation import Chunk
from forebay.contract.messages import Reply
from forebay.contract.prediction import PredictionId, Status, Timing
from forebay.contract.rows import Output
from forebay.gateway.errors import DEFAULT_RETRY_S, raised
from forebay.gateway.reads import Reads
from forebay.gateway.waits import Waits, stop_waiting
from forebay.lanes.cancel import Canceler
from forebay.lanes.events import PAGE, Events
from forebay.lanes.lane import Submission
from forebay.lanes.predictions import combined_timing
from forebay.lanes.readers import Readers
from forebay.lanes.replies import Waiter

RETRY_S: Final = 0.05
BACK_S: Final = 5.0
"""Once Redis is back for one connection it is for all within so long: so long is looked again."""

MAX_BUFFER: Final = 256
"""Chunks that wait here for a slow reader; what comes beyond is read again later."""


class Outcome(msgspec.Struct, frozen=True):
    """What became of a request.

    Attributes:
        outputs: one a row, in order.
        version: short digest of the artifact that ran.
        timing: where the time went.
        of: which version that was, by its name, where the model has several.
    """

    outputs: Sequence[Output]
    version: str | None
    timing: Timing | None
    of: str | None = None


OutputsOf = Callable[[tuple[Reply, ...]], Awaitable[Sequence[Output]]]
"""Fetches the outputs of replies, also those kept beside the record."""

WhyIdle = Callable[[str], Awaitable[str]]
"""Says why nobody works for a model, as a sentence; empty if somebody does."""


class Stream:
    """One reader of one prediction: iterate for its chunks, in order, each once; then `close`.

    The iteration ends once the prediction has succeeded, and `outcome` is there then. It raises a
    `ForebayError`, by kind, for what kept the prediction from being taken or from succeeding: an
    error before the first chunk is one of the whole request. A wait for the next chunk may be
    cancelled, and begun anew, without losing any.

    Args:
        id_: the prediction.
        streams: of this gateway.
        after: sequence of the last chunk that the reader has.
        rows: of the prediction; None if not known here.
        of: name of the version that it was given to, where the model has several.
        kept: somebody can come back for it, so it goes on without this reader.
        before: the last chunk that the reader has, where there is one and it is still kept.
        created_at_ms: when the prediction was made, Unix time; None if not known here.

    Attributes:
        id: the prediction.
        before: as above; so is `created_at_ms`.
        of: name of the version that it was given to, where the model has several.
        outcome: what it came to, once the iteration has ended.
    """

    def __init__(
        self,
        id_: PredictionId,
        streams: "Streams",
        *,
        after: int = 0,
        rows: int | None = None,
        of: str | None = None,
        kept: bool = True,
        before: Chunk | None = None,
        created_at_ms: int | None = None,
    ) -> None:
        self.id = id_
        self.before = before
        self.created_at_ms = created_at_ms
        self.of = of
        self.outcome: Outcome | None = None
        self._streams = streams
        self._tail = after
        self._rows = rows
        self._kept = kept
        self._buffer: deque[Chunk] = deque()
        self._gap = False
        self._whole = False
        self._finished = 0
        self._retries = 0
        self._news = asyncio.Event()
        self._waiter: Waiter | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._wait_s = self._run_s = 0.0

    @property
    def begun(self) -> bool:
        """Whether its reader has some of it."""
        return self._tail > 0

    def begin(self, waiter: Waiter, *, wait_s: float, run_s: float) -> None:
        """Start to listen.

        Args:
            waiter: for the prediction's end.
            wait_s: how long to wait for the first chunk.
            run_s: how long for the end, from then on.
        """
        self._waiter = waiter
        self._wait_s, self._run_s = wait_s, run_s
        self._timer = asyncio.get_running_loop().call_later(wait_s, stop_waiting, waiter)
        waiter.future.add_done_callback(self._ended)

    def hear(self, chunk: Chunk) -> None:
        """A chunk was published."""
        if chunk.sequence <= self._tail:
            return
        if chunk.sequence == self._tail + 1 and len(self._buffer) < MAX_BUFFER:
            self._append(chunk)
        else:
            self._gap = True
        self._news.set()

    def missed(self) -> None:
        """Some may have been published that never came."""
        self._gap = True
        self._news.set()

    def __aiter__(self) -> AsyncIterator[Chunk]:
        """Its chunks."""
        return self

    async def __anext__(self) -> Chunk:
        """The next chunk.

        Raises:
            ForebayError: by kind, why there is none.
        """
        waiter = self._waiter
        assert waiter is not None
        while not self._buffer:
            if self._gap:
                await self._catch_up(waiter)
            elif not waiter.future.done():
                self._news.clear()
                await self._news.wait()
            elif not self._whole:
                # The last chunks are told before the end is, but may have been lost.
                await self._catch_up(waiter)
                self._whole = not self._gap
            else:
                await self._end(waiter)
                raise StopAsyncIteration
        return self._buffer.popleft()

    def close(self) -> None:
        """Listen no more. What nobody can come back for, and has not ended, is canceled."""
        waiter, self._waiter = self._waiter, None
        if waiter is None:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._streams.closed(waiter, wanted=self._kept or _is_over(waiter))

    def _ended(self, _: "asyncio.Future[tuple[Reply, ...]]") -> None:
        if self._rows is not None and self._finished >= self._rows:
            self._whole = True
        self._news.set()

    def _append(self, chunk: Chunk) -> None:
        self._tail = chunk.sequence
        self._finished += chunk.finish is not None
        self._buffer.append(chunk)
        if self._timer is not None and self._waiter is not None and self._run_s:
            self._timer.cancel()
            loop, self._wait_s = asyncio.get_running_loop(), self._run_s
            self._timer = loop.call_later(self._run_s, stop_waiting, self._waiter)
            self._run_s = 0.0

    async def _catch_up(self, waiter: Waiter) -> None:
        """Read what is missing, or a page of it."""
        self._gap = False
        self._news.clear()
        try:
            chunks = await self._streams.after(self.id, self._tail)
        except Unavailable:
            self._gap = True
            if not self.begun or (waiter.future.done() and not self._look_again(waiter)):
                raise
            if waiter.future.done():
                await asyncio.sleep(RETRY_S)
            else:
                # The inbox says when to look again, or that Redis was away for too long.
                await self._news.wait()
            return
        except BaseException:
            self._gap = True
            raise
        for chunk in chunks:
            if chunk.sequence > self._tail + 1:
                raise ForebayError(
                    f"The text after event {self._tail} is no longer kept. Ask for the whole "
                    "prediction by its id."
                )
            if chunk.sequence > self._tail:
                self._append(chunk)
        if len(chunks) == PAGE:
            self._gap = True

    def _look_again(self, waiter: Waiter) -> bool:
        """Whether Redis is only about to be back: the end of the text has just come from it."""
        if waiter.future.exception() is not None or not waiter.future.result():
            return False
        self._retries += 1
        return self._retries * RETRY_S <= BACK_S

    async def _end(self, waiter: Waiter) -> None:
        if self.outcome is not None:
            return
        replies = waiter.future.result()
        if not replies:
            if self._streams.abandoned:
                raise Unavailable(
                    "This gateway stops before the prediction is done. "
                    + ("Read on from another." if self._kept else "Send it again."),
                    retry_after_s=DEFAULT_RETRY_S,
                )
            within = f"within {self._wait_s:g} s"
            if self.begun:
                raise DeadlineExceeded(f"The text was begun, and not done {within}.")
            why = await self._streams.why_idle(self.id.model)
            raise DeadlineExceeded(f"The text was not begun {within}. {why}".strip())
        first = replies[0]
        if first.status is not Status.SUCCEEDED:
            error = raised(first.error)
            if isinstance(error, DeadlineExceeded) and not self.begun:
                why = await self._streams.why_idle(self.id.model)
                error = DeadlineExceeded(f"{error.message} {why}".strip())
            raise error
        timing = first.timing if len(replies) == 1 else combined_timing(replies)
        outputs = await self._streams.outputs(replies)
        self.outcome = Outcome(outputs, first.version, timing, self.of)


class Streams:
    """All streams of a gateway.

    Args:
        waits: for the ends of predictions.
        events: event streams.
        canceler: ends what nobody reads any more.
        reads: how to ask Redis.
        readers: of streams that end with them.
        outputs: fetches what a prediction came to.
        why_idle: says why nobody works for a model.
    """

    def __init__(
        self,
        waits: Waits,
        events: Events,
        canceler: Canceler,
        reads: Reads,
        readers: Readers,
        outputs: OutputsOf,
        why_idle: WhyIdle,
    ) -> None:
        self._waits = waits
        self._events = events
        self._canceler = canceler
        self._reads = reads
        self._readers = readers
        self.outputs = outputs
        self.why_idle = why_idle

    @property
    def abandoned(self) -> bool:
        """Whether this gateway is out of time."""
        return self._waits.abandoned

    def open(
        self,
        submission: Submission,
        *,
        rows: int,
        wait_s: float,
        run_s: float,
        of: str | None,
        kept: bool,
    ) -> Stream:
        """Enqueue a prediction, and read it from its first chunk on.

        Args:
            submission: in one part, marked as a stream.
            rows: of it.
            wait_s: how long to wait for the first chunk.
            run_s: how long for the end, from then on.
            of: name of the version that it is given to, where the model has several.
            kept: somebody can come back for it.
        """
        stream = Stream(
            submission.id,
            self,
            rows=rows,
            of=of,
            kept=kept,
            created_at_ms=submission.created_at_ms,
        )
        waiter = self._waits.begin(submission.id, len(submission.parts), ear=stream)
        stream.begin(waiter, wait_s=wait_s, run_s=run_s)
        if not kept:
            self._readers.come(submission.id)
            read_until_ms = submission.created_at_ms + self._readers.lease_ms
            submission = msgspec.structs.replace(submission, read_until_ms=read_until_ms)
        try:
            self._waits.submit(submission, waiter)
        except BaseException:
            stream.close()
            raise
        return stream

    async def resume(
        self, id_: PredictionId, *, after: int, run_s: float, of: str | None
    ) -> Stream | None:
        """Read a prediction that is there already; None if there is none, or no longer.

        Args:
            id_: the prediction.
            after: sequence of the last chunk that the reader has; 0 if it has none.
            run_s: how long to wait for the end.
            of: name of the version that it was given to, where the model has several.

        Raises:
            InvalidInput: nothing with the sequence `after` was told.
            Unavailable: Redis is out of reach.
        """
        if after < 0:
            raise InvalidInput("An event's id is 1 or more.", param="last-event-id")
        found = await self._reads.run(lambda: self._events.follow(id_, self._waits.channel))
        if found is None:
            return None
        before = await self._before(id_, after, ended=found[0].terminal) if after else None
        stream = Stream(id_, self, after=after, of=of, before=before)
        waiter = self._waits.begin(id_, found[1], ear=stream)
        waiter.enqueued = True
        stream.begin(waiter, wait_s=run_s, run_s=0.0)
        try:
            await self._reads.run(lambda: self._waits.look(waiter))
        except BaseException:
            stream.close()
            raise
        return stream

    async def _before(self, id_: PredictionId, after: int, *, ended: bool) -> Chunk | None:
        """The chunk that a reader has last. Redis has it before any gateway tells it."""
        chunk = await self._reads.run(lambda: self._events.from_(id_, after))
        if chunk is not None:
            return chunk if chunk.sequence == after else None
        # What was not made as a stream is told as one chunk, which is kept nowhere.
        if after > 1 or not ended or await self.after(id_, 0):
            raise InvalidInput(
                "No event that came has the id in Last-Event-ID: send that of the last one that "
                "did, or none to begin anew.",
                param="Last-Event-ID",
            )
        return None

    async def after(self, id_: PredictionId, sequence: int) -> tuple[Chunk, ...]:
        """The next chunks of a prediction.

        Raises:
            Unavailable: Redis is out of reach.
        """
        return await self._reads.run(lambda: self._events.after(id_, sequence))

    def closed(self, waiter: Waiter, *, wanted: bool) -> None:
        """A reader has gone; if that leaves nobody who wants it, cancel what it read."""
        self._waits.end(waiter)
        self._readers.go(waiter.id)
        if wanted:
            return
        if waiter.enqueued:
            self._canceler.cancel_soon(waiter.id)
        else:
            # It may be on its way to Redis at this moment.
            waiter.then = lambda: self._canceler.cancel_soon(waiter.id)


def _is_over(waiter: Waiter) -> bool:
    """Whether the prediction has ended, rather than the wait for it."""
    future = waiter.future
    if not future.done() or future.cancelled():
        return False
    return future.exception() is not None or bool(future.result())
