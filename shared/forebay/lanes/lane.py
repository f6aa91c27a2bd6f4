"""Enqueue, through a coalescer: requests that arrive while a write is under way share the next."""

import asyncio
import functools
import hashlib
import logging
from collections.abc import Callable, Mapping
from typing import Final, Protocol

import msgspec
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError

from forebay.contract.errors import (
    ForebayError,
    InvalidInput,
    LaneFull,
    NotFound,
    Unavailable,
)
from forebay.contract.model import ModelSpec
from forebay.contract.prediction import Lane, PredictionId
from forebay.contract.versions import model_of
from forebay.lanes import scripts
from forebay.lanes.coalescer import Coalescer
from forebay.lanes.keys import Keys, LaneKeys
from forebay.lanes.scripts import EnqueueOutcome
from forebay.runtime.redis import Arg, Channel, Commands, CopiedWrites, NotCopiedError

log = logging.getLogger(__name__)

MAX_WAITING_BYTES = 256_000_000
"""Payload the coalescer holds before it refuses more: the bound on a gateway's memory when Redis
is slower than its clients."""

ELASTIC_ROWS = 4_096
"""Rows that a realtime lane without a bound of its own always takes."""

MAX_BULK_ROWS = 1_000_000
"""Rows that a bulk lane without a bound of its own takes."""

FULL_RETRY_S = 1.0
"""What a client of a full lane is told to wait."""

UNTOLD_RETRY_S = 10.0
"""What a client is told to wait whose webhook would wait behind too many others."""

UNAVAILABLE_RETRY_S = 1.0
"""What a client is told to wait while Redis is out of reach."""


ROW_COST = 512
"""What a row costs beyond its bytes, as so many of those."""

TOKEN_COST = 32
"""What a token costs that is to be generated, likewise."""


JOINED: Final = EnqueueOutcome.JOINED.name.lower()
"""What `Submission.sent` is told of one that has joined another."""


class Part(msgspec.Struct, frozen=True):
    """One lane entry to be.

    Attributes:
        rows: how many it has.
        message: its encoded `Computation`.
        tokens: most that are generated of all its rows.
    """

    rows: int
    message: bytes
    tokens: int = 0

    @property
    def cost(self) -> int:
        """Estimated work, in bytes: what its caller's turn on a full lane pays for it."""
        return len(self.message) + ROW_COST * self.rows + TOKEN_COST * self.tokens


class Submission(msgspec.Struct, frozen=True):
    """A prediction on its way to a lane.

    Attributes:
        created_at_ms: Unix time in ms, by the Redis server's clock.
        deadline_ms: from then.
        grace_ms: by how much later the deadline is if no worker is there.
        reply_channel: where results are published; empty if nobody listens.
        retain_ms: how long the record is kept once the prediction has ended.
        input: the input as the client sent it (JSON), kept where a client has the id.
        identity: what it has in common with all that ask for the very same, so that they may join;
            empty if none may.
        hits: what the response cache has answered of it: the encoded `Hits`, or the whole reply
            where there are no parts; empty if nothing.
        read_until_ms: of a stream that is to end with its reader, until when that one surely is
            there, see `readers`; 0 for all others.
        cancel_at_ms: when it ends at the latest, however much of it was told; 0 for no such time.
        notice: whom to tell of it, packed; empty if nobody.
        caller: whose it is, as `caller_of` has it: callers take turns where a lane is full.
        sent: told once of how it was taken in, where somebody follows it.
    """

    id: PredictionId
    lane: Lane
    parts: tuple[Part, ...]
    created_at_ms: int
    deadline_ms: int
    retain_ms: int
    reply_channel: str = ""
    input: bytes = b""
    identity: bytes = b""
    hits: bytes = b""
    grace_ms: int = 0
    read_until_ms: int = 0
    cancel_at_ms: int = 0
    notice: bytes = b""
    caller: str = ""
    sent: Callable[["Submission", str], None] | None = None

    @property
    def size(self) -> int:
        """Payload in bytes."""
        return sum(len(part.message) for part in self.parts) + len(self.input) + len(self.hits)

    def args(self) -> list[Arg]:
        """This submission as `enqueue.lua` reads it."""
        packed: list[Arg] = [
            self.id.text,
            self.lane.value,
            self.created_at_ms,
            self.deadline_ms,
            self.grace_ms,
            self.reply_channel,
            self.retain_ms,
            self.input,
            self.identity,
            self.read_until_ms or "",
            self.cancel_at_ms or "",
            self.caller,
            len(self.parts),
        ]
        for part in self.parts:
            packed += (part.rows, part.cost, part.message)
        return packed


