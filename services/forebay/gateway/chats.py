"""Chats as they come: a list of messages whose contents are texts, or lists of parts that are."""

from typing import Any, Final

import msgspec

from forebay.contract.errors import InvalidInput
from forebay.contract.generation import Message
from forebay.contract.rows import ChatRow

ROLES: Final = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
}
"""Roles that are taken, and what templates know them as: `developer` is OpenAI's newer name."""

LATER_ROLES: Final = frozenset({"tool", "function"})
"""Roles of answers to calls that no model here makes yet."""

MAX_CHARACTERS: Final = 1_000_000
"""Of all messages of a chat: no model looks at more of them."""

MAX_MESSAGES: Final = 10_000


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
        role: who says it: `system` or `developer`, `user`, `assistant`.
        content: what: a text, or parts of type `text`, which are put together line by line.
        name: who of several with the same role, where the model's template knows names.
        tool_calls: refused, and so are the others of calls and of sound.
    """

    role: str
    content: str | tuple[Part, ...] | None = None
    name: str | None = None
    refusal: Any = None
    tool_calls: Any = None
    tool_call_id: Any = None
    function_call: Any = None
    audio: Any = None


def chat_of(messages: tuple[ChatMessage, ...], *, within: str = "") -> ChatRow:
    """The row for a chat.

    Args:
        messages: as they came.
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
    if size > MAX_CHARACTERS:
        raise InvalidInput(
            f"{where} have {size:,} characters together; {MAX_CHARACTERS:,} are the most: leave "
            "the oldest out.",
            param=where,
        )
    return ChatRow(said)


def _message(message: ChatMessage, where: str) -> Message:
    role = ROLES.get(message.role)
    if message.role in LATER_ROLES or message.tool_calls or message.function_call:
        field = "role" if role is None else "tool_calls" if message.tool_calls else "function_call"
        raise InvalidInput(
            f"{where}.{field}: models here call no tools yet. Say in a message of role 'user' what "
            "a tool gave.",
            param=f"{where}.{field}",
        )
    if role is None:
        raise InvalidInput(
            f"{where}.role is {message.role[:80]!r}; it must be one of "
            f"{', '.join(map(repr, ROLES))}.",
            param=f"{where}.role",
        )
    for field in ("refusal", "audio", "tool_call_id"):
        if getattr(message, field):
            raise InvalidInput(
                f"{where}.{field} can't be told to a model here: leave it out.",
                param=f"{where}.{field}",
            )
    return Message(role, _text(message.content, f"{where}.content"), message.name)


def _text(content: str | tuple[Part, ...] | None, where: str) -> str:
    if isinstance(content, str):
        return content
    if not content:
        raise InvalidInput(
            f"{where} must be a text, or a list of parts of type 'text'.", param=where
        )
    texts: list[str] = []
    for at, part in enumerate(content):
        if part.type != "text":
            raise InvalidInput(
                f"{where}[{at}] is of type {part.type[:80]!r}, and this model reads text only: "
                "send parts of type 'text'.",
                param=f"{where}[{at}].type",
            )
        if part.text is None:
            raise InvalidInput(
                f"Missing parameter: '{where}[{at}].text'.", param=f"{where}[{at}].text"
            )
        texts.append(part.text)
    return "\n".join(texts)
