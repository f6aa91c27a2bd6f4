"""The one way from rows to a lane and back, behind every dialect.

    rows ─▶ parts of 256 ─▶ Computations ─▶ LaneWriter.submit ─▶ ⋯ ─▶ Waiter.future ─▶ outputs

`run` is for requests whose client gets a result and no id; `create` for those that get an id, and
whose input and result are therefore kept.
"""

import math
from collections.abc import Sequence

import msgspec

from forebay.contract.errors import (
    DeadlineExceeded,
    ErrorKind,
    ForebayError,
    InvalidInput,
    LaneFull,
    NotFound,
    Unavailable,
)
from forebay.contract.generation import GenerationTable
from forebay.contract.messages import Reply
from forebay.contract.model import LaneLimits, ModelSpec
from forebay.contract.prediction import (
    Lane,
    Prediction,
    PredictionId,
    Status,
    added_up,
)
from forebay.contract.rows import DEFAULT_OPTIONS, Options, Output, Row, Task
from forebay.gateway.caching import Caching
from forebay.gateway.errors import DEFAULT_RETRY_S, raised
from forebay.gateway.names import Name
from forebay.gateway.reads import Reads
from forebay.gateway.recall import Asker, Recall
from forebay.gateway.registry import Registry
from forebay.gateway.repeats import Repeats
from forebay.gateway.repository import ModelUnloaded, Repository
from forebay.gateway.shadows import Shadows
from forebay.gateway.split import Sticky
from forebay.gateway.streaming import Outcome, Stream, Streams
from forebay.gateway.waits import Waits, WhenGone
from forebay.gateway.work import work_of
from forebay.lanes.cancel import Canceler
from forebay.lanes.events import Events
from forebay.lanes.lane import LaneWriter, Submission
from forebay.lanes.records import Records, combined_timing
from forebay.lanes.replies import Inbox
from forebay.runtime.clock import Clock
from forebay.runtime.settings import Settings


