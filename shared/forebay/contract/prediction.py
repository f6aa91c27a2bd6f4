"""The prediction, Forebay's job object, and the one state machine that owns its status.

    starting ──▶ processing ──▶ succeeded
        │             ├───────▶ failed
        │             ├───────▶ canceled
        └─────────────┴───────▶ expired

The first terminal status wins; a later one is dropped. Inside Redis the same rule is kept by
`settle.lua` and `finish.lua`, which the property tests hold against `Status.may_become`.
"""

import hashlib
import re
import secrets
from collections.abc import Sequence
from enum import StrEnum
from typing import Any

import msgspec

from forebay.contract.errors import ErrorInfo, NotFound
from forebay.contract.rows import Output


class Lane(StrEnum):
    """A model's two queues: `realtime`, where somebody waits, and `bulk`, where nobody does."""

    REALTIME = "realtime"
    BULK = "bulk"


class Status(StrEnum):
    """Where a prediction is in its life."""

    STARTING = "starting"
    PROCESSING = "processing"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"
    EXPIRED = "expired"

    @property
    def terminal(self) -> bool:
        """Whether nothing can follow."""
        return self in TERMINAL

    def may_become(self, other: "Status") -> bool:
        """Whether `other` is a legal next status."""
        if self.terminal:
            return False
        if self is Status.STARTING:
            return other is not Status.STARTING
        return other.terminal


TERMINAL = frozenset({Status.SUCCEEDED, Status.FAILED, Status.CANCELED, Status.EXPIRED})

MAX_PART_ROWS = 256
"""A prediction with more rows than this is enqueued in parts, so that no worker owns it whole."""

MAX_PART_BYTES = 262_144
"""Nor does a part have more payload than this, unless one row alone has: a worker holds several."""

_ID = re.compile(
    r"(?P<model>[a-z0-9][a-z0-9._-]*(?:@[a-z0-9][a-z0-9._-]*)?)-(?P<shard>[0-9]{1,5})-[0-9a-f]{20}"
    r"(?P<owner>[0-9a-f]{12})?"
)


class PredictionId(msgspec.Struct, frozen=True):
    """A prediction's id, taken apart. Clients treat the text as opaque.

    The id carries model and shard, so any gateway finds the record without an index. `model` is
    what the version is served under: `minilm`, or `minilm@v2`. `owner` is the id of the API key
    that it was made with, and ends the text; empty where none was asked for.
    """

    text: str
    model: str
    shard: int
    owner: str = ""

    @classmethod
    def new(cls, model: str, shard: int = 0, *, owner: str = "") -> "PredictionId":
        """A fresh id with 80 random bits."""
        return cls(f"{model}-{shard}-{secrets.token_hex(10)}{owner}", model, shard, owner)

    @classmethod
    def derived(cls, model: str, key: str, shard: int = 0) -> "PredictionId":
        """The id of what is known by a key elsewhere: the same for the same key, always."""
        return cls(f"{model}-{shard}-{hashlib.sha256(key.encode()).hexdigest()[:20]}", model, shard)

    @classmethod
    def parse(cls, text: str) -> "PredictionId":
        """Take an id apart.

        Raises:
            NotFound: the text is no id of Forebay's.
        """
        match = _ID.fullmatch(text)
        if match is None:
            raise NotFound(f"There is no prediction {text[:80]!r}: that is not a prediction id.")
        return cls(text, match["model"], int(match["shard"]), match["owner"] or "")


class Timing(msgspec.Struct, frozen=True):
    """Where a computation's time went, in milliseconds.

    Attributes:
        queue_ms: from enqueue until a worker held it.
        batch_ms: from then until its first micro-batch began.
        compute_ms: from then until its last row was done.
    """

    queue_ms: float = msgspec.field(name="q")
    batch_ms: float = msgspec.field(name="b")
    compute_ms: float = msgspec.field(name="c")


class StepTime(msgspec.Struct, frozen=True):
    """What a pipeline's calls of one of its steps came to.

    Times are sums over calls, and a call of several parts counts the longest of them: where calls
    follow one another they add up to what the pipeline waited for, where they overlap to more.

    Attributes:
        model: the step.
        calls: how often it was called.
        rows: of all calls.
        queue_ms: from enqueue until a micro-batch began.
        run_ms: from then until the last row was done.
    """

    model: str = msgspec.field(name="m")
    calls: int = msgspec.field(name="c")
    rows: int = msgspec.field(name="n")
    queue_ms: float = msgspec.field(name="q")
    run_ms: float = msgspec.field(name="r")

    def plus(self, other: "StepTime") -> "StepTime":
        """Both together."""
        return StepTime(
            self.model,
            self.calls + other.calls,
            self.rows + other.rows,
            self.queue_ms + other.queue_ms,
            self.run_ms + other.run_ms,
        )


def added_up(times: Sequence[StepTime]) -> tuple[StepTime, ...]:
    """One for each step, in the order in which they were first called."""
    if not times:
        return ()
    steps: dict[str, StepTime] = {}
    for time in times:
        known = steps.get(time.model)
        steps[time.model] = time if known is None else known.plus(time)
    return tuple(steps.values())


class Place(msgspec.Struct, frozen=True):
    """Where a prediction stands in its lane.

    Attributes:
        rows_ahead: rows that go before it, as far as can be told: realtime goes before bulk, and
            rows of like length may go together.
        wait_s: until its turn, by how fast workers were lately; None if nobody can tell.
    """

    rows_ahead: int
    wait_s: float | None


class Prediction(msgspec.Struct, frozen=True):
    """One request for a model's output, as read back from its record.

    Attributes:
        id: the opaque id.
        model: what its version is served under: the name in `models.toml`, or `NAME@VERSION`.
        version: short digest of the artifact that answered, once one has.
        status: see the module docstring.
        created_at_ms: Unix time in ms; likewise the other `_at_ms` fields.
        input: the input as the client sent it; None where no id was given out.
        outputs: one output a row, in the order of the rows, once succeeded.
        error: what went wrong, for `failed`, `canceled` and `expired`.
        timing: None until a worker has run it.
        place: in its lane, while it waits there.
        retry_of: id of the prediction whose dead letter was replayed as this one.
        steps: of a pipeline that has succeeded.
        logs: what its code has said of it, lines each with its end.
    """

    id: str
    model: str
    status: Status
    created_at_ms: int
    deadline_at_ms: int
    version: str | None = None
    started_at_ms: int | None = None
    completed_at_ms: int | None = None
    input: Any = None
    outputs: tuple[Output, ...] = ()
    error: ErrorInfo | None = None
    timing: Timing | None = None
    place: Place | None = None
    retry_of: str | None = None
    steps: tuple[StepTime, ...] = ()
    logs: str = ""
