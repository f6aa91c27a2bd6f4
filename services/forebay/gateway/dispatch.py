"""The one way from rows to a lane and back, behind every dialect.

    rows ─▶ parts of 256 ─▶ Computations ─▶ LaneWriter.submit ─▶ ⋯ ─▶ Waiter.future ─▶ outputs

`run` is for requests whose client gets a result and no id; `create` for those that get an id, and
whose input and result are therefore kept. A request costs one future and one timer: no task, no
closure, no second subscription.
"""

import asyncio
import functools
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, TypeVar

import msgspec
from redis.exceptions import RedisError, ResponseError

from forebay.contract.errors import (
    DeadlineExceeded,
    ErrorKind,
    ForebayError,
    NotFound,
    Unavailable,
)
from forebay.contract.messages import Computation, Reply, encode
from forebay.contract.model import ModelSpec
from forebay.contract.prediction import (
    MAX_PART_BYTES,
    MAX_PART_ROWS,
    Lane,
    Prediction,
    PredictionId,
    Status,
    Timing,
)
from forebay.contract.rows import Output, Row, row_bytes
from forebay.gateway.errors import DEFAULT_RETRY_S, ClientGone, raised
from forebay.gateway.versions import Versions, find
from forebay.lanes.cancel import Canceler
from forebay.lanes.lane import LaneWriter, Part, Submission, unavailable
from forebay.lanes.records import Records, combined_timing
from forebay.lanes.replies import Inbox, Waiter
from forebay.runtime.catalog import Catalog
from forebay.runtime.clock import Clock
from forebay.runtime.redis import Link
from forebay.runtime.settings import Settings

MAX_READS: Final = 32
"""Records read at once: each takes a connection, of which the client has a hundred."""

WRITE_POLL_S: Final = 0.02
"""How often a wait that has run out looks whether the write is through."""

T = TypeVar("T")

WhenGone = Callable[[Callable[[], None]], None]
"""Takes what is to be called if the client goes away."""


class Outcome(msgspec.Struct, frozen=True):
    """What became of a request that nobody has the id of.

    Attributes:
        outputs: one a row, in order.
        version: short digest of the artifact that ran.
        timing: where the time went.
    """

    outputs: Sequence[Output]
    version: str | None
    timing: Timing | None