class Dispatch:
    """Enqueues rows and waits for what comes of them.

    Args:
        settings: waits and retentions.
        registry: finds models.
        writer: the way in.
        inbox: the way out.
        records: predictions as they were stored.
        events: what they have generated so far.
        canceler: ends those that nobody wants any more.
        repeats: leads requests that come again to the first one's prediction.
        reads: how to ask Redis outside the hot path.
        clock: the server's clock.
        shadows: copies requests to versions that answer nobody.
        caching: answers what was answered before.
        repository: knows what is unloaded.
    """

    def __init__(
        self,
        *,
        settings: Settings,
        registry: Registry,
        writer: LaneWriter,
        inbox: Inbox,
        records: Records,
        events: Events,
        canceler: Canceler,
        repeats: Repeats,
        reads: Reads,
        clock: Clock,
        shadows: Shadows,
        caching: Caching,
        repository: Repository,
    ) -> None:
        self.max_inputs = settings.max_inputs
        self.sync_wait_s = settings.sync_wait_s
        self.registry = registry
        self._writer = writer
        self._waits = Waits(writer, inbox, canceler)
        self._records = records
        self._canceler = canceler
        self._repeats = repeats
        self._reads = reads
        self._clock = clock
        self._shadows = shadows
        self._streams = Streams(self._waits, events, canceler, reads, self._outputs)
        self._caching = caching
        self._repository = repository
        self._kept_ms = int(settings.result_retention_s * 1000)
        self._unseen_ms = int(settings.unseen_retention_s * 1000)

    async def run(
        self,
        spec: ModelSpec,
        rows: Sequence[Row],
        *,
        truncate: bool = False,
        options: Options = DEFAULT_OPTIONS,
        lane: Lane = Lane.REALTIME,
        timeout_s: float | None = None,
        name: Name | None = None,
        when_gone: WhenGone | None = None,
        sticky: Sticky | None = None,
        asker: Asker | None = None,
    ) -> Outcome:
        """Run rows for somebody who waits and gets no id.

        Args:
            spec: the model.
            rows: at least one.
            truncate: cut over-long rows.
            options: what is asked of the outputs.
            lane: where they queue.
            timeout_s: how long it may take, if that is less than this gateway's own bounds; a text
                may take its model's.
            name: what the client calls the request, if it may come again.
            when_gone: asks to be told if the client goes away; the rows are then canceled, unless
                it may come again.
            sticky: tells what the client gives for its requests to stay with one version.
            asker: says what the client wants of the cache.

        Raises:
            ForebayError: by kind, what kept the rows from being run, or one of them from
                succeeding; `row` is its index.
        """
        model, spec = spec, self.registry.chosen(spec, sticky, name)
        limits = spec.realtime if lane is Lane.REALTIME else spec.bulk
        deadline_s = min(self.sync_wait_s, limits.deadline_s)
        most_s = self.sync_wait_s
        if spec.task is Task.GENERATION:
            deadline_s = _patience_s(spec, limits)
            most_s += deadline_s
        deadline_s = min(deadline_s, timeout_s or deadline_s)
        grace_s = 0.0 if timeout_s else min(spec.replicas.grace_s, most_s - deadline_s)
        wait_s = deadline_s + grace_s
        now_ms = self._clock.now_ms()
        deadline_ms, grace_ms = max(1, int(deadline_s * 1000)), int(grace_s * 1000)
        id_ = PredictionId.new(spec.name)
        retain_ms = self._unseen_ms
        if name is not None:
            when_gone, retain_ms = None, self._kept_ms
            id_, earlier = await self._again(name, id_, deadline_ms + grace_ms, wait_s)
            if earlier is not None:
                return _outcome(earlier, wait_s, self.registry.of(model, earlier.model))
            spec = self.registry.served(id_.model) or spec
        recalled = None
        try:
            if spec.cache.enabled:
                recalled = await self._caching.recall(
                    spec, id_, rows, truncate=truncate, options=options, asker=asker
                )
                if recalled.reply is not None and name is None:
                    reply = recalled.reply
                    return Outcome(
                        reply.outputs, reply.version, None, self.registry.of(model, spec.name)
                    )
            identity, parts = work_of(
                spec,
                rows,
                recalled,
                now_ms=now_ms,
                deadline_ms=deadline_ms,
                truncate=truncate,
                options=options,
            )
            submission = Submission(
                id_,
                lane,
                parts,
                now_ms,
                deadline_ms,
                retain_ms,
                self._waits.channel,
                identity=identity,
                hits=b"" if recalled is None or name is None else recalled.packed,
                grace_ms=grace_ms,
            )
            if recalled is not None and recalled.reply is not None:
                await self._writer.enqueue(submission)
                replies: tuple[Reply, ...] = (recalled.reply,)
            else:
                self._repository.check(spec.name)
                replies = await self._waits.wait(submission, wait_s, when_gone)
        except (LaneFull, InvalidInput, ModelUnloaded) as error:
            await self._refused(name, id_)
            if recalled is not None:
                recalled.place(error)
            raise
        if not replies:
            if self._waits.abandoned:
                if name is None:
                    self._canceler.cancel_soon(id_)  # nobody can come back for it
                raise Unavailable(
                    "This gateway stops before the prediction is done. Send it again.",
                    retry_after_s=DEFAULT_RETRY_S,
                )
            why = await self._repository.why_idle(spec.name)
            raise DeadlineExceeded(
                f"The prediction was not done within {wait_s:g} s. {why}".strip()
            )
        first = replies[0]
        if first.status is not Status.SUCCEEDED:
            raise raised(first.error if recalled is None else recalled.placed(first.error))
        if model.versions and (recalled is None or recalled.ran_whole):
            self._shadows.copy(model, id_, parts)
        outputs = await self._outputs(replies)
        if recalled is not None:
            outputs = self._caching.learn(spec, recalled, first.version, outputs)
        timing = first.timing if len(replies) == 1 else combined_timing(replies)
        return Outcome(outputs, first.version, timing, self.registry.of(model, spec.name))

    async def create(
        self,
        spec: ModelSpec,
        rows: Sequence[Row],
        *,
        input_json: bytes,
        truncate: bool = False,
        options: Options = DEFAULT_OPTIONS,
        wait_s: float | None = None,
        cancel_after_s: float | None = None,
        name: Name | None = None,
        when_gone: WhenGone | None = None,
        sticky: Sticky | None = None,
        stream: bool = False,
        lane: Lane | None = None,
        asker: Asker | None = None,
    ) -> Prediction:
        """Make a prediction that its client can come back to.

        Args:
            spec: the model.
            rows: at least one.
            input_json: the input as the client sent it, kept with the prediction. The result
                leaves `Prediction.input` out: the caller has it.
            truncate: cut over-long rows.
            options: what is asked of the outputs.
            wait_s: how long to wait for the end of it, a gateway's bound at most; infinity is as
                long as it may take. None doesn't wait at all, and takes the bulk lane unless it
                is a stream.
            cancel_after_s: end it after so long, if that is sooner than the lane's deadline.
            name: what the client calls the request, if it may come again.
            when_gone: asks to be told if the client goes away. Without a name nobody could come
                back for the prediction, as it has no id yet; it is then canceled.
            sticky: tells what the client gives for its requests to stay with one version.
            stream: keep what is generated while it is, for `resume`.
            lane: where it queues, if that is to be another.
            asker: says what the client wants of the cache.

        Returns:
            The prediction as it ended, or with the status `starting`.

        Raises:
            LaneFull: nothing was enqueued.
            ModelUnloaded: likewise; only raised where the client waits.
            Unavailable: Redis is out of reach.
        """
        lane = lane or (Lane.BULK if wait_s is None and not stream else Lane.REALTIME)
        model, spec = spec, self.registry.chosen(spec, sticky, name)
        limits = spec.bulk if lane is Lane.BULK else spec.realtime
        now_ms = self._clock.now_ms()
        # That of a stream is put off once it begins.
        deadline_s = limits.deadline_s if stream else _patience_s(spec, limits)
        deadline_ms = int(min(deadline_s, cancel_after_s or deadline_s) * 1000)
        grace_ms = 0 if cancel_after_s else int(spec.replicas.grace_s * 1000)
        id_ = PredictionId.new(spec.name)
        if name is not None:
            when_gone = None
            id_, earlier = await self._again(name, id_, deadline_ms + grace_ms, wait_s or 0.0)
            if earlier is not None:
                return _shown(earlier, name)
            spec = self.registry.served(id_.model) or spec
        replies: tuple[Reply, ...] = ()
        recalled = None
        try:
            if spec.cache.enabled:
                recalled = await self._caching.recall(
                    spec, id_, rows, truncate=truncate, options=options, asker=asker
                )
            identity, parts = work_of(
                spec,
                rows,
                recalled,
                now_ms=now_ms,
                deadline_ms=deadline_ms,
                truncate=truncate,
                options=options,
                stream=stream,
            )
            submission = Submission(
                id_,
                lane,
                parts,
                now_ms,
                deadline_ms,
                self._kept_ms,
                "" if wait_s is None else self._waits.channel,
                input_json,
                identity,
                b"" if recalled is None else recalled.packed,
                grace_ms,
            )
            if recalled is not None and recalled.reply is not None:
                await self._writer.enqueue(submission)
                replies = (recalled.reply,)
            elif wait_s is None:
                await self._writer.enqueue(submission)
            else:
                self._repository.check(spec.name)
                end_s = (deadline_ms + grace_ms) / 1000
                wait_s = end_s if wait_s == math.inf else min(wait_s, self.sync_wait_s)
                replies = await self._waits.wait(submission, wait_s, when_gone)
        except (LaneFull, InvalidInput, ModelUnloaded) as error:
            await self._refused(name, id_)
            if recalled is not None:
                recalled.place(error)
            raise
        ran = recalled is None or recalled.ran_whole
        if model.versions and ran and (wait_s is None or _succeeded(replies)):
            self._shadows.copy(model, id_, parts)
        if not replies:
            made = Prediction(
                id=id_.text,
                model=id_.model,
                status=Status.STARTING,
                created_at_ms=now_ms,
                deadline_at_ms=now_ms + deadline_ms,
            )
        else:
            made = await self._ended(
                id_,
                replies,
                created_at_ms=now_ms,
                deadline_ms=deadline_ms,
                spec=spec,
                recalled=recalled,
            )
        return _shown(made, name)

    async def stream(
        self,
        spec: ModelSpec,
        rows: Sequence[Row],
        *,
        options: Options,
        input_json: bytes = b"",
        kept: bool = False,
        after: int = 0,
        name: Name | None = None,
        sticky: Sticky | None = None,
    ) -> Stream:
        """Run rows of a model that generates, for somebody who reads while it does.

        What keeps them from being run is raised by the stream, before its first chunk.

        Args:
            spec: the model.
            rows: at least one, as many as one worker takes.
            options: what is asked of the outputs.
            input_json: the input as the client sent it. Where there is any it is kept with the
                prediction, and both as long as what has an id.
            kept: the client can come back for it, so it goes on when the stream is closed; else
                it is canceled then.
            after: sequence of the last chunk that a client has which comes again.
            name: what the client calls the request, if it may come again; it is kept then. Who
                comes again reads the prediction of the first, after what it has.
            sticky: tells what the client gives for its requests to stay with one version.

        Raises:
            InvalidInput: there are more rows than one worker takes.
            NotFound: there is nothing to go on with after `after`.
            ModelUnloaded: the model is; nothing was enqueued.
            Unavailable: Redis is out of reach.
        """
        model, spec = spec, self.registry.chosen(spec, sticky, name)
        wait_s = min(self.sync_wait_s, spec.realtime.deadline_s)
        run_s = spec.generation.timeout_s
        deadline_ms = max(1, int(wait_s * 1000))
        now_ms = self._clock.now_ms()
        grace_ms = int(spec.replicas.grace_s * 1000)
        _, parts = work_of(
            spec,
            rows,
            None,
            now_ms=now_ms,
            deadline_ms=deadline_ms,
            truncate=False,
            options=options,
            stream=True,
        )
        id_ = PredictionId.new(spec.name)
        if name is not None:
            kept = True
            ttl_ms = deadline_ms + grace_ms + self._kept_ms
            claimed = await self._repeats.claim(name, id_, ttl_ms=ttl_ms)
            if claimed != id_ and await self._repeats.follow(claimed, 0.0) is not None:
                return await self._resumed(claimed, after=after)
            id_ = claimed
            spec = self.registry.served(id_.model) or spec
        if after:
            await self._refused(name, id_)
            raise NotFound(
                "There is no stream to go on with, or no longer: it takes the Idempotency-Key of "
                "the request that began it. Leave Last-Event-ID out to begin anew.",
                param="Last-Event-ID",
            )
        try:
            self._repository.check(spec.name)
        except ModelUnloaded:
            await self._refused(name, id_)
            raise
        submission = Submission(
            id_,
            Lane.REALTIME,
            parts,
            now_ms,
            deadline_ms,
            self._kept_ms if kept or input_json else self._unseen_ms,
            self._waits.channel,
            input_json,
            grace_ms=grace_ms,
        )
        return self._streams.open(
            submission,
            rows=len(rows),
            wait_s=wait_s + grace_ms / 1000,
            run_s=run_s,
            of=self.registry.of(model, spec.name),
            kept=kept,
        )

    async def resume(self, text: str, *, after: int = 0) -> Stream:
        """Read what a prediction generates, or has generated, on from an event of it.

        Args:
            text: its id.
            after: sequence of the last chunk that the client has; 0 if it has none.

        Raises:
            InvalidInput: `after` can't be.
            NotFound: there is no such prediction, or its retention is over.
            Unavailable: Redis is out of reach.
        """
        return await self._resumed(await self._meant(text), after=after)

    async def _resumed(self, id_: PredictionId, *, after: int) -> Stream:
        spec = self.registry.served(id_.model)
        stream = await self._streams.resume(
            id_,
            after=after,
            run_s=GenerationTable().timeout_s if spec is None else spec.generation.timeout_s,
            of=self.registry.named(id_.model),
        )
        if stream is None:
            raise NotFound(f"There is no prediction {id_.text!r}, or no longer.")
        return stream

    async def prediction(self, text: str) -> Prediction:
        """A prediction by its id.

        Raises:
            NotFound: there is none, or its retention is over.
            Unavailable: Redis is out of reach.
        """
        id_ = await self._meant(text)
        try:
            prediction = await self._reads.run(lambda: self._records.prediction(id_))
        except LookupError:
            prediction = None
        if prediction is None:
            raise NotFound(f"There is no prediction {text!r}, or no longer.")
        return msgspec.structs.replace(prediction, id=text)

    async def cancel(self, text: str) -> Prediction:
        """Cancel a prediction; one that has ended already stays as it is.

        Returns:
            The prediction as it is then.

        Raises:
            NotFound: there is none, or its retention is over.
            Unavailable: Redis is out of reach; nothing is known to have been canceled.
        """
        id_ = await self._meant(text)
        await self._reads.run(lambda: self._canceler.cancel(id_))
        return await self.prediction(text)

    async def forget(self, text: str) -> None:
        """Delete a prediction; what it is doing is canceled.

        Raises:
            NotFound: it has never been.
            Unavailable: Redis is out of reach; what was deleted is not known.
        """
        id_ = await self._meant(text)
        await self._reads.run(lambda: self._canceler.cancel(id_))
        await self._reads.run(lambda: self._records.forget(id_))

    def abandon(self) -> None:
        """End all waits: this gateway stops, and is out of time. What has an id goes on."""
        self._waits.abandon()

    async def _meant(self, text: str) -> PredictionId:
        """The prediction that an id means, ours or a client's."""
        try:
            return PredictionId.parse(text)
        except NotFound:
            return await self._repeats.resolve(text)

    async def _refused(self, name: Name | None, id_: PredictionId) -> None:
        """Nothing was enqueued: what the name was claimed for is not there."""
        if name is not None:
            await self._repeats.release(name, id_)

    async def _again(
        self, name: Name, id_: PredictionId, within_ms: int, wait_s: float
    ) -> tuple[PredictionId, Prediction | None]:
        """Claim a name; returns the id it stands for, and its prediction if there is one."""
        claimed = await self._repeats.claim(name, id_, ttl_ms=within_ms + self._kept_ms)
        if claimed == id_:
            return id_, None
        try:
            return claimed, await self._repeats.follow(claimed, min(wait_s, self.sync_wait_s))
        except LookupError:
            raise ForebayError(
                "The result was too large to be kept beside it, and is gone."
            ) from None

    async def _ended(
        self,
        id_: PredictionId,
        replies: tuple[Reply, ...],
        *,
        created_at_ms: int,
        deadline_ms: int,
        spec: ModelSpec,
        recalled: Recall | None,
    ) -> Prediction:
        first = replies[0]
        outputs: Sequence[Output] = ()
        status, error = first.status, first.error
        if recalled is not None:
            error = recalled.placed(error)
        if status is Status.SUCCEEDED:
            try:
                outputs = await self._outputs(replies)
                if recalled is not None:
                    outputs = self._caching.learn(spec, recalled, first.version, outputs)
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
            steps=first.steps
            if len(replies) == 1
            else added_up([step for reply in replies for step in reply.steps]),
        )

    async def _outputs(self, replies: tuple[Reply, ...]) -> Sequence[Output]:
        if len(replies) == 1 and replies[0].spilled is None:
            return replies[0].outputs
        try:
            return await self._reads.run(lambda: self._records.outputs(replies))
        except LookupError:
            raise ForebayError(
                "The result was too large to be sent at once, and is gone."
            ) from None


def _patience_s(spec: ModelSpec, limits: LaneLimits) -> float:
    """How long a prediction may take of which nothing is told before its end, seconds."""
    if spec.task is Task.GENERATION:
        return limits.deadline_s + spec.generation.timeout_s
    return limits.deadline_s


def _succeeded(replies: Sequence[Reply]) -> bool:
    return bool(replies) and replies[0].status is Status.SUCCEEDED


def _outcome(prediction: Prediction, waited_s: float, of: str | None) -> Outcome:
    """The outcome of a request that came again.

    Raises:
        ForebayError: by kind, why there is none.
    """
    if not prediction.status.terminal:
        raise DeadlineExceeded(f"The prediction was not done within {waited_s:g} s.")
    if prediction.status is not Status.SUCCEEDED:
        raise raised(prediction.error)
    return Outcome(prediction.outputs, prediction.version, prediction.timing, of)


def _shown(prediction: Prediction, name: Name | None) -> Prediction:
    """A prediction under the id that its client knows."""
    if name is None or name.shown is None:
        return prediction
    return msgspec.structs.replace(prediction, id=name.shown)
