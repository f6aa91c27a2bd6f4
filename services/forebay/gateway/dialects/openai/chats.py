"""`POST /v1/chat/completions`.

https://platform.openai.com/docs/api-reference/chat
"""

from collections.abc import Sequence
from typing import Any, Final

import msgspec
from msgspec import UNSET, UnsetType

from forebay.contract.errors import InvalidInput
from forebay.contract.generation import Chunk
from forebay.contract.model import ModelSpec
from forebay.contract.rows import Generated
from forebay.gateway.chats import ChatMessage, Prediction, chat_of, expected_of
from forebay.gateway.dialects.openai.logprobs import ChatLogprobs, chat_logprobs
from forebay.gateway.dialects.openai.parameters import Refused, TextRequest, most_tokens
from forebay.gateway.dialects.openai.texts import Asked, Form, Named
from forebay.gateway.dialects.openai.usage import Usage, usage_of
from forebay.gateway.generation import Tokens, TopLogprobs
from forebay.gateway.http import to_json
from forebay.gateway.tools import (
    Choice as ToolChoice,
)
from forebay.gateway.tools import (
    FunctionTool,
    NamedChoice,
    call_id,
    choice_of,
    functions_of,
    tools_of,
)

_OLDER: Final = "it is the older form of tools; send `tools` and `tool_choice`"
_TEXT_ONLY: Final = "models here read and write text only; leave it out"
_LEAVE_OUT: Final = "leave it out"

REFUSED: Final[Refused] = {
    "functions": (frozenset({"[]"}), _OLDER),
    "function_call": (frozenset({"none", "auto"}), _OLDER),
    "modalities": (frozenset({'["text"]'}), _TEXT_ONLY),
    "audio": (frozenset(), _TEXT_ONLY),
    "moderation": (frozenset(), "ask a classifier at /v1/moderations"),
    "web_search_options": (frozenset(), "nothing here searches; put what was found in a message"),
    "reasoning_effort": (frozenset({"none"}), "say in a message how much thought it should take"),
    "verbosity": (frozenset({"medium"}), "say in a message how long the answer should be"),
    "store": (frozenset({False}), "answers are not kept; leave it out"),
    "service_tier": (frozenset({"auto", "default"}), _LEAVE_OUT),
    "prompt_cache_options": (frozenset(), "prompts are reused without being told; leave it out"),
    "prompt_cache_retention": (
        frozenset({"in_memory"}),
        "prompts are reused from memory only; leave it out",
    ),
}
"""Fields that nothing here heeds: values that ask for nothing, and what to do instead."""


