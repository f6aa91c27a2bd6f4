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
"""

from collections.abc import Iterator
from typing import Final, Literal

import msgspec

from forebay.contract.generation import Chunk
from forebay.contract.prediction import Prediction, Status
from forebay.contract.rows import Generated
from forebay.gateway.dialects.openai.logprobs import ChatTokenLogprob
from forebay.gateway.dialects.openai.responses.items import MessageItem, TextPart, output_part
from forebay.gateway.dialects.openai.responses.rendering import (
    Response,
    begun,
    logprobs_of,
    message_id,
    message_of,
    part_of,
    response_of,
    text_of,
)
from forebay.gateway.dialects.openai.responses.terms import Terms
from forebay.gateway.errors import Fault
from forebay.gateway.http import to_json
from forebay.gateway.sse import event

_BEGINNING: Final = 4
"""Events before the first delta; one more in the background."""

_END: Final = 4
"""Events after the last delta, at most."""


class ResponseEvent(msgspec.Struct, frozen=True):
    """What is told of the whole response."""

    type: str
    response: Response
    sequence_number: int


class ItemEvent(msgspec.Struct, frozen=True):
    """A message has begun, or ended."""

    type: str
    item: MessageItem
    sequence_number: int
    output_index: int = 0


class PartEvent(msgspec.Struct, frozen=True):
    """A text has begun, or ended."""

    type: str
    item_id: str
    part: TextPart
    sequence_number: int
    output_index: int = 0
    content_index: int = 0


class DeltaEvent(msgspec.Struct, frozen=True):
    """There is more of a text."""

    item_id: str
    delta: str
    logprobs: tuple[ChatTokenLogprob, ...]
    sequence_number: int
    output_index: int = 0
    content_index: int = 0
    type: Literal["response.output_text.delta"] = "response.output_text.delta"


class DoneEvent(msgspec.Struct, frozen=True):
    """There is no more of it."""

    item_id: str
    text: str
    logprobs: tuple[ChatTokenLogprob, ...]
    sequence_number: int
    output_index: int = 0
    content_index: int = 0
    type: Literal["response.output_text.done"] = "response.output_text.done"


class ErrorEvent(msgspec.Struct, frozen=True):
    """Why there is no more to be read here, while the response may go on."""

    code: str
    message: str
    param: str | None
    sequence_number: int
    type: Literal["error"] = "error"


SomeEvent = ResponseEvent | ItemEvent | PartEvent | DeltaEvent | DoneEvent | ErrorEvent


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
        self._in_text = False

    def begin(self) -> bytes:
        """The response is there."""
        first = "queued" if self._terms.background else "in_progress"
        told = [self._response("response.created", first)]
        if self._terms.background:
            told.append(self._response("response.queued", first))
        return b"".join(told)

    def chunk(self, chunk: Chunk) -> bytes:
        """Its text has grown."""
        told = b""
        if not self._in_text:
            self._in_text = True
            told = b"".join(self._text_begins())
            self._next += self._from
        if chunk.text or chunk.finish is None:
            logprobs = logprobs_of(chunk.logprobs, self._terms)
            told += self._told(DeltaEvent(self._item_id, chunk.text, logprobs, self._next))
        return told

    def end(self, prediction: Prediction) -> bytes:
        """It has ended.

        Args:
            prediction: as it has.
        """
        response = response_of(prediction, self._terms)
        if prediction.status is not Status.SUCCEEDED:
            return self._told(ResponseEvent("response.failed", response, self._next))
        output = text_of(prediction)
        told = b""
        if not self._in_text:
            if self._from:
                return b""  # the reader has all of it, and says that it has more
            # It was not made as a stream, or answered without one: its text is one chunk.
            told = self.chunk(Chunk(prediction.id, 0, 1, output.text, (), output.logprobs))
        return told + b"".join(self._text_ends(output, response))

    def broken(self, fault: Fault, code: str) -> bytes:
        """Reading has ended. This is no event of the response's: the last one's number stands."""
        return _event(ErrorEvent(code, fault.message, fault.param, max(self._last, 0)), None)

    @property
    def _item_id(self) -> str:
        return message_id(self._prediction.id)

    def _text_begins(self) -> Iterator[bytes]:
        item = message_of(self._prediction.id, None, "in_progress")
        self._next = first_delta(self._terms) - 3
        yield self._response("response.in_progress", "in_progress")
        yield self._told(ItemEvent("response.output_item.added", item, self._next))
        part = output_part("")
        yield self._told(PartEvent("response.content_part.added", self._item_id, part, self._next))

    def _text_ends(self, output: Generated, response: Response) -> Iterator[bytes]:
        part = part_of(output, self._terms)
        logprobs = part.logprobs or ()
        yield self._told(DoneEvent(self._item_id, part.text, logprobs, self._next))
        yield self._told(PartEvent("response.content_part.done", self._item_id, part, self._next))
        (item,) = response.output
        yield self._told(ItemEvent("response.output_item.done", item, self._next))
        yield self._told(ResponseEvent(f"response.{response.status}", response, self._next))

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
        return _event(one, number)


def first_delta(terms: Terms) -> int:
    """Number of the event for the first chunk."""
    return _BEGINNING + bool(terms.background)


def chunk_before(number: int, terms: Terms) -> int:
    """Sequence of a chunk after which everything lies that comes after an event.

    It is some chunks before that event, so that whoever has the last ones sees where they ended.

    Args:
        number: of the event; -1 for the beginning.
        terms: of the response's request.

    Returns:
        The sequence; 0 for the beginning.
    """
    return max(0, number - first_delta(terms) - _END)


def _event(one: SomeEvent, number: int | None) -> bytes:
    id_ = None if number is None else str(number)
    return event(to_json(one), id_=id_, name=one.type)
