"""Items of a conversation as clients send them, and the messages that they are."""

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from forebay.contract.errors import InvalidInput
from forebay.gateway.bodies import decode
from forebay.gateway.chats import ROLES, ChatMessage
from forebay.gateway.contents import text_of
from forebay.gateway.tools import Called, CalledFunction

MAX_ITEMS: Final = 10_000

TEXTS: Final = ("input_text", "output_text")
"""Types of parts that are texts: what was said to a model, and what a model said."""


class Kind(msgspec.Struct, frozen=True):
    """What an item is, before it is looked at."""

    type: str | None = None


class Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A part of a message.

    Attributes:
        type: one of `TEXTS`; what else there is is refused, by its name.
        text: what it says.
    """

    type: str
    text: str | None = None
    annotations: Any = None
    logprobs: Any = None
    prompt_cache_breakpoint: Any = None
    refusal: Any = None
    detail: Any = None
    file_data: Any = None
    file_id: Any = None
    file_url: Any = None
    filename: Any = None
    image_url: Any = None


class Message(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A message, as a client writes it or as it was told before.

    Attributes:
        role: who says it, as in chats.
        content: what: a text, or parts that are texts, which are put together line by line.
        type: `message`, or not there.
        id: that it was told with; needed for nothing, and so are the others.
    """

    role: str
    content: str | tuple[Part, ...]
    type: str | None = None
    id: str | None = None
    status: str | None = None
    phase: str | None = None


class FunctionCall(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A call of a tool, as it was told before.

    Attributes:
        call_id: by which its output names it.
        name: of the tool.
        arguments: a JSON object, as text.
        id: needed for nothing, and so are the others.
    """

    type: str
    call_id: str
    name: str
    arguments: str
    id: str | None = None
    status: str | None = None
    parsed_arguments: Any = None

    def called(self) -> Called:
        """The call as chats have it."""
        return Called(self.call_id, CalledFunction(self.name, self.arguments))


class FunctionOutput(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a call gave.

    Attributes:
        call_id: of the call.
        output: a text, or parts that are texts.
    """

    type: str
    call_id: str
    output: str | tuple[Part, ...]
    id: str | None = None
    status: str | None = None


_function_call = msgspec.json.Decoder(FunctionCall)
_function_output = msgspec.json.Decoder(FunctionOutput)
_kind = msgspec.json.Decoder(Kind)
_message = msgspec.json.Decoder(Message)


def messages_of(given: str | Sequence[msgspec.Raw]) -> tuple[ChatMessage, ...]:
    """The messages of a request's `input`.

    Raises:
        InvalidInput: it is empty, or an item is no message that can be said by a text; `param`
            names it.
    """
    if not given:
        raise InvalidInput("input must not be empty.", param="input")
    if isinstance(given, str):
        return (ChatMessage("user", given),)
    if len(given) > MAX_ITEMS:
        raise InvalidInput(
            f"input has {len(given):,} items; {MAX_ITEMS:,} are the most.", param="input"
        )
    messages: list[ChatMessage] = []
    for at, item in enumerate(given):
        message = _of_item(item, f"input[{at}]")
        if message.tool_calls and messages and messages[-1].role == "assistant":
            # A chat has the calls of an answer in one message, with what was said before them.
            calls = (*(messages[-1].tool_calls or ()), *message.tool_calls)
            message = msgspec.structs.replace(messages.pop(), tool_calls=calls)
        messages.append(message)
    return tuple(messages)


def _of_item(item: msgspec.Raw, where: str) -> ChatMessage:
    kind = decode(_kind, item, within=where).type or "message"
    if kind == "function_call":
        call = decode(_function_call, item, within=where)
        return ChatMessage("assistant", tool_calls=(call.called(),))
    if kind == "function_call_output":
        output = decode(_function_output, item, within=where)
        text = text_of(output.output, f"{where}.output", types=TEXTS)
        return ChatMessage("tool", text, tool_call_id=output.call_id)
    if kind != "message":
        raise InvalidInput(
            f"{where} is of type {kind[:80]!r}, which no model here reads: send messages, "
            "function_call and function_call_output.",
            param=f"{where}.type",
        )
    message = decode(_message, item, within=where)
    if message.role not in ROLES:
        raise InvalidInput(
            f"{where}.role is {message.role[:80]!r}; it must be one of "
            f"{', '.join(map(repr, ROLES))}.",
            param=f"{where}.role",
        )
    content = text_of(message.content, f"{where}.content", types=TEXTS)
    return ChatMessage(message.role, content)