class ChatRequest(TextRequest, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body, as OpenAI documents it, and the parameters of `SamplingFields` that it lacks.

    Attributes:
        max_completion_tokens: the newer name of `max_tokens`.
        logprobs: tell how likely each token was.
        top_logprobs: and how many of the most likely ones; only with `logprobs`.
        tools: functions that the model may call.
        tool_choice: whether it may or must call one, or which one it must.
        parallel_tool_calls: whether it may call several at once.
        prediction: what the answer may be like, so that it comes sooner; it comes to the same.
        prompt_cache_key: taken, and needed for nothing: prompts are recognised by themselves.
        safety_identifier: taken, and told to nobody.
    """

    messages: tuple[ChatMessage, ...]
    max_completion_tokens: Tokens | None = None
    logprobs: bool | None = None
    top_logprobs: TopLogprobs | None = None
    prompt_cache_key: str | None = None
    safety_identifier: str | None = None
    tools: tuple[FunctionTool, ...] | None = None
    tool_choice: ToolChoice | NamedChoice | None = None
    parallel_tool_calls: bool | None = None
    prediction: Prediction | None = None

    functions: Any = None
    function_call: Any = None
    modalities: Any = None
    audio: Any = None
    moderation: Any = None
    web_search_options: Any = None
    reasoning_effort: Any = None
    verbosity: Any = None
    store: Any = None
    service_tier: Any = None
    prompt_cache_options: Any = None
    prompt_cache_retention: Any = None


class CalledName(msgspec.Struct, frozen=True):
    """What a call calls, or the next part of that; the first has the name."""

    arguments: str
    name: str | UnsetType = UNSET


class Called(msgspec.Struct, frozen=True):
    """A call of a tool, or the next part of one; its first has the id.

    Attributes:
        function: what it calls.
        index: which call of the message; in events only.
    """

    function: CalledName
    index: int | UnsetType = UNSET
    id: str | UnsetType = UNSET
    type: str | UnsetType = UNSET


class Said(msgspec.Struct, frozen=True):
    """The message that the model has written.

    Attributes:
        content: null where it has only called tools.
    """

    content: str | None
    role: str = "assistant"
    refusal: None = None
    tool_calls: Sequence[Called] | UnsetType = UNSET


class Choice(msgspec.Struct, frozen=True):
    """One of the texts."""

    index: int
    message: Said
    logprobs: ChatLogprobs | None
    finish_reason: str


class ChatCompletion(msgspec.Struct, frozen=True):
    """The answer."""

    id: str
    created: int
    model: str
    choices: list[Choice]
    usage: Usage
    object: str = "chat.completion"


class Delta(msgspec.Struct, frozen=True):
    """What an event adds to the message; the first of a choice says whose it is."""

    content: str | UnsetType = UNSET
    role: str | UnsetType = UNSET
    tool_calls: Sequence[Called] | UnsetType = UNSET


class ChunkChoice(msgspec.Struct, frozen=True):
    """What a chunk adds to one of the texts."""

    index: int
    delta: Delta
    logprobs: ChatLogprobs | None
    finish_reason: str | None


class ChatCompletionChunk(msgspec.Struct, frozen=True):
    """An event. With `stream_options.include_usage` all have a `usage`, null but in the last."""

    id: str
    created: int
    model: str
    choices: tuple[ChunkChoice, ...]
    usage: Usage | UnsetType | None = UNSET
    object: str = "chat.completion.chunk"


def chat_asked(request: ChatRequest, spec: ModelSpec) -> Asked:
    """What a chat comes to.

    Raises:
        InvalidInput: it can't be asked.
    """
    tools = tools_of(
        functions_of(request.tools or ()),
        choice_of(request.tool_choice),
        parallel=request.parallel_tool_calls,
    )
    if tools is not None and request.ignore_eos:
        raise InvalidInput(
            "ignore_eos: a call ends where it is complete. Send tools or ignore_eos.",
            param="ignore_eos",
        )
    expected = expected_of(request.prediction)
    rows = (chat_of(request.messages, tools=tools, expected=expected),) * request.choices
    most = most_tokens(request, "max_completion_tokens", request.max_completion_tokens)
    sampling = request.sampling(max_tokens=most, logprobs=_logprobs(request))
    return Asked(spec, rows, sampling, "messages")


class ChatShape:
    """How chats are told.

    Args:
        request: that is answered.
    """

    prefix = "chatcmpl"

    def __init__(self, request: ChatRequest) -> None:
        self._choices = request.choices
        self._logprobs = bool(request.logprobs)
        self._no_usage: UnsetType | None = None if request.with_usage else UNSET

    def whole(self, named: Named, outputs: Sequence[Generated]) -> bytes:
        """The body of an answer that comes at once."""
        choices = [
            Choice(
                index,
                _said(named, index, output),
                chat_logprobs(output.logprobs) if self._logprobs else None,
                output.finish.value,
            )
            for index, output in enumerate(outputs)
        ]
        usage = usage_of(outputs, choices=self._choices)
        return to_json(ChatCompletion(named.id, named.created, named.model, choices, usage))

    def begin(self, named: Named) -> Sequence[bytes]:
        """Whose each message is, in events of their own and in the order of the choices.

        The client takes choices for numbered as they first come, and counts the logprobs of the
        event that begins one twice.
        """
        return [
            self._event(named, ChunkChoice(index, Delta("", "assistant"), None, None))
            for index in range(self._choices)
        ]

    def chunk(self, named: Named, chunk: Chunk) -> bytes:
        """The data of the event for a chunk."""
        choice = ChunkChoice(
            chunk.row,
            Delta(chunk.text or UNSET, tool_calls=_pieces(named, chunk) or UNSET),
            chat_logprobs(chunk.logprobs) if self._logprobs and chunk.logprobs else None,
            None if chunk.finish is None else chunk.finish.value,
        )
        return self._event(named, choice)

    def usage(self, named: Named, outputs: Sequence[Generated]) -> bytes:
        """The data of the event that tells the tokens."""
        usage = usage_of(outputs, choices=self._choices)
        return to_json(ChatCompletionChunk(named.id, named.created, named.model, (), usage))

    def _event(self, named: Named, choice: ChunkChoice) -> bytes:
        return to_json(
            ChatCompletionChunk(named.id, named.created, named.model, (choice,), self._no_usage)
        )


def _said(named: Named, row: int, output: Generated) -> Said:
    if not output.calls:
        return Said(output.text)
    calls = [
        Called(
            CalledName(call.arguments, call.name),
            id=call_id(named.id, row, index),
            type="function",
        )
        for index, call in enumerate(output.calls)
    ]
    return Said(output.text or None, tool_calls=calls)


def _pieces(named: Named, chunk: Chunk) -> list[Called]:
    return [
        Called(
            CalledName(piece.arguments, piece.name),
            piece.index,
            call_id(named.id, chunk.row, piece.index),
            "function",
        )
        if piece.name
        else Called(CalledName(piece.arguments), piece.index)
        for piece in chunk.calls
    ]


def _logprobs(request: ChatRequest) -> int | None:
    if request.top_logprobs is not None and not request.logprobs:
        raise InvalidInput(
            "top_logprobs goes with `logprobs: true` only: send both, or neither.",
            param="top_logprobs",
        )
    return (request.top_logprobs or 0) if request.logprobs else None


CHATS: Final = Form(msgspec.json.Decoder(ChatRequest), REFUSED, chat_asked, ChatShape)
