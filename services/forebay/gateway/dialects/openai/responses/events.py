"""Events of responses, in the shapes that OpenAI documents."""

from typing import Literal

import msgspec

from forebay.gateway.dialects.openai.logprobs import ChatTokenLogprob
from forebay.gateway.dialects.openai.responses.items import CallItem, MessageItem, TextPart
from forebay.gateway.dialects.openai.responses.rendering import Response
from forebay.gateway.http import to_json
from forebay.gateway.sse import event


class ResponseEvent(msgspec.Struct, frozen=True):
    """What is told of the whole response."""

    type: str
    response: Response
    sequence_number: int


class ItemEvent(msgspec.Struct, frozen=True):
    """An item has begun, or ended."""

    type: str
    item: MessageItem | CallItem
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


class TextDelta(msgspec.Struct, frozen=True):
    """There is more of a text."""

    item_id: str
    delta: str
    logprobs: tuple[ChatTokenLogprob, ...]
    sequence_number: int
    output_index: int = 0
    content_index: int = 0
    type: Literal["response.output_text.delta"] = "response.output_text.delta"


class TextDone(msgspec.Struct, frozen=True):
    """There is no more of it."""

    item_id: str
    text: str
    logprobs: tuple[ChatTokenLogprob, ...]
    sequence_number: int
    output_index: int = 0
    content_index: int = 0
    type: Literal["response.output_text.done"] = "response.output_text.done"


class ArgumentsDelta(msgspec.Struct, frozen=True):
    """There is more of a call's arguments."""

    item_id: str
    delta: str
    sequence_number: int
    output_index: int
    type: Literal["response.function_call_arguments.delta"] = (
        "response.function_call_arguments.delta"
    )


class ArgumentsDone(msgspec.Struct, frozen=True):
    """There is no more of them."""

    item_id: str
    name: str
    arguments: str
    sequence_number: int
    output_index: int
    type: Literal["response.function_call_arguments.done"] = "response.function_call_arguments.done"


class ErrorEvent(msgspec.Struct, frozen=True):
    """Why there is no more to be read here, while the response may go on."""

    code: str
    message: str
    param: str | None
    sequence_number: int
    type: Literal["error"] = "error"


SomeEvent = (
    ResponseEvent
    | ItemEvent
    | PartEvent
    | TextDelta
    | TextDone
    | ArgumentsDelta
    | ArgumentsDone
    | ErrorEvent
)


def encoded(one: SomeEvent, number: int | None) -> bytes:
    """An event as it is sent.

    Args:
        one: the event.
        number: its id; None if it has none.
    """
    return event(to_json(one), id_=None if number is None else str(number), name=one.type)