def caller_of(told: bytes) -> str:
    """What callers are told apart by on lanes: a digest, 16 characters.

    Args:
        told: what the caller sends of itself, as an API key; empty for all who send nothing.
    """
    return hashlib.blake2b(told, digest_size=8).hexdigest() if told else ""


class Done(Protocol):
    """Told once what became of a submission."""

    def __call__(self, error: ForebayError | None, *, known: bool = False) -> None:
        """It is on its lane, or why not.

        Args:
            error: why not; None if it is there.
            known: it was there before, and may have ended since.
        """
        ...


class Health(Protocol):
    """Whether Redis is within reach, kept by whoever watches the connection."""

    @property
    def up(self) -> bool:
        """False while Redis is known to be out of reach."""
        ...

    def suspect(self, error: Exception) -> None:
        """Report a failed command."""
        ...


class LaneWriter:
    """Puts what one process submits onto lanes.

    Args:
        redis: client whose commands are not retried.
        keys: key builder.
        models: specs by name, for the lanes' bounds.
        health: consulted before a submission is taken, told when a write fails.
        replicated: where it is given, writes go through it instead, and none counts before a
            replica has it.
    """

    def __init__(
        self,
        redis: Commands,
        keys: Keys,
        models: Mapping[str, ModelSpec],
        health: Health,
        *,
        replicated: Channel | None = None,
    ) -> None:
        self._redis = redis
        self._replicated = replicated
        self._keys = keys
        self._models = models
        self._health = health
        self._waiting: Coalescer[tuple[Submission, Done]] = Coalescer(
            self._write, prediction=lambda item: item[0].id, size=lambda item: item[0].size
        )

    def submit(self, submission: Submission, done: Done) -> None:
        """Take a submission for the next write.

        Args:
            submission: what to enqueue.
            done: called once, from the event loop, when its fate is known.

        Raises:
            Unavailable: Redis is out of reach, or too slow for what is waiting already.
            InvalidInput: it has more rows than its lane ever holds.
        """
        self._check_fits(submission)
        if not self._health.up:
            raise unavailable()
        if self._waiting.bytes > MAX_WAITING_BYTES:
            raise Unavailable(
                "Redis takes writes more slowly than they come. Try again shortly.",
                retry_after_s=UNAVAILABLE_RETRY_S,
            )
        self._waiting.add((submission, done))

    async def enqueue(self, submission: Submission) -> None:
        """Enqueue and wait until it is on its lane.

        Raises:
            LaneFull: the lane's bound is reached; nothing was enqueued.
            Unavailable: Redis is out of reach.
        """
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def done(error: ForebayError | None, *, known: bool = False) -> None:
            if future.done():
                return
            if error is None:
                future.set_result(None)
            else:
                future.set_exception(error)

        self.submit(submission, done)
        await future

    async def run(self) -> None:
        """Write until cancelled; what is waiting then is still written."""
        await self._waiting.run()

    def _check_fits(self, submission: Submission) -> None:
        spec = self._models.get(submission.id.model)
        if spec is None:
            return  # as its writing will tell
        limits = spec.realtime if submission.lane is Lane.REALTIME else spec.bulk
        rows = sum(part.rows for part in submission.parts)
        if limits.max_rows is not None and rows > limits.max_rows:
            raise InvalidInput(
                f"This has {rows:,} rows, and the {submission.lane.value} lane of "
                f"{model_of(spec.name)!r} never holds more than {limits.max_rows:,}: send fewer at "
                "a time."
            )

    async def _write(self, items: list[tuple[Submission, Done]]) -> None:
        id_ = items[0][0].id
        model = id_.model
        spec = self._models.get(model)
        if spec is None:
            _tell(items, NotFound(f"There is no model {model!r} here.", param="model"))
            return
        keys = self._keys.of_prediction(id_)
        args: list[Arg] = []
        hits: list[Arg] = []
        notices: list[Arg] = []
        for submission, _ in items:
            args += submission.args()
            if submission.hits:
                hits += (submission.id.text, submission.hits)
            if submission.notice:
                notices += (submission.id.text, submission.notice)
        call = functools.partial(
            scripts.enqueue,
            self._commands(keys),
            keys,
            records=[keys.record(submission.id.text) for submission, _ in items],
            bounds=(spec.realtime.max_rows or ELASTIC_ROWS, spec.bulk.max_rows or MAX_BULK_ROWS),
            elastic=spec.realtime.max_rows is None,
            hits=hits,
            notices=notices,
            wake=wake_channel(spec, keys),
            args=args,
        )
        try:
            try:
                outcomes = await call()
            except RedisConnectionError:
                # A connection that broke while it was idle is found out by using it. The script
                # is idempotent by id, so once more does no harm, on a new connection.
                outcomes = await call()
        except asyncio.CancelledError:
            _tell(items, unavailable())
            raise
        except NotCopiedError as error:
            log.warning("enqueue of %d predictions for %s is unsure: %s", len(items), model, error)
            _tell(items, _unconfirmed())
            return
        except (RedisError, OSError) as error:
            if not _refused_by_server(error):
                self._health.suspect(error)
            log.warning("enqueue of %d predictions for %s failed: %s", len(items), model, error)
            _tell(items, unavailable(error))
            return
        except Exception:
            # A bug. Whoever waits must still be told: nobody else would ever tell them.
            log.exception("enqueue of %d predictions for %s failed", len(items), model)
            _tell(items, unavailable())
            return
        for (submission, done), enqueued in zip(items, outcomes, strict=True):
            if submission.sent is not None:
                submission.sent(submission, enqueued.outcome.name.lower())
            if enqueued.outcome is EnqueueOutcome.FULL:
                done(_full(model, submission, enqueued.room_in_ms))
            elif enqueued.outcome is EnqueueOutcome.UNTOLD:
                done(_untold(model))
            else:
                done(None, known=enqueued.outcome is EnqueueOutcome.KNOWN)

    def _commands(self, keys: LaneKeys) -> Commands:
        if self._replicated is None:
            return self._redis
        return CopiedWrites(self._replicated, ("HINCRBY", keys.demand, Lane.REALTIME.value, 0))


