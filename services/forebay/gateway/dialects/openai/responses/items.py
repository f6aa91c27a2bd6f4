"""Items of a conversation as they are told, in pages where there are many."""

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec
from msgspec import UNSET, UnsetType

from forebay.contract.errors import InvalidInput
from forebay.gateway.chats import ChatMessage
from forebay.gateway.dialects.openai.logprobs import ChatTokenLogprob

MAX_PAGE: Final = 100
"""Items of a page."""


class TextPart(msgspec.Struct, frozen=True):
    """A part of a message that is told.

    Attributes:
        logprobs: of its tokens, empty where nobody asked; of a model's text only.
        annotations: there are none; likewise.
    """

    type: str
    text: str
    annotations: tuple[()] | UnsetType = UNSET
    logprobs: tuple[ChatTokenLogprob, ...] | UnsetType = UNSET


class MessageItem(msgspec.Struct, frozen=True):
    """A message that is told."""

    id: str
    status: str
    role: str
    content: tuple[TextPart, ...]
    type: str = "message"


class CallItem(msgspec.Struct, frozen=True):
    """A call of a tool that is told."""

    id: str
    call_id: str
    name: str
    arguments: str
    status: str
    type: str = "function_call"


class CallOutputItem(msgspec.Struct, frozen=True):
    """What a call gave, told."""

    id: str
    call_id: str
    output: str
    status: str = "completed"
    type: str = "function_call_output"


Item = MessageItem | CallItem | CallOutputItem


class ItemList(msgspec.Struct, frozen=True):
    """Items of a conversation, a page of them."""

    data: Sequence[Item]
    first_id: str | None
    last_id: str | None
    has_more: bool
    object: str = "list"


def output_part(text: str, logprobs: tuple[ChatTokenLogprob, ...] = ()) -> TextPart:
    """A text that a model wrote, or has begun to."""
    return TextPart("output_text", text, (), logprobs)


def items_of(prediction: str, messages: Sequence[ChatMessage]) -> list[Item]:
    """A conversation's messages as items.

    Args:
        prediction: its id; with an item's place it makes the item's.
        messages: as they are kept, so their contents are texts.
    """
    items: list[Item] = []
    for message in messages:
        text = message.content if isinstance(message.content, str) else ""
        if message.role == "tool":
            id_ = f"fco_{prediction}_{len(items)}"
            items.append(CallOutputItem(id_, message.tool_call_id or "", text))
            continue
        if text or not message.tool_calls:
            id_ = f"msg_{prediction}_{len(items)}"
            items.append(MessageItem(id_, "completed", message.role, (_part(message.role, text),)))
        for call in message.tool_calls or ():
            id_, called = f"fc_{prediction}_{len(items)}", call.function
            items.append(CallItem(id_, call.id, called.name, called.arguments, "completed"))
    return items


def _part(role: str, text: str) -> TextPart:
    return output_part(text) if role == "assistant" else TextPart("input_text", text)


def page_of(items: Sequence[Item], asked: Mapping[str, str]) -> ItemList:
    """A page of items, the latest first if nothing else is said.

    Args:
        items: all of them, in order.
        asked: the query's `limit`, `order` and `after`.

    Raises:
        InvalidInput: one of these can't be.
    """
    order, limit = asked.get("order", "desc"), asked.get("limit", "20")
    if order not in ("asc", "desc"):
        raise InvalidInput("order must be 'asc' or 'desc'.", param="order")
    if not (limit.isascii() and limit.isdecimal() and 1 <= int(limit[:9]) <= MAX_PAGE):
        raise InvalidInput(f"limit must be a number from 1 to {MAX_PAGE}.", param="limit")
    ordered = list(items) if order == "asc" else list(reversed(items))
    first = 0
    if "after" in asked:
        after = asked["after"]
        places = [at for at, item in enumerate(ordered) if item.id == after]
        if not places:
            raise InvalidInput(f"after is {after[:80]!r}, which is no item here.", param="after")
        first = places[0] + 1
    page = ordered[first : first + int(limit)]
    return ItemList(
        page,
        page[0].id if page else None,
        page[-1].id if page else None,
        first + len(page) < len(ordered),
    )
