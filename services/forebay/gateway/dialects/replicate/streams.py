r"""`GET /v1/predictions/{id}/stream`: what a prediction generates, as Replicate tells it in events.

    event    data                                    when
    output   a piece of the text                     there is more of it
    error    {"detail": what went wrong}             the prediction has failed
    done     {}, or {"reason": error or canceled}    nothing follows

An event's id is the sequence of its chunk: sent as `Last-Event-ID`, at any gateway, it brings what
comes after it.

Lines of these events may end with `\r`, so none can be carried: `\r` and `\r\n` come as `\n`. A
`\r` at the end of a chunk waits for the next, which may begin with `\n`; whoever goes on after that
chunk is told it then.
"""

import contextlib
from collections.abc import AsyncGenerator, Sequence
from typing import Final

import msgspec

from forebay.contract.errors import ErrorKind, ForebayError, InvalidInput
from forebay.contract.generation import Chunk
from forebay.contract.rows import Generated, Output, Task
from forebay.contract.versions import model_of
from forebay.gateway.dispatch import Dispatch
from forebay.gateway.errors import Fault, fault_of
from forebay.gateway.http import Call, Header, to_json, told
from forebay.gateway.sse import EventStream, event, sequence_of
from forebay.gateway.streaming import Stream

_CANCELED: Final = frozenset({ErrorKind.CANCELED, ErrorKind.DEADLINE_EXCEEDED})
"""Kinds of an end that this API knows as `canceled`."""


class Detail(msgspec.Struct, frozen=True):
    """Data of an `error` event."""

    detail: str


class Reason(msgspec.Struct, frozen=True, omit_defaults=True):
    """Data of a `done` event; none where the prediction has succeeded."""

    reason: str | None = None


class Streams:
    """Tells predictions while they are generated, and after.

    Args:
        dispatch: reads them.
    """

    def __init__(self, dispatch: Dispatch) -> None:
        self._dispatch = dispatch

    async def get(self, call: Call) -> EventStream:
        """Tell one.

        Raises:
            InvalidInput: `Last-Event-ID` is no event's.
        """
        reading = _Reading(
            self._dispatch, call.path_param("id"), sequence_of(call.header(b"last-event-id"))
        )
        return EventStream(reading.events(), reading.end, reading.headers)


class _Reading:
    """One reader of one prediction.

    Args:
        dispatch: reads it.
        prediction: its id, as the client has it.
        after: sequence of the last event that the client has; 0 if it has none.
    """

    def __init__(self, dispatch: Dispatch, prediction: str, after: int) -> None:
        self._dispatch = dispatch
        self._prediction = prediction
        self._last = after
        self._stream: Stream | None = None

    async def events(self) -> AsyncGenerator[bytes, None]:
        """An event for each chunk; of a text that was not made as a stream, one for all of it.

        Raises:
            NotFound: there is no such prediction, or its retention is over.
            InvalidInput: it generates no text.
            Unavailable: Redis is out of reach.
        """
        stream = await self._dispatch.resume(self._prediction, after=self._last)
        with contextlib.closing(stream):
            self._check(stream)
            self._stream = stream
            try:
                held = "" if stream.before is None else split(stream.before)[1]
                async for chunk in stream:
                    if chunk.row:
                        raise _several()
                    text, held = split(chunk, held)
                    if text or not held:
                        self._last = chunk.sequence
                    if text:
                        yield self._output(text)
                if not self._last and stream.outcome is not None:
                    text = _text(stream.outcome.outputs)
                    self._last = 1
                    yield self._output(text)
                yield self._event("done", Reason())
            except ForebayError as error:
                # An answer that is no stream would tell a client of this API nothing.
                yield self.end(fault_of(error))

    def end(self, fault: Fault) -> bytes:
        """The events that tell why there is no more."""
        if fault.kind is ErrorKind.CANCELED:
            return self._event("done", Reason("canceled"))
        reason = Reason("canceled" if fault.kind in _CANCELED else "error")
        return self._event("error", Detail(fault.message)) + self._event("done", reason)

    def headers(self) -> tuple[Header, ...]:
        """What is known by the first event."""
        return () if self._stream is None else told(None, self._stream.of)

    def _check(self, stream: Stream) -> None:
        model = model_of(stream.id.model)
        spec = self._dispatch.registry.models.get(model)
        if spec is not None and spec.task is not Task.GENERATION:
            raise InvalidInput(
                f"{model!r} generates no text that could be told piece by piece: get the "
                "prediction by its id."
            )

    def _output(self, text: str) -> bytes:
        return event(text.encode(), id_=str(self._last), name="output")

    def _event(self, name: str, data: msgspec.Struct) -> bytes:
        # This API's client drops events without an id.
        return event(to_json(data), id_=str(self._last), name=name)


def split(chunk: Chunk, held: str = "") -> tuple[str, str]:
    """What can be told of a chunk's text, and what waits for the next.

    Args:
        chunk: whose text it is.
        held: what waited for it.
    """
    text = held + chunk.text
    if chunk.finish is None and text.endswith("\r"):
        return text[:-1], "\r"
    return text, ""


def _text(outputs: Sequence[Output]) -> str:
    if len(outputs) > 1:
        raise _several()
    (output,) = outputs
    if not isinstance(output, Generated):
        raise ForebayError("The model answered with something that is no text.")
    return output.text


def _several() -> InvalidInput:
    return InvalidInput(
        "This prediction has several texts, which these events can't tell apart: get it by its "
        "id, or send the request again with its Idempotency-Key."
    )
