"""The one way from rows to a lane and back, behind every dialect.

    rows ─▶ Request ─▶ Submitter ─▶ replies ─▶ Endings ─▶ Outcome or Prediction
                           └─▶ Streams ─▶ chunks

`run` is for requests whose client gets a result and no id; `create` for those that get an id, and
whose input and result are therefore kept; `stream` for those that are read while they run.
"""

from collections.abc import Sequence

import msgspec

from forebay.contract.errors import (
    DeadlineExceeded,
    ForebayError,
    NotFound,
    Unavailable,
)
from forebay.contract.generation import GenerationTable
from forebay.contract.model import ModelSpec
from forebay.contract.notices import Notice
from forebay.contract.prediction import Lane, Prediction, PredictionId
from forebay.contract.rows import DEFAULT_OPTIONS, Options, Row
from forebay.gateway.access import visitor
from forebay.gateway.bundles import Bundles, may_join
from forebay.gateway.caching import Caching
from forebay.gateway.endings import Endings, outcome_of
from forebay.gateway.errors import DEFAULT_RETRY_S
from forebay.gateway.kept import Kept, none_such
from forebay.gateway.metered import Meter, Predicting
from forebay.gateway.names import Name
from forebay.gateway.patience import Patience
from forebay.gateway.reads import Reads
from forebay.gateway.recall import Asker
from forebay.gateway.registry import Registry
from forebay.gateway.repeats import Repeats
from forebay.gateway.repository import Repository
from forebay.gateway.semantic import Semantic
from forebay.gateway.shadows import Shadows
from forebay.gateway.split import Sticky
from forebay.gateway.streaming import Outcome, Stream, Streams
from forebay.gateway.submitting import Submitter
from forebay.gateway.waits import Waits, WhenGone
from forebay.gateway.work import Request
from forebay.lanes.cancel import Canceler
from forebay.lanes.events import Events
from forebay.lanes.lane import LaneWriter, caller_of
from forebay.lanes.predictions import Records
from forebay.lanes.readers import Readers
from forebay.lanes.replies import Inbox
from forebay.runtime.clock import Clock
from forebay.runtime.settings import Settings
from forebay.runtime.tracing import current


