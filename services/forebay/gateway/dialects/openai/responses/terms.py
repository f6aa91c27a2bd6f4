"""What a request for a response says."""

from typing import Any, Final

import msgspec

from forebay.contract.errors import InvalidInput
from forebay.contract.generation import Sampling
from forebay.contract.tools import Tools
from forebay.gateway.dialects.openai.parameters import (
    ModelRequest,
    Refused,
    StreamOptions,
    check_streamed,
    most_tokens,
)
from forebay.gateway.dialects.openai.responses.forms import (
    FunctionTool,
    NamedChoice,
    TextOptions,
    choice_of,
    format_of,
    function_of,
)
from forebay.gateway.generation import Tokens, TopLogprobs
from forebay.gateway.tools import Choice, tools_of

LOGPROBS: Final = "message.output_text.logprobs"

INCLUDABLE: Final = frozenset(
    {
        LOGPROBS,
        "code_interpreter_call.outputs",
        "computer_call_output.output.image_url",
        "file_search_call.results",
        "message.input_image.image_url",
        "reasoning.encrypted_content",
        "web_search_call.action.sources",
        "web_search_call.results",
    }
)
"""What may be wanted in a response. But for logprobs it is about items that none here has."""

_LEAVE_OUT: Final = "leave it out"

REFUSED: Final[Refused] = {
    "max_tool_calls": (frozenset(), "clients carry out calls here, and may stop; leave it out"),
    "truncation": (
        frozenset({"disabled"}),
        "nothing is cut silently; leave out of the conversation what it can do without",
    ),
    "conversation": (frozenset(), "go on with a response by previous_response_id"),
    "prompt": (frozenset(), "no templates are kept here; send the text itself"),
    "context_management": (frozenset({"[]"}), "nothing is made shorter by itself; leave it out"),
    "reasoning": (
        frozenset({"{}", '{"effort":null}', '{"effort":"none"}'}),
        "say in the instructions how much thought it should take",
    ),
    "image": (frozenset({"{}"}), "models here read and write text only; leave it out"),
    "moderation": (frozenset(), "ask a classifier at /v1/moderations"),
    "access_programs": (frozenset({"{}"}), _LEAVE_OUT),
    "background_options": (frozenset({"{}", '{"completion_window":"soonest"}'}), _LEAVE_OUT),
    "service_tier": (frozenset({"auto", "default"}), _LEAVE_OUT),
    "prompt_cache_options": (frozenset({"{}"}), "prompts are reused without being told"),
    "prompt_cache_retention": (frozenset({"in_memory"}), "prompts are reused from memory only"),
}
"""Fields that nothing here heeds: values that ask for nothing, and what to do instead."""


class Terms(ModelRequest, frozen=True, kw_only=True, omit_defaults=True):
    """What a request says and its response repeats. What is null is as if nobody had said it.

    Attributes:
        instructions: come before the conversation, and are not part of it.
        previous_response_id: whose conversation goes on.
        max_output_tokens: the name of `max_tokens` here.
        top_logprobs: how many of the most likely tokens are told with each; needs `include`.
        include: what else is told: how likely each token was.
        background: answer at once, and go on without the client.
        store: keep the response, so that it can be asked for and gone on with.
        safety_identifier: keeps its version of the model, where there is no `user`.
        prompt_cache_key: needed for nothing: prompts are recognised by themselves.
        text: what the text is to be like.
        tools: functions that the model may call.
        tool_choice: whether it may or must call one, or which one it must.
        parallel_tool_calls: whether it may call several at once.
    """

    instructions: str | None = None
    previous_response_id: str | None = None
    max_output_tokens: Tokens | None = None
    top_logprobs: TopLogprobs | None = None
    include: tuple[str, ...] | None = None
    background: bool | None = None
    store: bool | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    text: TextOptions | None = None
    tools: tuple[FunctionTool, ...] | None = None
    tool_choice: Choice | NamedChoice | None = None
    parallel_tool_calls: bool | None = None

    @property
    def may_call(self) -> bool:
        """Whether the answer may be a call of a tool."""
        return bool(self.tools) and self.tool_choice != "none"

    @property
    def stored(self) -> bool:
        """Whether the response can be asked for later."""
        return self.store is not False

    @property
    def with_logprobs(self) -> bool:
        """Whether it is told how likely tokens were."""
        return LOGPROBS in (self.include or ())

    @property
    def whose(self) -> str | None:
        """Who it is for, as far as the request says."""
        return self.user or self.safety_identifier

    def to_call(self) -> Tools | None:
        """What a worker is told of tools; None where nothing may be called.

        Raises:
            InvalidInput: they can't be called.
        """
        functions = [function_of(tool, at) for at, tool in enumerate(self.tools or ())]
        tools = tools_of(
            functions, choice_of(self.tool_choice), parallel=self.parallel_tool_calls, inside=""
        )
        if tools is not None and (self.with_logprobs or self.ignore_eos):
            name = "include" if self.with_logprobs else "ignore_eos"
            raise InvalidInput(
                f"{name} goes with no tools: of what may be a call it can't be done.", param=name
            )
        return tools

    def to_sample(self) -> Sampling:
        """What a worker is told.

        Raises:
            InvalidInput: it can't be.
        """
        sampling = self.sampling(
            max_tokens=most_tokens(self, "max_output_tokens", self.max_output_tokens),
            logprobs=(self.top_logprobs or 0) if self.with_logprobs else None,
        )
        asked = None if self.text is None else self.text.format
        format_ = None if asked is None else format_of(asked)
        if format_ is None:
            return sampling
        for name in ("response_format", "ignore_eos"):
            if getattr(self, name):
                raise InvalidInput(
                    f"{name} goes with no text.format: send one of them.", param=name
                )
        return msgspec.structs.replace(sampling, format=format_)


class KeptTerms(Terms, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=False):
    """Terms as they are kept: a later release may keep more of them."""


class ResponseRequest(Terms, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body, as OpenAI documents it, and the parameters of `SamplingFields` that it lacks.

    Attributes:
        input: a text of the user's, or items, each of which is looked at by its type.
        stream_options: only with `stream`.
    """

    input: str | tuple[msgspec.Raw, ...] | None = None
    stream_options: StreamOptions | None = None

    max_tool_calls: Any = None
    truncation: Any = None
    conversation: Any = None
    prompt: Any = None
    context_management: Any = None
    reasoning: Any = None
    image: Any = None
    moderation: Any = None
    access_programs: Any = None
    background_options: Any = None
    service_tier: Any = None
    prompt_cache_options: Any = None
    prompt_cache_retention: Any = None

    def check(self, refused: Refused) -> None:
        """Refuse what can't be done.

        Raises:
            InvalidInput: it is asked for.
        """
        super().check(refused)
        if self.text is not None and self.text.verbosity not in (None, "medium"):
            raise InvalidInput(
                "text.verbosity is not available here: say in the instructions how long the "
                "answer should be.",
                param="text.verbosity",
            )
        for name in self.include or ():
            if name not in INCLUDABLE:
                raise InvalidInput(
                    f"include has {name[:80]!r}, which nothing here knows.", param="include"
                )
        if self.top_logprobs and not self.with_logprobs:
            raise InvalidInput(
                f"top_logprobs goes with {LOGPROBS!r} in include only: send both, or neither.",
                param="top_logprobs",
            )
        if self.background and not self.stored:
            raise InvalidInput(
                "A response in the background is asked for later, so it has to be stored: leave "
                "store out.",
                param="store",
            )
        check_streamed(self.stream_options, stream=bool(self.stream))
