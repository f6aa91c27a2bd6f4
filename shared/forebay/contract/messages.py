"""What travels on lanes and reply channels: frozen, versioned msgpack maps with short keys.

Gateway and worker of neighbouring releases read each other's messages: fields are only added,
with defaults, and unknown ones are ignored. `WIRE_VERSION` changes when that can't hold; a
message of another version is refused, never guessed at. The bytes are pinned by golden files.
"""

from collections.abc import Iterable
from typing import TypeVar

import msgspec

from forebay.contract.caching import CacheKeys
from forebay.contract.errors import ErrorInfo
from forebay.contract.generation import Chunk
from forebay.contract.prediction import Status, StepTime, Timing
from forebay.contract.rows import DEFAULT_OPTIONS, Options, Output, Row

WIRE_VERSION = 1


def _wire_version() -> int:
    """Default of the version field; a factory, because plain defaults are left out on the wire."""
    return WIRE_VERSION


class Computation(msgspec.Struct, frozen=True, omit_defaults=True):
    """Rows for one model with one set of parameters. Does not know who subscribes to it.

    Attributes:
        rows: 1..256 rows.
        enqueued_at_ms: Unix time in ms, by the Redis server's clock.
        deadline_at_ms: likewise; dropped when a batch is formed after this.
        first_row: index in the prediction of the first row, so that errors can name a row.
        truncate: cut an over-long row instead of refusing it.
        traceparent: W3C trace context, if the request is sampled.
        options: what is asked of the rows' outputs.
        stream: somebody reads what is generated while it is.
        cache: where the outputs are to be kept, if they are.
        caller: tells whose it is from others, so that a worker takes turns; 0 if nobody in
            particular's.
    """

    rows: tuple[Row, ...] = msgspec.field(name="r")
    enqueued_at_ms: int = msgspec.field(name="e")
    deadline_at_ms: int = msgspec.field(name="d")
    first_row: int = msgspec.field(name="f", default=0)
    truncate: bool = msgspec.field(name="t", default=False)
    traceparent: str | None = msgspec.field(name="tp", default=None)
    options: Options = msgspec.field(name="o", default=DEFAULT_OPTIONS)
    stream: bool = msgspec.field(name="s", default=False)
    cache: CacheKeys | None = msgspec.field(name="c", default=None)
    caller: int = msgspec.field(name="b", default=0)
    wire: int = msgspec.field(name="v", default_factory=_wire_version)


class Reply(msgspec.Struct, frozen=True, omit_defaults=True):
    """How one part of a prediction ended. The record keeps these very bytes.

    Attributes:
        prediction: id of the prediction.
        status: `succeeded`, or why not.
        outputs: one a row, in order; empty unless succeeded, or where `spilled`.
        version: short digest of the artifact that ran.
        started_at_ms: Unix time in ms at which the first row began to run.
        completed_at_ms: Unix time in ms at which the last row was done.
        spilled: key that holds the outputs (a msgpack array), where they are too big to publish.
        steps: of a pipeline, what its steps took.
        logged: whether its code has said something, which is in the record.
    """

    prediction: str = msgspec.field(name="p")
    status: Status = msgspec.field(name="s")
    completed_at_ms: int = msgspec.field(name="ct")
    part: int = msgspec.field(name="k", default=0)
    outputs: tuple[Output, ...] = msgspec.field(name="o", default=())
    error: ErrorInfo | None = msgspec.field(name="er", default=None)
    version: str | None = msgspec.field(name="mv", default=None)
    started_at_ms: int | None = msgspec.field(name="st", default=None)
    timing: Timing | None = msgspec.field(name="tm", default=None)
    spilled: str | None = msgspec.field(name="sp", default=None)
    steps: tuple[StepTime, ...] = msgspec.field(name="ss", default=())
    logged: bool = msgspec.field(name="lg", default=False)
    wire: int = msgspec.field(name="v", default_factory=_wire_version)


class UnknownWireVersionError(ValueError):
    """The message was written by a release whose wire format this one does not know."""


_encoder = msgspec.msgpack.Encoder()
_computation = msgspec.msgpack.Decoder(Computation)
_reply = msgspec.msgpack.Decoder(Reply)
_chunk = msgspec.msgpack.Decoder(Chunk)
_published = msgspec.msgpack.Decoder(tuple[msgspec.Raw, ...])
_outputs = msgspec.msgpack.Decoder(tuple[Output, ...])

T = TypeVar("T")
M = TypeVar("M", Computation, Reply)


def encode(message: Computation | Reply | Chunk) -> bytes:
    """The message as msgpack."""
    return _encoder.encode(message)


def encode_outputs(outputs: Iterable[Output]) -> bytes:
    """Outputs alone, as they are stored beside a reply that is too big to publish."""
    return _encoder.encode(tuple(outputs))


def decode_outputs(data: bytes) -> tuple[Output, ...]:
    """Inverse of `encode_outputs`.

    Raises:
        msgspec.MsgspecError: these bytes are no outputs.
    """
    return _decode(_outputs, data)


def decode_computation(data: bytes) -> Computation:
    """Read a lane entry.

    Raises:
        msgspec.MsgspecError: these bytes are no computation.
        UnknownWireVersionError: they are one of another release.
    """
    return _checked(_decode(_computation, data))


def decode_reply(data: bytes | msgspec.Raw) -> Reply:
    """Read one reply, as a record keeps it.

    Raises:
        msgspec.MsgspecError: these bytes are no reply.
        UnknownWireVersionError: they are one of another release.
    """
    return _checked(_decode(_reply, data))


def decode_chunk(data: bytes | msgspec.Raw) -> Chunk:
    """Read one chunk, as an event stream keeps it.

    Raises:
        msgspec.MsgspecError: these bytes are no chunk.
    """
    return _decode(_chunk, data)


def decode_published(data: bytes) -> tuple[Reply | Chunk, ...]:
    """Read what a reply channel carries: a msgpack array of replies and of chunks.

    Raises:
        msgspec.MsgspecError: these bytes are no array of these.
        UnknownWireVersionError: one of the replies is of another release.
    """
    return tuple(
        decode_chunk(one) if _is_array(one) else decode_reply(one)
        for one in _decode(_published, data)
    )


def decode_replies(data: bytes) -> tuple[Reply, ...]:
    """The replies alone of what a reply channel carries; raises what `decode_published` does."""
    return tuple(one for one in decode_published(data) if isinstance(one, Reply))


def _is_array(message: msgspec.Raw) -> bool:
    """Whether it is a chunk, which is an array as msgpack has it, where a reply is a map."""
    first = memoryview(message)[0]
    return 0x90 <= first <= 0x9F or first in (0xDC, 0xDD)


def _decode(decoder: msgspec.msgpack.Decoder[T], data: bytes | msgspec.Raw) -> T:
    try:
        return decoder.decode(data)
    except (UnicodeDecodeError, RecursionError) as error:
        # The two things msgspec lets through as they are; neither may take a reader down.
        raise msgspec.DecodeError(str(error)) from error


def _checked(message: M) -> M:
    if message.wire != WIRE_VERSION:
        kind = type(message).__name__.lower()
        raise UnknownWireVersionError(f"{kind} has wire version {message.wire}")
    return message
