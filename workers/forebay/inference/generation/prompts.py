"""Texts and chats to token ids, with room left for what is to be written."""

import numpy as np
from tokenizers import Tokenizer

from forebay.contract.errors import InvalidInput, TooLong
from forebay.contract.formats import Format
from forebay.contract.generation import Sampling
from forebay.contract.rows import ChatRow, Row, TextRow, TokensRow
from forebay.contract.tools import Tools
from forebay.inference.backends.base import PreparedRow
from forebay.inference.generation.drafts import Ids
from forebay.inference.generation.grammar.grammars import Grammars, Held
from forebay.inference.tasks.chat import ChatTemplate

CHARACTERS_A_TOKEN = 64
"""A text with more for each token of the context is refused unread: it has no room."""


class Prompt(PreparedRow, frozen=True):
    """A row's prompt; `data` is int64 `[tokens]`.

    Attributes:
        held: what its text is held to; None where it may be any.
        expected: tokens that the request expects of its text, int64 `[tokens]`; None where it
            doesn't say.
    """

    held: Held | None = None
    expected: Ids | None = None


class Prompts:
    """Makes prompts of rows.

    Args:
        tokenizer: the artifact's, with truncation and padding off.
        template: renders chats; None where the model has none.
        grammars: what texts can be held to; None where what runs the model holds them to nothing.
        vocabulary: how many tokens there are.
        context: most tokens of a prompt and its text together.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        template: ChatTemplate | None,
        grammars: Grammars | None,
        *,
        vocabulary: int,
        context: int,
    ) -> None:
        self._tokenizer = tokenizer
        self._template = template
        self._grammars = grammars
        self._vocabulary = vocabulary
        self._context = context

    def prepare(self, row: Row, index: int, sampling: Sampling) -> Prompt | InvalidInput:
        """A row's prompt, or why it is refused.

        Args:
            row: a `ChatRow`, which the model's template renders; a `TextRow`, to which the
                tokenizer adds what begins a text; or a `TokensRow`, which is taken as it is.
            index: of the row in its request.
            sampling: what is asked for.
        """
        for token, _ in sampling.logit_bias:
            if not 0 <= token < self._vocabulary:
                return self._no_token(token, index, param="logit_bias")
        match row:
            case TextRow(text=text):
                ids = self._ids(text, index, special=True)
            case ChatRow():
                ids = self._chat(row, index)
            case TokensRow(ids=ids):
                wrong = next((id_ for id_ in ids if not 0 <= id_ < self._vocabulary), None)
                if wrong is not None:
                    return self._no_token(wrong, index)
            case _:
                return InvalidInput("This model takes texts, token ids and chats.", row=index)
        if isinstance(ids, InvalidInput):
            return ids
        if not ids:
            return InvalidInput("This prompt is empty: send at least a character.", row=index)
        wanted = 1 if sampling.max_tokens is None else sampling.max_tokens
        if len(ids) + wanted > self._context:
            return TooLong(
                f"The prompt has {len(ids):,} tokens and its text may have {wanted:,}, but this "
                f"model has room for {self._context:,} together: shorten the prompt, or ask for "
                "fewer tokens.",
                row=index,
            )
        expected = self._expected(row, index)
        if isinstance(expected, InvalidInput):
            return expected
        try:
            tools = row.tools if isinstance(row, ChatRow) else None
            held = self._held(sampling.format, tools)
        except InvalidInput as refusal:
            return InvalidInput(refusal.message, row=index, param=refusal.param)
        return Prompt(len(ids), np.asarray(ids, np.int64), held, expected)

    def _held(self, format_: Format | None, tools: Tools | None) -> Held | None:
        if self._grammars is not None:
            return self._grammars.held(format_, tools)
        if format_ is not None:
            raise InvalidInput(
                "This model's backend holds texts to no form: leave response_format out, and check "
                "what comes.",
                param="response_format",
            )
        return None

    def _expected(self, row: Row, index: int) -> Ids | InvalidInput | None:
        if not isinstance(row, ChatRow) or not row.expected:
            return None
        ids = self._ids(row.expected, index, special=False)
        if isinstance(ids, InvalidInput):
            return TooLong(
                f"The prediction has {len(row.expected):,} characters, and this model has room for "
                f"{self._context:,} tokens: shorten it.",
                row=index,
                param="prediction",
            )
        return np.asarray(ids, np.int64)

    def _chat(self, row: ChatRow, index: int) -> list[int] | InvalidInput:
        if self._template is None:
            return InvalidInput(
                "This model has no chat template: send it a text to go on with, as a completion.",
                row=index,
            )
        form = None if self._grammars is None else self._grammars.form
        if form is None and (row.tools or _of_tools(row)):
            return InvalidInput(
                "This model has no form for tools, or can't be held to it: leave them and their "
                "messages out, or ask a model that was made for them.",
                row=index,
                param="tools" if row.tools else "messages",
            )
        try:
            text = self._template.render(row.messages, row.tools.tools if row.tools else None)
        except InvalidInput as refusal:
            return InvalidInput(refusal.message, row=index, param=refusal.param)
        return self._ids(text, index, special=False)

    def _ids(self, text: str, index: int, *, special: bool) -> list[int] | InvalidInput:
        if len(text) > CHARACTERS_A_TOKEN * self._context:
            return TooLong(
                f"This prompt has {len(text):,} characters, and this model has room for "
                f"{self._context:,} tokens: shorten it.",
                row=index,
            )
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=special).ids
        return ids

    def _no_token(self, token: int, index: int, *, param: str | None = None) -> InvalidInput:
        return InvalidInput(
            f"{token} is no token id of this model: its ids go from 0 to {self._vocabulary - 1}.",
            row=index,
            param=param,
        )


def _of_tools(row: ChatRow) -> bool:
    """Whether messages are of calls."""
    return any(message.calls or message.role == "tool" for message in row.messages)
