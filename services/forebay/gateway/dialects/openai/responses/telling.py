"""A response as events. Their numbers follow from its chunks, so that they are the same everywhere.

    number               event
    0                    response.created
    1                    response.queued, in the background only
    then, with chunk 1   response.in_progress, response.output_item.added,
                         response.content_part.added
    FIRST + k - 1        response.output_text.delta, for chunk k
    then                 response.output_text.done, response.content_part.done,
                         response.output_item.done, response.completed or .incomplete
                         or instead of those response.failed

A last chunk that only tells the end is no event. Given a number, the chunk that comes after it is
known without those before, which is how reading goes on at any gateway.

Where tools may be called a chunk may tell a text, calls, or both: items begin with what they have
first, and reading goes on from the first chunk, counting.
"""

from collections.abc import Iterator
from typing import Final

from forebay.contract.generation import Chunk
from forebay.contract.prediction import Prediction, Status
from forebay.contract.rows import Generated
from forebay.contract.tools import CallPiece
from forebay.gateway.dialects.openai.responses.events import (
    ArgumentsDelta,
    ArgumentsDone,
    ErrorEvent,
    ItemEvent,
    PartEvent,
    ResponseEvent,
    SomeEvent,
    TextDelta,
    TextDone,
    encoded,
)
from forebay.gateway.dialects.openai.responses.items import CallItem, output_part
from forebay.gateway.dialects.openai.responses.rendering import (
    begun,
    call_of,
    logprobs_of,
    message_id,
    message_of,
    response_of,
    text_of,
)
from forebay.gateway.dialects.openai.responses.terms import Terms
from forebay.gateway.errors import Fault

_BEGINNING: Final = 4
"""Events before the first delta; one more in the background."""

_END: Final = 4
"""Events after the last delta, at most."""