class Dispatch:
    """Enqueues rows and waits for what comes of them.

    Args:
        settings: waits and retentions.
        catalog: the models there are.
        versions: which artifacts serve them.
        writer: the way in.
        inbox: the way out.
        records: predictions as they were stored.
        canceler: ends those that nobody wants any more.
        link: whether Redis is within reach.
        clock: the server's clock.
    """

    def __init__(
        self,
        *,
        settings: Settings,
        catalog: Catalog,
        versions: Versions,
        writer: LaneWriter,
        inbox: Inbox,
        records: Records,
        canceler: Canceler,
        link: Link,
        clock: Clock,
    ) -> None:
        self.max_inputs = settings.max_inputs
        self.sync_wait_s = settings.sync_wait_s
        self._catalog = catalog
        self._versions = versions
        self._writer = writer
        self._inbox = inbox
        self._records = records
        self._canceler = canceler
        self._link = link
        self._clock = clock
        self._kept_ms = int(settings.result_retention_s * 1000)
        self._unseen_ms = int(settings.unseen_retention_s * 1000)
        self._reads = asyncio.Semaphore(MAX_READS)
        self._waiting: set[Waiter] = set()
        self._abandoned = False

    @property
    def models(self) -> Mapping[str, ModelSpec]:
        """The models there are, by name."""
        return self._catalog.models

    def model(self, name: str, *, param: str) -> ModelSpec:
        """A model's spec.

        Args:
            name: in the catalog.
            param: the request field that names it.

        Raises:
            NotFound: there is none of that name.
        """
        try:
            return self._catalog.find(name)
        except NotFound as error:
            raise NotFound(error.message, param=param) from None

    def meant(self, version: str, *, param: str) -> ModelSpec:
        """The model that `name`, `name:version` or `version` means; see `versions.find`."""
        return find(self._catalog, self._versions, version, param=param)

    def version(self, prediction: Prediction) -> str:
        """What a prediction was, or will be, run by.

        That is the version which has answered it; until one has, the one that serves its model;
        and the model's name where this gateway can't tell.
        """
        if prediction.version is not None:
            return prediction.version
        spec = self.models.get(prediction.model)
        serving = None if spec is None else self._versions.serving(spec)
        return prediction.model if serving is None else serving.version

    def dimensions(self, spec: ModelSpec) -> int | None:
        """Length of the model's embeddings; None where this gateway can't tell."""
        serving = self._versions.serving(spec)
        return None if serving is None else serving.dimensions

    async def run(
        self,
        spec: ModelSpec,
        rows: Sequence[Row],
        *,
        truncate: bool = False,
        when_gone: WhenGone | None = None,
    ) -> Outcome:
        """Run rows for somebody who waits and gets no id.

        Args:
            spec: the model.
            rows: at least one.
            truncate: cut over-long rows.
            when_gone: asks to be told if the client goes away; the rows are then canceled.

        Raises:
            ForebayError: by kind, what kept the rows from being run, or one of them from
                succeeding; `row` is its index.
        """
        wait_s = min(self.sync_wait_s, spec.realtime.deadline_s)
        now_ms = self._clock.now_ms()
        deadline_ms = int(wait_s * 1000)
        id_ = PredictionId.new(spec.name)
        parts = _parts(rows, now_ms=now_ms, deadline_ms=deadline_ms, truncate=truncate)
        submission = Submission(
            id_, Lane.REALTIME, parts, now_ms, deadline_ms, self._unseen_ms, self._inbox.channel
        )
        replies = await self._wait(submission, wait_s, when_gone)
        if not replies:
            if self._abandoned:
                raise Unavailable(
                    "This gateway stops before the prediction is done. Send it again.",
                    retry_after_s=DEFAULT_RETRY_S,
                )
            raise DeadlineExceeded(f"The prediction was not done within {wait_s:g} s.")
        first = replies[0]
        if first.status is not Status.SUCCEEDED:
            raise raised(first.error)
        outputs = await self._outputs(replies)
        timing = first.timing if len(replies) == 1 else combined_timing(replies)
        return Outcome(outputs, first.version, timing)

    async def create(
        self,
        spec: ModelSpec,
        rows: Sequence[Row],
        *,
        input_json: bytes,
        truncate: bool = False,
        wait_s: float | None = None,
        cancel_after_s: float | None = None,
        when_gone: WhenGone | None = None,
    ) -> Prediction:
        """Make a prediction that its client can come back to.

        Args:
            spec: the model.
            rows: at least one.
            input_json: the input as the client sent it, kept with the prediction. The result
                leaves `Prediction.input` out: the caller has it.
            truncate: cut over-long rows.
            wait_s: how long to wait for the end of it; None doesn't wait at all, and takes the
                bulk lane.
            cancel_after_s: end it after so long, if that is sooner than the lane's deadline.
            when_gone: asks to be told if the client goes away. It has no id yet, so nobody could
                come back for the prediction, which is then canceled.

        Returns:
            The prediction as it ended, or with the status `starting`.

        Raises:
            LaneFull: nothing was enqueued.
            Unavailable: Redis is out of reach.
        """
        lane = Lane.BULK if wait_s is None else Lane.REALTIME
        limits = spec.bulk if wait_s is None else spec.realtime
        now_ms = self._clock.now_ms()
        deadline_ms = int(min(limits.deadline_s, cancel_after_s or limits.deadline_s) * 1000)
        id_ = PredictionId.new(spec.name)
        parts = _parts(rows, now_ms=now_ms, deadline_ms=deadline_ms, truncate=truncate)
        channel = "" if wait_s is None else self._inbox.channel
        submission = Submission(
            id_, lane, parts, now_ms, deadline_ms, self._kept_ms, channel, input_json
        )
        if wait_s is None:
            await self._writer.enqueue(submission)
            replies: tuple[Reply, ...] = ()
        else:
            replies = await self._wait(submission, min(wait_s, self.sync_wait_s), when_gone)
        if not replies:
            return Prediction(
                id=id_.text,
                model=spec.name,
                status=Status.STARTING,
                created_at_ms=now_ms,
                deadline_at_ms=now_ms + deadline_ms,
            )
        return await self._ended(id_, replies, created_at_ms=now_ms, deadline_ms=deadline_ms)

    async def prediction(self, text: str) -> Prediction:
        """A prediction by its id.

        Raises:
            NotFound: there is none, or its retention is over.
            Unavailable: Redis is out of reach.
        """
        id_ = PredictionId.parse(text)
        try:
            prediction = await self._read(lambda: self._records.prediction(id_))
        except LookupError:
            prediction = None
        if prediction is None:
            raise NotFound(f"There is no prediction {text!r}, or no longer.")
        return prediction

    async def cancel(self, text: str) -> Prediction:
        """Cancel a prediction; one that has ended already stays as it is.

        Returns:
            The prediction as it is then.

        Raises:
            NotFound: there is none, or its retention is over.
            Unavailable: Redis is out of reach; nothing is known to have been canceled.
        """
        id_ = PredictionId.parse(text)
        await self._read(lambda: self._canceler.cancel(id_))
        return await self.prediction(text)

    def abandon(self) -> None:
        """End all waits: this gateway stops, and is out of time. What has an id goes on."""
        self._abandoned = True
        for waiter in tuple(self._waiting):
            _stop_waiting(waiter)

    async def _wait(
        self, submission: Submission, wait_s: float, when_gone: WhenGone | None
    ) -> tuple[Reply, ...]:
        """Enqueue and wait for the replies; none if they don't all come in time."""
        inbox = self._inbox
        waiter = inbox.expect(submission.id, len(submission.parts))
        timer = None
        self._waiting.add(waiter)
        if when_gone is not None:
            when_gone(functools.partial(self._gone, waiter))
        try:
            self._writer.submit(submission, waiter.submitted)
            timer = asyncio.get_running_loop().call_later(wait_s, _stop_waiting, waiter)
            return await waiter.future
        finally:
            if timer is not None:
                timer.cancel()
            self._waiting.discard(waiter)
            inbox.forget(waiter)

    def _gone(self, waiter: Waiter) -> None:
        """The client who waits has gone: nobody wants it any more."""
        if waiter.future.done():
            return
        cancel = functools.partial(self._canceler.cancel_soon, waiter.id)
        if waiter.enqueued:
            cancel()
        else:
            waiter.then = cancel  # it may be on its way to Redis at this moment
        waiter.future.set_exception(ClientGone())

    async def _ended(
        self,
        id_: PredictionId,
        replies: tuple[Reply, ...],
        *,
        created_at_ms: int,
        deadline_ms: int,
    ) -> Prediction:
        first = replies[0]
        outputs: Sequence[Output] = ()
        status, error = first.status, first.error
        if status is Status.SUCCEEDED:
            try:
                outputs = await self._outputs(replies)
            except ForebayError as lost:
                if lost.kind is not ErrorKind.INTERNAL:
                    raise
                status, error = Status.FAILED, lost.info()
        started = [reply.started_at_ms for reply in replies if reply.started_at_ms is not None]
        return Prediction(
            id=id_.text,
            model=id_.model,
            status=status,
            created_at_ms=created_at_ms,
            deadline_at_ms=created_at_ms + deadline_ms,
            version=first.version,
            started_at_ms=min(started, default=None),
            completed_at_ms=max(reply.completed_at_ms for reply in replies),
            outputs=tuple(outputs),
            error=error,
            timing=combined_timing(replies),
        )

    async def _outputs(self, replies: tuple[Reply, ...]) -> Sequence[Output]:
        if len(replies) == 1 and replies[0].spilled is None:
            return replies[0].outputs
        try:
            return await self._read(lambda: self._records.outputs(replies))
        except LookupError:
            raise ForebayError(
                "The result was too large to be sent at once, and is gone."
            ) from None

    async def _read(self, read: Callable[[], Awaitable[T]]) -> T:
        async with self._reads:
            # Asked when the turn has come: those before may just have found out.
            if not self._link.up:
                raise unavailable()
            try:
                return await read()
            except ResponseError:
                raise  # Redis is there and says no: a bug, not an outage
            except (RedisError, OSError) as error:
                self._link.suspect(error)
                raise unavailable() from error


