"""Chats as they come: a list of messages whose contents are texts, or lists of parts that are."""

from typing import Any, Final, Literal

import msgspec

from forebay.contract.errors import InvalidInput
from forebay.contract.generation import Message
from forebay.contract.rows import ChatRow
from forebay.contract.tools import Tools
from forebay.gateway.contents import text_of
from forebay.gateway.tools import Called, calls_of

ROLES: Final = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
}
"""Roles that are taken, and what templates know them as: `developer` is OpenAI's newer name."""

MAX_CHARACTERS: Final = 1_000_000
"""Of all messages of a chat: no model looks at more of them."""

MAX_MESSAGES: Final = 10_000

TEXTS: Final = ("text",)
"""Types of parts that are texts."""


class Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A part of a message.

    Attributes:
        type: `text`; what else there is is refused, by its name.
        text: of a part of type `text`.
    """

    type: str
    text: str | None = None
    image_url: Any = None
    input_audio: Any = None
    file: Any = None
    refusal: Any = None


class ChatMessage(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A message, as OpenAI documents it.

    Attributes:
        role: who says it: `system` or `developer`, `user`, `assistant`, `tool`.
        content: what: a text, or parts of type `text`, which are put together line by line; not
            needed beside `tool_calls`.
        name: who of several with the same role, where the model's template knows names.
        tool_calls: of tools, in a message of the assistant's.
        tool_call_id: the call that a message of a tool answers.
        function_call: refused, and so are refusals and sound.
        parsed: not looked at; OpenAI's client sends it back from what it has parsed.
    """

    role: str
    content: str | tuple[Part, ...] | None = None
    name: str | None = None
    refusal: Any = None
    tool_calls: tuple[Called, ...] | None = None
    tool_call_id: str | None = None
    function_call: Any = None
    audio: Any = None
    parsed: Any = None


class Prediction(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an answer may be like, as OpenAI documents it.

    Attributes:
        type: `content`, the only one there is.
        content: a text, or parts of type `text`; what it says of the answer's beginning first.
    """

    type: Literal["content"]
    content: str | tuple[Part, ...]


def chat_of(
    messages: tuple[ChatMessage, ...],
    *,
    tools: Tools | None = None,
    expected: str = "",
    within: str = "",
) -> ChatRow:
    """The row for a chat.

    Args:
        messages: as they came.
        tools: that the model may call.
        expected: what the answer may be like.
        within: the field that holds them, where they are a part of a body; ends with a dot.

    Raises:
        InvalidInput: there are none or too many, or one can't be said by a text; `param` names it.
    """
    where = f"{within}messages"
    if not messages:
        raise InvalidInput(f"{where} must not be empty.", param=where)
    if len(messages) > MAX_MESSAGES:
        raise InvalidInput(
            f"{where} has {len(messages):,} messages; {MAX_MESSAGES:,} are the most.", param=where
        )
    said = tuple(_message(message, f"{where}[{at}]") for at, message in enumerate(messages))
    size = sum(len(message.content) for message in said)
    size += sum(len(call.arguments) for message in said for call in message.calls)
    if size > MAX_CHARACTERS:
        raise InvalidInput(
            f"{where} have {size:,} characters together; {MAX_CHARACTERS:,} are the most: leave "
            "the oldest out.",
            param=where,
        )
    return ChatRow(said, tools, expected)


def expected_of(prediction: Prediction | None) -> str:
    """What an answer may be like; empty where nothing is said of it.

    Raises:
        InvalidInput: it is too much, or no text; `param` names it.
    """
    if prediction is None:
        return ""
    where = "prediction.content"
    expected = text_of(prediction.content, where, types=TEXTS)
    if len(expected) > MAX_CHARACTERS:
        raise InvalidInput(
            f"{where} has {len(expected):,} characters; {MAX_CHARACTERS:,} are the most: send its "
            "beginning.",
            param=where,
        )
    return expected


def _message(message: ChatMessage, where: str) -> Message:
    role = ROLES.get(message.role)
    if message.role == "function" or message.function_call:
        field = "function_call" if message.function_call else "role"
        raise InvalidInput(
            f"{where}.{field} is the form that calls had before 'tool_calls' and messages of role "
            "'tool': send those.",
            param=f"{where}.{field}",
        )
    if role is None:
        raise InvalidInput(
            f"{where}.role is {message.role[:80]!r}; it must be one of "
            f"{', '.join(map(repr, ROLES))}.",
            param=f"{where}.role",
        )
    if role == "tool" and not message.tool_call_id:
        raise InvalidInput(
            f"Missing parameter: '{where}.tool_call_id', the call that this answers.",
            param=f"{where}.tool_call_id",
        )
    for field, of in (("tool_calls", "assistant"), ("tool_call_id", "tool")):
        if getattr(message, field) and role != of:
            raise InvalidInput(
                f"{where}.{field} goes with role {of!r} only: leave it out.",
                param=f"{where}.{field}",
            )
    for field in ("refusal", "audio"):
        if getattr(message, field):
            raise InvalidInput(
                f"{where}.{field} can't be told to a model here: leave it out.",
                param=f"{where}.{field}",
            )
    calls = calls_of(message.tool_calls or (), where=f"{where}.tool_calls")
    # Beside calls there is often nothing to say, and templates look whether there is.
    silent = calls and not message.content
    content = "" if silent else text_of(message.content, f"{where}.content", types=TEXTS)
    return Message(role, content, message.name, calls, message.tool_call_id)
