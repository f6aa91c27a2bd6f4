"""A request on its way to a lane, and what of it is put there."""

from collections.abc import Sequence

import msgspec

from forebay.contract.errors import ErrorInfo, InvalidInput
from forebay.contract.messages import Reply
from forebay.contract.model import ModelSpec
from forebay.contract.notices import Notice
from forebay.contract.prediction import MAX_PART_BYTES, MAX_PART_ROWS, Lane, PredictionId
from forebay.contract.rows import Options, Row, Task
from forebay.gateway import cache_control
from forebay.gateway.cache_control import Directives
from forebay.gateway.names import Name
from forebay.gateway.patience import Patience
from forebay.gateway.recall import Asker, Recall
from forebay.lanes.lane import Part
from forebay.lanes.parts import identity_of, parts_of
from forebay.runtime.tracing import Trace


class Request(msgspec.Struct, kw_only=True):
    """What a client asks for, and how far it has come.

    Attributes:
        model: as the client names it.
        spec: the version that it goes to; that of the first request where it came again.
        id: of its prediction; likewise.
        rows: at least one.
        lane: where they queue.
        now_ms: when it was made, Unix time by the Redis server's clock.
        patience: how long it may take.
        truncate: cut over-long rows.
        options: what is asked of the outputs.
        waits: its client waits for replies.
        kept: its client can come back for it, so that input and result are kept.
        input_json: the input as the client sent it.
        name: what the client calls it, if it may come again.
        asker: says what the client wants of the cache.
        stream: somebody reads what is generated while it is; then one worker runs all of it.
        said: as `wants`, once that was read.
        recalled: what the cache has for it; None while, or where, it was not asked.
        joined: whether it has joined what another has under way.
        parts: what runs of it, once that is known.
        notice: whom to tell of it, if anybody.
        caller: whose it is, see `Submission`.
        trace: what it belongs to, where that is recorded.
        traceparent: of its way onto the lane, packed; workers go on from there.
    """

    model: ModelSpec
    spec: ModelSpec
    id: PredictionId
    rows: Sequence[Row]
    lane: Lane
    now_ms: int
    patience: Patience
    options: Options
    kept: bool
    waits: bool = True
    truncate: bool = False
    input_json: bytes = b""
    name: Name | None = None
    asker: Asker | None = None
    stream: bool = False
    said: Directives | None = None
    recalled: Recall | None = None
    joined: bool = False
    parts: tuple[Part, ...] = ()
    notice: Notice | None = None
    caller: str = ""
    trace: Trace | None = None
    traceparent: str | None = None

    @property
    def wants(self) -> Directives:
        """What its client wants of the cache, and of joining others."""
        if self.said is None:
            asker = self.asker
            self.said = (
                cache_control.NONE if asker is None else cache_control.read(asker.cache_control())
            )
        return self.said

    @property
    def answered(self) -> Reply | None:
        """The whole reply, where the cache has it."""
        return None if self.recalled is None else self.recalled.reply

    @property
    def ran_whole(self) -> bool:
        """Whether all rows run: only then can a shadow's answers be compared with theirs."""
        return self.recalled is None or self.recalled.ran_whole

    def placed(self, error: ErrorInfo | None) -> ErrorInfo | None:
        """An error of a row that ran, by the row's index in the request."""
        return error if self.recalled is None else self.recalled.placed(error)


def work_of(request: Request) -> tuple[bytes, tuple[Part, ...]]:
    """Identity and parts of what is to run: of the rows only that the cache has nothing for.

    Raises:
        InvalidInput: a stream is more than one worker takes.
        TooLong: a text is longer than any model takes, and may not be cut.
    """
    rows, options, truncate = request.rows, request.options, request.truncate
    scope: bytes | None = b""
    keys = None
    if request.recalled is not None:
        rows, scope, keys = request.recalled.rows, request.recalled.scope, request.recalled.keys
        if not rows:
            return b"", ()
    identity = b""
    if (
        _joins(request.spec, options)
        and scope is not None
        and not request.stream
        and not request.wants.alone
    ):
        identity = identity_of(rows, truncate=truncate, options=options, scope=scope)
    parts = parts_of(
        rows,
        now_ms=request.now_ms,
        deadline_ms=request.patience.deadline_ms,
        truncate=truncate,
        options=options,
        traceparent=request.traceparent,
        stream=request.stream,
        cache=keys,
        caller=request.caller,
    )
    if request.stream and len(parts) > 1:
        raise InvalidInput(  # its chunks are numbered by who runs it
            f"A stream takes {MAX_PART_ROWS} rows and {MAX_PART_BYTES:,} bytes of them at most: "
            "send several requests, or ask without a stream."
        )
    return identity, parts


def _joins(spec: ModelSpec, options: Options) -> bool:
    """Whether the very same may be run once for all who ask for it at once."""
    if spec.task is not Task.GENERATION:
        return spec.joins
    # Who has tokens drawn by chance asks for a text of his own.
    return spec.joins and options.sampling is not None and options.sampling.repeatable