class Telling:
    """Tells one response in events, each encoded, on from any of them.

    Args:
        prediction: of the response; only its id and when it was made are told before its end.
        terms: what its request said.
        after: number of the last event that the reader has; -1 if it has none. Chunks are to come
            from `chunk_before` on.
    """

    def __init__(self, prediction: Prediction, terms: Terms, *, after: int = -1) -> None:
        self._prediction = prediction
        self._terms = terms
        self._after = after
        self._from = chunk_before(after, terms)
        self._next = 0
        self._last = after
        self._begun = False
        self._text: str | None = None
        self._call: CallItem | None = None
        self._calls = 0

    def begin(self) -> bytes:
        """The response is there."""
        first = "queued" if self._terms.background else "in_progress"
        told = [self._response("response.created", first)]
        if self._terms.background:
            told.append(self._response("response.queued", first))
        return b"".join(told)

    def chunk(self, chunk: Chunk) -> bytes:
        """Its text has grown, or a call."""
        return b"".join(self._chunk(chunk))

    def end(self, prediction: Prediction) -> bytes:
        """It has ended.

        Args:
            prediction: as it has.
        """
        if prediction.status is not Status.SUCCEEDED:
            response = response_of(prediction, self._terms)
            return self._told(ResponseEvent("response.failed", response, self._next))
        if not self._begun and self._from:
            return b""  # the reader has all of it, and says that it has more
        return b"".join(self._ends(prediction))

    def broken(self, fault: Fault, code: str) -> bytes:
        """Reading has ended. This is no event of the response's: the last one's number stands."""
        return encoded(ErrorEvent(code, fault.message, fault.param, max(self._last, 0)), None)

    @property
    def overshot(self) -> bool:
        """Whether the reader says that it has more than there is, once the end is told."""
        return self._after >= self._next

    def _chunk(self, chunk: Chunk) -> Iterator[bytes]:
        if not self._begun:
            self._begun = True
            yield self._response("response.in_progress", "in_progress")
            if not self._terms.may_call:
                yield from self._text_begins()
                self._next += self._from
        if chunk.text or not (self._terms.may_call or chunk.finish):
            if self._text is None:
                yield from self._text_begins()
            self._text = (self._text or "") + chunk.text
            logprobs = logprobs_of(chunk.logprobs, self._terms)
            yield self._told(TextDelta(self._message, chunk.text, logprobs, self._next))
        for piece in chunk.calls:
            yield from self._piece(piece)

    def _piece(self, piece: CallPiece) -> Iterator[bytes]:
        if self._call is None or piece.index >= self._calls:
            yield from self._item_ends("completed", None)
            self._calls += 1
            call = call_of(self._prediction.id, piece.index, piece.name, "", "in_progress")
            self._call = call
            yield self._told(ItemEvent("response.output_item.added", call, self._next, self._index))
        call = self._call
        assert call is not None
        if piece.arguments:
            self._call = call_of(
                self._prediction.id,
                piece.index,
                call.name,
                call.arguments + piece.arguments,
                "in_progress",
            )
            yield self._told(ArgumentsDelta(call.id, piece.arguments, self._next, self._index))

    def _ends(self, prediction: Prediction) -> Iterator[bytes]:
        output = text_of(prediction)
        if not self._begun:
            # It was not made as a stream, or answered without one: its text is one chunk.
            yield from self._chunk(_whole(prediction.id, output))
        if self._text is None and self._call is None:
            yield from self._text_begins()
        response = response_of(prediction, self._terms)
        yield from self._item_ends(response.status, output)
        yield self._told(ResponseEvent(f"response.{response.status}", response, self._next))

    @property
    def _message(self) -> str:
        return message_id(self._prediction.id)

    @property
    def _index(self) -> int:
        """Which item of the output is told."""
        return self._calls - 1 + (self._text is not None) if self._calls else 0

    def _text_begins(self) -> Iterator[bytes]:
        self._text = ""
        item = message_of(self._prediction.id, None, "in_progress")
        yield self._told(ItemEvent("response.output_item.added", item, self._next))
        yield self._told(
            PartEvent("response.content_part.added", self._message, output_part(""), self._next)
        )

    def _item_ends(self, status: str, output: Generated | None) -> Iterator[bytes]:
        """The item that is told has ended.

        Args:
            status: of it.
            output: all there is, at the end; a text before calls is what came so far.
        """
        if (call := self._call) is not None:
            yield self._told(
                ArgumentsDone(call.id, call.name, call.arguments, self._next, self._index)
            )
            done = call_of(self._prediction.id, self._calls - 1, call.name, call.arguments, status)
            yield self._told(ItemEvent("response.output_item.done", done, self._next, self._index))
        elif self._text is not None:
            text = self._text if output is None else output.text
            logprobs = () if output is None else logprobs_of(output.logprobs, self._terms)
            yield self._told(TextDone(self._message, text, logprobs, self._next))
            part = output_part(text, logprobs)
            yield self._told(
                PartEvent("response.content_part.done", self._message, part, self._next)
            )
            item = message_of(self._prediction.id, part, status)
            yield self._told(ItemEvent("response.output_item.done", item, self._next))

    def _response(self, type_: str, status: str) -> bytes:
        told = begun(self._prediction, self._terms, status=status)
        return self._told(ResponseEvent(type_, told, self._next))

    def _told(self, one: SomeEvent) -> bytes:
        """An event with the next number, encoded; nothing if the reader has it."""
        number = self._next
        self._next += 1
        if number <= self._after:
            return b""
        self._last = number
        return encoded(one, number)


def chunk_before(number: int, terms: Terms) -> int:
    """Sequence of a chunk after which everything lies that comes after an event.

    It is some chunks before that event, so that whoever has the last ones sees where they ended.

    Args:
        number: of the event; -1 for the beginning.
        terms: of the response's request.

    Returns:
        The sequence; 0 for the beginning.
    """
    if terms.may_call:
        return 0
    return max(0, number - _BEGINNING - bool(terms.background) - _END)


def _whole(prediction: str, output: Generated) -> Chunk:
    """All of an output as one chunk."""
    calls = tuple(CallPiece(at, call.name, call.arguments) for at, call in enumerate(output.calls))
    return Chunk(prediction, 0, 1, output.text, (), output.logprobs, None, calls)