def wake_channel(spec: ModelSpec, keys: LaneKeys) -> str:
    """Where to say that no worker is there for a model; empty if one always should be."""
    return keys.wake if spec.replicas.from_zero else ""


def _unconfirmed() -> Unavailable:
    return Unavailable(
        "No replica of the queue has confirmed the write in time. A failover may undo it; try "
        "again shortly.",
        retry_after_s=UNAVAILABLE_RETRY_S,
    )


def _full(model: str, submission: Submission, room_in_ms: int | None) -> LaneFull:
    rows = sum(part.rows for part in submission.parts)
    return LaneFull(
        f"The {submission.lane.value} lane of {model_of(model)!r} has no room for {rows} "
        "more rows. Nothing was enqueued; try again later.",
        retry_after_s=FULL_RETRY_S if room_in_ms is None else room_in_ms / 1000,
    )


def _untold(model: str) -> Unavailable:
    return Unavailable(
        f"Too many events of {model_of(model)!r} wait to be told to webhooks. Nothing was "
        "enqueued. Somebody has to see that a background is running; without `webhook` it is "
        "taken.",
        retry_after_s=UNTOLD_RETRY_S,
    )


def unavailable(error: Exception | None = None) -> Unavailable:
    """The error for a Redis that is out of reach, or takes nothing.

    Args:
        error: what it said, if anything.
    """
    said = str(error) if isinstance(error, ResponseError) else ""
    if said.startswith(("OOM", "command not allowed when used memory")):
        why = "The queue's server is out of memory"
    elif said.startswith(("MISCONF", "Errors writing to the AOF")):
        why = "The queue's server can't write to its disk"
    elif said:
        why = "The queue's server takes no writes just now"
    else:
        why = "The queue is out of reach"
    return Unavailable(
        f"{why}. Nothing is known to have been enqueued; try again shortly.",
        retry_after_s=UNAVAILABLE_RETRY_S,
    )


def _refused_by_server(error: Exception) -> bool:
    return isinstance(error, ResponseError)


def _tell(items: list[tuple[Submission, Done]], error: ForebayError) -> None:
    for _, done in items:
        done(error)