def _stop_waiting(waiter: Waiter) -> None:
    """End a wait without replies, once it is known that the prediction is on its lane.

    A client must not get the id of a prediction whose write may still fail. Its fate is known
    within the timeout of a Redis command.
    """
    if waiter.future.done():
        return
    if waiter.enqueued:
        waiter.future.set_result(())
    else:
        asyncio.get_running_loop().call_later(WRITE_POLL_S, _stop_waiting, waiter)


def _parts(
    rows: Sequence[Row], *, now_ms: int, deadline_ms: int, truncate: bool
) -> tuple[Part, ...]:
    """Cut rows into lane entries, in order."""
    deadline_at_ms = now_ms + deadline_ms
    return tuple(
        Part(len(some), encode(Computation(some, now_ms, deadline_at_ms, first, truncate)))
        for first, some in _cut(tuple(rows))
    )


def _cut(rows: tuple[Row, ...]) -> list[tuple[int, tuple[Row, ...]]]:
    """Runs of rows that fit into a part, each with the index of its first row."""
    if len(rows) == 1:
        return [(0, rows)]
    runs: list[tuple[int, tuple[Row, ...]]] = []
    first = size = 0
    for index, row in enumerate(rows):
        row_size = row_bytes(row)
        full = index - first == MAX_PART_ROWS or size + row_size > MAX_PART_BYTES
        if full and index > first:
            runs.append((first, rows[first:index]))
            first, size = index, 0
        size += row_size
    return [*runs, (first, rows[first:])]
