"""`POST /v1/completions`.

https://platform.openai.com/docs/api-reference/completions
"""

from collections.abc import Sequence
from typing import Any, Final

import msgspec
from msgspec import UNSET, UnsetType

from forebay.contract.errors import InvalidInput
from forebay.contract.generation import Chunk, TokenLogprob
from forebay.contract.model import ModelSpec
from forebay.contract.rows import Generated
from forebay.gateway.dialects.openai.embeddings import Input, rows_of
from forebay.gateway.dialects.openai.logprobs import (
    CompletionLogprobs,
    Offsets,
    completion_logprobs,
)
from forebay.gateway.dialects.openai.parameters import Refused, TextRequest
from forebay.gateway.dialects.openai.texts import Asked, Form, Named
from forebay.gateway.dialects.openai.usage import Usage, usage_of
from forebay.gateway.generation import MAX_TEXTS, TopLogprobs, check_texts
from forebay.gateway.http import to_json

MAX_TOKENS: Final = 16
"""Tokens of a text where the request doesn't say how many, as OpenAI has it."""

REFUSED: Final[Refused] = {
    "echo": (frozenset({False}), "put the prompt before the text yourself"),
    "suffix": (frozenset({""}), "models here write at the end only; leave it out"),
}
"""Fields that nothing here heeds: values that ask for nothing, and what to do instead."""


class CompletionRequest(TextRequest, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body, as OpenAI documents it, and the parameters of `SamplingFields` that it lacks.

    Attributes:
        prompt: one text, texts, one text as token ids, or texts as token ids.
        logprobs: tell how likely each token was, and so many of the most likely ones.
        best_of: must be `n`: no text is thrown away.
    """

    prompt: Input
    logprobs: TopLogprobs | None = None
    best_of: int | None = None

    echo: Any = None
    suffix: Any = None


class Choice(msgspec.Struct, frozen=True):
    """One of the texts, or what a chunk adds to it."""

    index: int
    text: str
    logprobs: CompletionLogprobs | None
    finish_reason: str | None


class Completion(msgspec.Struct, frozen=True):
    """The answer, or an event: both have one shape.

    With `stream_options.include_usage` all events have a `usage`, null but in the last.
    """

    id: str
    created: int
    model: str
    choices: Sequence[Choice]
    usage: Usage | UnsetType | None = UNSET
    object: str = "text_completion"


def completion_asked(request: CompletionRequest, spec: ModelSpec) -> Asked:
    """What prompts come to.

    Raises:
        InvalidInput: they can't be asked.
    """
    if request.best_of not in (None, request.choices):
        raise InvalidInput(
            "best_of must be n: no text is thrown away here. Leave it out.", param="best_of"
        )
    prompts = rows_of(request.prompt, most=MAX_TEXTS, field="prompt")
    check_texts(len(prompts) * request.choices, param="n")
    rows = [prompt for prompt in prompts for _ in range(request.choices)]
    sampling = request.sampling(max_tokens=MAX_TOKENS, logprobs=request.logprobs)
    return Asked(spec, rows, sampling, "prompt")


class CompletionShape:
    """How completions are told.

    Args:
        request: that is answered.
    """

    prefix = "cmpl"

    def __init__(self, request: CompletionRequest) -> None:
        self._choices = request.choices
        self._top = request.logprobs
        self._no_usage: UnsetType | None = None if request.with_usage else UNSET
        self._offsets: dict[int, Offsets] = {}

    def whole(self, named: Named, outputs: Sequence[Generated]) -> bytes:
        """The body of an answer that comes at once."""
        choices = [
            Choice(index, output.text, self._logprobs(index, output.logprobs), output.finish.value)
            for index, output in enumerate(outputs)
        ]
        usage = usage_of(outputs, choices=self._choices)
        return to_json(Completion(named.id, named.created, named.model, choices, usage))

    def begin(self, named: Named) -> Sequence[bytes]:
        """Nothing comes before the first chunk's."""
        return ()

    def chunk(self, named: Named, chunk: Chunk) -> bytes:
        """The data of the event for a chunk."""
        choice = Choice(
            chunk.row,
            chunk.text,
            self._logprobs(chunk.row, chunk.logprobs),
            None if chunk.finish is None else chunk.finish.value,
        )
        return to_json(Completion(named.id, named.created, named.model, (choice,), self._no_usage))

    def usage(self, named: Named, outputs: Sequence[Generated]) -> bytes:
        """The data of the event that tells the tokens."""
        usage = usage_of(outputs, choices=self._choices)
        return to_json(Completion(named.id, named.created, named.model, (), usage))

    def _logprobs(self, row: int, tokens: Sequence[TokenLogprob]) -> CompletionLogprobs | None:
        if self._top is None:
            return None
        offsets = self._offsets.setdefault(row, Offsets())
        return completion_logprobs(tokens, offsets, top=self._top)


COMPLETIONS: Final = Form(
    msgspec.json.Decoder(CompletionRequest), REFUSED, completion_asked, CompletionShape
)