class Dispatch:
    """Enqueues rows and waits for what comes of them.

    Args:
        settings: waits and retentions.
        registry: finds models.
        writer: the way in.
        inbox: the way out.
        records: predictions as they were stored.
        events: what they have generated so far.
        readers: of streams that end with them.
        canceler: ends those that nobody wants any more.
        repeats: leads requests that come again to the first one's prediction.
        reads: how to ask Redis outside the hot path.
        clock: the server's clock.
        shadows: copies requests to versions that answer nobody.
        caching: answers what was answered before.
        semantic: knows which prompts are alike.
        repository: knows what is unloaded.
        lane: where requests queue that don't say.
        meter: counts predictions, if anybody does.

    Attributes:
        kept: predictions that were made, by their ids.
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
        readers: Readers,
        canceler: Canceler,
        repeats: Repeats,
        reads: Reads,
        clock: Clock,
        shadows: Shadows,
        caching: Caching,
        semantic: Semantic,
        repository: Repository,
        lane: Lane = Lane.REALTIME,
        meter: Meter | None = None,
    ) -> None:
        self._lane = lane
        self._meter = meter
        # Where somebody waits, nobody waits for others.
        self._bundles = Bundles(self._run) if lane is Lane.BULK else None
        self.max_inputs = settings.max_inputs
        self.sync_wait_s = settings.sync_wait_s
        self.registry = registry
        self._waits = Waits(writer, inbox, canceler)
        self._canceler = canceler
        self.kept = Kept(records, canceler, repeats, reads)
        self._clock = clock
        self._repository = repository
        self._endings = Endings(records, reads, caching)
        self._streams = Streams(
            self._waits,
            events,
            canceler,
            reads,
            readers,
            self._endings.outputs,
            repository.why_idle,
        )
        self._submitter = Submitter(
            settings=settings,
            registry=registry,
            writer=writer,
            waits=self._waits,
            repeats=repeats,
            shadows=shadows,
            caching=caching,
            semantic=semantic,
            repository=repository,
        )

    async def run(
        self,
        spec: ModelSpec,
        rows: Sequence[Row],
        *,
        truncate: bool = False,
        options: Options = DEFAULT_OPTIONS,
        lane: Lane | None = None,
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
            lane: where they queue, if that is to be another.
            timeout_s: how long it may take, if that is less than this gateway's own bounds; a text
                may take its model's.
            name: what the client calls the request, if it may come again.
            when_gone: asks to be told if the client goes away; the rows are then canceled, unless
                it may come again.
            sticky: tells what the client gives for its requests to stay with one version.
            asker: says what the client wants of the cache, and whose turn this is on a full lane.

        Raises:
            ForebayError: by kind, what kept the rows from being run, or one of them from
                succeeding; `row` is its index.
        """
        lane = lane or self._lane
        visitor.check(spec.name, lane, len(rows))
        version = self.registry.chosen(spec, sticky, name)
        request = Request(
            model=spec,
            spec=version,
            id=_id_of(version, name),
            rows=rows,
            lane=lane,
            now_ms=self._clock.now_ms(),
            patience=Patience.to_run(version, lane, timeout_s, sync_wait_s=self.sync_wait_s),
            truncate=truncate,
            options=options,
            kept=name is not None and name.claimed,
            name=name,
            asker=asker,
            caller=_caller_of(asker),
            trace=current.get(),
        )
        with Predicting(self._meter, spec.name, lane):
            if self._bundles is not None and may_join(request):
                return await self._bundles.run(request, when_gone)
            return await self._run(request, when_gone)

    async def _run(self, request: Request, when_gone: WhenGone | None) -> Outcome:
        name, spec = request.name, request.model
        if name is not None and name.claimed:
            wait_s = request.patience.wait_s
            earlier = await self._submitter.claim(request, name, wait_s)
            if earlier is not None:
                return outcome_of(earlier, wait_s, self.registry.of(spec, earlier.model))
        replies = await self._submitter.submit(request, when_gone)
        if not replies:
            raise await self._in_vain(request)
        of = self.registry.of(spec, request.spec.name)
        return await self._endings.outcome(request, replies, of)

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
        notice: Notice | None = None,
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
            asker: says what the client wants of the cache, and whose turn this is on a full lane.
            notice: whom to tell of it. It is not canceled if the client goes away.

        Returns:
            The prediction as it ended, or with the status `starting`.

        Raises:
            LaneFull: nothing was enqueued.
            ModelUnloaded: likewise; only raised where the client waits.
            Unavailable: Redis is out of reach.
        """
        lane = lane or (Lane.BULK if wait_s is None and not stream else self._lane)
        visitor.check(spec.name, lane, len(rows))
        version = self.registry.chosen(spec, sticky, name)
        request = Request(
            model=spec,
            spec=version,
            id=_id_of(version, name),
            rows=rows,
            lane=lane,
            now_ms=self._clock.now_ms(),
            patience=Patience.to_keep(
                version,
                lane,
                stream=stream,
                wait_s=wait_s,
                cancel_after_s=cancel_after_s,
                sync_wait_s=self.sync_wait_s,
            ),
            truncate=truncate,
            options=options,
            waits=wait_s is not None,
            kept=True,
            input_json=input_json,
            name=name,
            asker=asker,
            caller=_caller_of(asker),
            trace=current.get(),
            stream=stream,
            notice=notice,
        )
        if name is not None and name.claimed:
            earlier = await self._submitter.claim(request, name, request.patience.wait_s)
            if earlier is not None:
                return _shown(earlier, name)
        with Predicting(self._meter, spec.name, lane) as predicting:
            replies = await self._submitter.submit(request, when_gone)
            prediction = await self._endings.prediction(request, replies)
            predicting.outcome = prediction.status.value
        return _shown(prediction, name)

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
        asker: Asker | None = None,
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
            asker: says whose turn this is on a full lane, and whether it may be generated: the
                cache is not asked.

        Raises:
            NotCached: the client wants it cached or not at all.
            InvalidInput: there are more rows than one worker takes.
            NotFound: there is nothing to go on with after `after`.
            ModelUnloaded: the model is; nothing was enqueued.
            Unavailable: Redis is out of reach.
        """
        visitor.check(spec.name, Lane.REALTIME, len(rows))
        version = self.registry.chosen(spec, sticky, name)
        request = Request(
            model=spec,
            spec=version,
            id=PredictionId.new(version.name, owner=visitor.owner()),
            rows=rows,
            lane=Lane.REALTIME,
            now_ms=self._clock.now_ms(),
            patience=Patience.to_read(version, sync_wait_s=self.sync_wait_s),
            options=options,
            kept=kept or name is not None or bool(input_json),
            input_json=input_json,
            name=name,
            stream=True,
            asker=asker,
            caller=_caller_of(asker),
            trace=current.get(),
        )
        if name is not None and await self._submitter.claim(request, name, 0.0) is not None:
            return await self._resumed(request.id, after=after)
        if after:
            await self._submitter.release(request)
            raise NotFound(
                "There is no stream to go on with, or no longer: it takes the Idempotency-Key of "
                "the request that began it. Leave Last-Event-ID out to begin anew.",
                param="Last-Event-ID",
            )
        submission = await self._submitter.streamed(request)
        return self._streams.open(
            submission,
            rows=len(rows),
            wait_s=request.patience.wait_s,
            run_s=version.generation.timeout_s,
            of=self.registry.of(spec, request.spec.name),
            kept=kept or name is not None,
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
        return await self._resumed(await self.kept.meant(text), after=after)

    async def _resumed(self, id_: PredictionId, *, after: int) -> Stream:
        spec = self.registry.served(id_.model)
        stream = await self._streams.resume(
            id_,
            after=after,
            run_s=GenerationTable().timeout_s if spec is None else spec.generation.timeout_s,
            of=self.registry.named(id_.model),
        )
        if stream is None:
            raise none_such(id_.text)
        return stream

    @property
    def abandoned(self) -> bool:
        """Whether this gateway stops, so that a wait may have ended before its time."""
        return self._waits.abandoned

    def abandon(self) -> None:
        """End all waits: this gateway stops, and is out of time. What has an id goes on."""
        self._waits.abandon()

    async def _in_vain(self, request: Request) -> ForebayError:
        """The error of a client that has waited for no reply."""
        if self._waits.abandoned:
            if request.name is None:
                self._canceler.cancel_soon(request.id)  # nobody can come back for it
            return Unavailable(
                "This gateway stops before the prediction is done. Send it again.",
                retry_after_s=DEFAULT_RETRY_S,
            )
        why = await self._repository.why_idle(request.spec.name)
        return DeadlineExceeded(
            f"The prediction was not done within {request.patience.wait_s:g} s. {why}".strip()
        )


def _caller_of(asker: Asker | None) -> str:
    return "" if asker is None else caller_of(asker.behalf())


def _id_of(version: ModelSpec, name: Name | None) -> PredictionId:
    """The id of a request's prediction; of one whose name is claimed, unless it came before."""
    if name is None or name.claimed:
        return PredictionId.new(version.name, owner=visitor.owner())
    return PredictionId.derived(version.name, name.key)


def _shown(prediction: Prediction, name: Name | None) -> Prediction:
    """A prediction under the id that its client knows."""
    if name is None or name.shown is None:
        return prediction
    return msgspec.structs.replace(prediction, id=name.shown)
