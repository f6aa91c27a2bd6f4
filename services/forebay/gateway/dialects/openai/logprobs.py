"""How likely tokens were, in the two shapes that OpenAI tells it in: chats' and completions'."""

import codecs
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from forebay.contract.generation import Alternative, TokenLogprob


class TopLogprob(msgspec.Struct, frozen=True):
    """A token that was likely; `bytes` because tokens need not be whole characters."""

    token: str
    bytes: tuple[int, ...]
    logprob: float


class ChatTokenLogprob(TopLogprob, frozen=True):
    """A token that was chosen, and those that were likely."""

    top_logprobs: tuple[TopLogprob, ...]


class ChatLogprobs(msgspec.Struct, frozen=True):
    """Of the tokens of a chat's answer."""

    content: tuple[ChatTokenLogprob, ...]
    refusal: None = None


class CompletionLogprobs(msgspec.Struct, frozen=True):
    """Of the tokens of a completion.

    Attributes:
        text_offset: where in the text each begins, in characters.
        token_logprobs: of each.
        tokens: as text; what is no whole character as `bytes:` and its bytes.
        top_logprobs: those that were likely, for each token.
    """

    text_offset: tuple[int, ...]
    token_logprobs: tuple[float, ...]
    tokens: tuple[str, ...]
    top_logprobs: tuple[dict[str, float], ...] | None


def chat_logprobs(tokens: Iterable[TokenLogprob]) -> ChatLogprobs:
    """Tokens in the shape of chats."""
    return ChatLogprobs(
        tuple(
            ChatTokenLogprob(
                one.token.decode(errors="replace"),
                tuple(one.token),
                one.logprob,
                tuple(map(_top, one.top)),
            )
            for one in tokens
        )
    )


def _top(one: Alternative) -> TopLogprob:
    return TopLogprob(one.token.decode(errors="replace"), tuple(one.token), one.logprob)


class Offsets:
    """Where tokens begin in their text, over all of its chunks."""

    def __init__(self) -> None:
        self._decoder: Any = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._at = 0

    def of(self, tokens: Sequence[TokenLogprob]) -> tuple[int, ...]:
        """Of the tokens that come next, in characters."""
        offsets: list[int] = []
        for one in tokens:
            offsets.append(self._at)
            self._at += len(self._decoder.decode(one.token))
        return tuple(offsets)


def completion_logprobs(
    tokens: Sequence[TokenLogprob], offsets: Offsets, *, top: int
) -> CompletionLogprobs:
    """Tokens in the shape of completions.

    Args:
        tokens: the next ones of a text.
        offsets: of that text.
        top: how many likely ones were asked for.
    """
    return CompletionLogprobs(
        offsets.of(tokens),
        tuple(one.logprob for one in tokens),
        tuple(_text(one.token) for one in tokens),
        tuple({_text(best.token): best.logprob for best in one.top} for one in tokens)
        if top
        else None,
    )


def _text(token: bytes) -> str:
    try:
        return token.decode()
    except UnicodeDecodeError:
        # A byte each, so that tokens which differ are told apart.
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in token)
