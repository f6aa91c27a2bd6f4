"""A request's way onto its lane, and the replies to it while its client waits.

    claim ─fresh─▶ recall ─▶ work_of ─▶ Submission ─▶ LaneWriter ─▶ ⋯ ─▶ Waiter.future ─▶ replies
      └─ taken        └─ all of it is cached: the reply is there

A request that is refused gives its name back: it may come again as if for the first time.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from forebay.contract.errors import ForebayError, InvalidInput, LaneFull
from forebay.contract.messages import Reply
from forebay.contract.prediction import Prediction, Status
from forebay.gateway import cache_control
from forebay.gateway.caching import Caching
from forebay.gateway.names import Name
from forebay.gateway.recall import not_cached
from forebay.gateway.registry import Registry
from forebay.gateway.repeats import Repeats
from forebay.gateway.repository import ModelUnloaded, Repository
from forebay.gateway.semantic import Semantic
from forebay.gateway.shadows import Shadows
from forebay.gateway.traced import SendSpan
from forebay.gateway.waits import Waits, WhenGone
from forebay.gateway.work import Request, work_of
from forebay.lanes.lane import JOINED, LaneWriter, Submission
from forebay.runtime.settings import Settings
from forebay.runtime.tracing import active

REFUSALS: Final = (LaneFull, InvalidInput, ModelUnloaded)
"""What is raised where nothing was enqueued, so that the name of the request is free again."""


class Submitter:
    """Puts requests on their lanes.

    Args:
        settings: retentions, and the bound on waits.
        registry: finds versions.
        writer: the way in.
        waits: for what was enqueued.
        repeats: leads requests that come again to the first one's prediction.
        shadows: copies requests to versions that answer nobody.
        caching: answers what was answered before.
        semantic: knows which prompts are alike.
        repository: knows what is unloaded.
    """

    def __init__(
        self,
        *,
        settings: Settings,
        registry: Registry,
        writer: LaneWriter,
        waits: Waits,
        repeats: Repeats,
        shadows: Shadows,
        caching: Caching,
        semantic: Semantic,
        repository: Repository,
    ) -> None:
        self._registry = registry
        self._writer = writer
        self._waits = waits
        self._repeats = repeats
        self._shadows = shadows
        self._caching = caching
        self._semantic = semantic
        self._repository = repository
        self._sync_wait_s = settings.sync_wait_s
        self._kept_ms = int(settings.result_retention_s * 1000)
        self._unseen_ms = int(settings.unseen_retention_s * 1000)

    async def claim(self, request: Request, name: Name, wait_s: float) -> Prediction | None:
        """Claim a request's name; returns the prediction it stands for, if there is one.

        The request takes that one's id and version: where its first died before it was enqueued,
        this one is, and where it did not, nothing is run twice.

        Args:
            request: that may have come before.
            name: of it.
            wait_s: how long to wait for the prediction's end.

        Raises:
            KeyReused: the name stands for another request.
            ForebayError: the prediction's result is gone.
            Unavailable: Redis is out of reach.
        """
        ttl_ms = request.patience.deadline_ms + request.patience.grace_ms + self._kept_ms
        claimed = await self._repeats.claim(name, request.id, ttl_ms=ttl_ms)
        earlier = None
        if claimed != request.id:
            try:
                earlier = await self._repeats.follow(claimed, min(wait_s, self._sync_wait_s))
            except LookupError:
                raise ForebayError(
                    "The result was too large to be kept beside it, and is gone."
                ) from None
        request.id = claimed
        request.spec = self._registry.served(claimed.model) or request.spec
        return earlier

    async def release(self, request: Request) -> None:
        """Give a request's name back: nothing was enqueued."""
        if request.name is not None and request.name.claimed:
            await self._repeats.release(request.name, request.id)

    async def submit(self, request: Request, when_gone: WhenGone | None) -> tuple[Reply, ...]:
        """Answer a request from the cache, or enqueue it and wait for the replies.

        Args:
            request: whose name, if it has one, is claimed.
            when_gone: asks to be told if the client goes away. What has a name that is claimed goes
                on then.

        Returns:
            One reply for each part; none if they did not all come in time, or nobody waits.

        Raises:
            ForebayError: by kind, why it was not enqueued.
        """
        replies: tuple[Reply, ...] = ()
        try:
            if request.spec.cache.enabled:
                request.recalled = await self._caching.recall(
                    request.spec,
                    request.id,
                    request.rows,
                    now_ms=request.now_ms,
                    truncate=request.truncate,
                    options=request.options,
                    wants=request.wants,
                    asker=request.asker,
                )
                if request.answered is None and request.spec.cache.semantic is not None:
                    # Who doesn't wait for the text isn't held up for this either.
                    near = await self._semantic.near(request) if request.waits else ()
                    await self._caching.resemble(request, near)
                if request.answered is not None:
                    if request.kept:
                        await self._writer.enqueue(self._submission(request))
                    return (request.answered,)
            submission = self._submission(request)
            if request.waits:
                self._repository.check(request.spec.name)
                if request.notice is not None or (
                    request.name is not None and request.name.claimed
                ):
                    when_gone = None  # somebody else may want it
                replies = await self._waits.wait(submission, request.patience.wait_s, when_gone)
            else:
                await self._writer.enqueue(submission)
        except REFUSALS as error:
            await self.release(request)
            if request.recalled is not None:
                request.recalled.place(error)
            raise
        primary_ran = not request.waits or _succeeded(replies)
        if request.model.versions and request.ran_whole and primary_ran:
            self._shadows.copy(request.model, request.id, request.parts)
        return replies

    async def streamed(self, request: Request) -> Submission:
        """What a request for a stream puts on its lane, for who opens the stream.

        Args:
            request: likewise. The cache is not asked: it has nothing to tell bit by bit.

        Raises:
            NotCached: the client wants it cached or not at all.
            InvalidInput: it has more rows than one worker takes.
            ModelUnloaded: the model is.
        """
        try:
            if request.spec.cache.enabled:
                if request.wants.only_if_cached:
                    raise not_cached(request.asker, "A stream is always generated")
                if request.asker is not None:
                    request.asker.tell_cache(
                        cache_control.forwarded("bypass", detail="a stream is always generated")
                    )
            submission = self._submission(request)
            self._repository.check(request.spec.name)
        except REFUSALS:
            await self.release(request)
            raise
        return submission

    def _submission(self, request: Request) -> Submission:
        sent = None
        tracing = None if request.trace is None else active()
        if request.trace is not None and tracing is not None:
            span = SendSpan(tracing, request, request.trace)
            request.traceparent, sent = span.trace.packed, span.sent
        if request.recalled is not None and request.recalled.keys is not None:
            sent = functools.partial(_tell_if_joined, request, sent)
        identity, request.parts = work_of(request)
        kept, recalled, patience = request.kept, request.recalled, request.patience
        notice = request.notice
        if notice is not None and request.traceparent is not None:
            notice = msgspec.structs.replace(notice, trace=request.traceparent)
        return Submission(
            request.id,
            request.lane,
            request.parts,
            request.now_ms,
            patience.deadline_ms,
            self._kept_ms if kept else self._unseen_ms,
            self._waits.channel if request.waits else "",
            request.input_json if kept else b"",
            identity,
            recalled.packed if kept and recalled is not None else b"",
            patience.grace_ms,
            cancel_at_ms=request.now_ms + patience.cancel_ms if patience.cancel_ms else 0,
            notice=b"" if notice is None else notice.packed(),
            caller=request.caller,
            sent=sent,
        )


def _tell_if_joined(
    request: Request,
    also: Callable[[Submission, str], None] | None,
    submission: Submission,
    how: str,
) -> None:
    """Tell the client of a request that rows which are not cached run for another already.

    Args:
        request: that was submitted.
        also: follows it as well.
        submission: of it.
        how: it was taken in, as `Submission.sent` is told.
    """
    if how == JOINED and request.recalled is not None:
        request.joined = True
        request.recalled.tell(collapsed=True)
    if also is not None:
        also(submission, how)


def _succeeded(replies: Sequence[Reply]) -> bool:
    return bool(replies) and replies[0].status is Status.SUCCEEDED
