"""A response as it is told, from its prediction and what is kept of its request."""

from collections.abc import Sequence
from typing import Final

import msgspec

from forebay.contract.errors import ErrorInfo, ErrorKind, ForebayError
from forebay.contract.generation import Finish, TokenLogprob
from forebay.contract.prediction import Prediction, Status
from forebay.contract.rows import Generated
from forebay.gateway.dialects.openai.logprobs import ChatTokenLogprob, chat_logprobs
from forebay.gateway.dialects.openai.responses.conversation import worded
from forebay.gateway.dialects.openai.responses.forms import (
    FunctionTool,
    NamedChoice,
    TextFormat,
    TextOptions,
)
from forebay.gateway.dialects.openai.responses.items import (
    CallItem,
    MessageItem,
    TextPart,
    output_part,
)
from forebay.gateway.dialects.openai.responses.terms import Terms
from forebay.gateway.tools import call_id

PREFIX: Final = "resp_"
"""Of a response's id; its prediction's follows."""

STATUSES: Final = {
    Status.STARTING: "queued",
    Status.PROCESSING: "in_progress",
    Status.SUCCEEDED: "completed",
    Status.FAILED: "failed",
    Status.CANCELED: "cancelled",
    Status.EXPIRED: "failed",
}
"""As this API knows them; `incomplete` is a text that has succeeded and might be longer."""

_CODES: Final = {
    ErrorKind.INVALID_INPUT: "invalid_prompt",
    ErrorKind.TOO_LONG: "invalid_prompt",
    ErrorKind.LANE_FULL: "rate_limit_exceeded",
}
"""Codes that this API documents; none is of what is too long, and `server_error` is any other."""


_ANY_TEXT: Final = TextOptions(TextFormat("text"))


class Failure(msgspec.Struct, frozen=True):
    """Why there is no text."""

    code: str
    message: str


class Incomplete(msgspec.Struct, frozen=True):
    """Why there might be more text."""

    reason: str = "max_output_tokens"


class InputDetails(msgspec.Struct, frozen=True):
    """Tokens of the prompt that were not computed again."""

    cached_tokens: int
    cache_write_tokens: int = 0


class OutputDetails(msgspec.Struct, frozen=True):
    """Tokens of thoughts that are not told, of which there are none."""

    reasoning_tokens: int = 0


class Usage(msgspec.Struct, frozen=True):
    """What a response cost, in tokens, as the worker counted them."""

    input_tokens: int
    input_tokens_details: InputDetails
    output_tokens: int
    output_tokens_details: OutputDetails
    total_tokens: int


class Reasoning(msgspec.Struct, frozen=True):
    """How much was thought: nothing is said of it."""

    effort: str | None = None
    summary: str | None = None


class Response(msgspec.Struct, frozen=True, kw_only=True):
    """A response.

    Attributes:
        created_at: Unix time in seconds; so is `completed_at`.
        output: the model's message, once it is there.
    """

    id: str
    object: str = "response"
    created_at: int
    status: str
    background: bool
    completed_at: int | None = None
    error: Failure | None = None
    incomplete_details: Incomplete | None = None
    instructions: str | None
    max_output_tokens: int | None
    metadata: dict[str, str]
    model: str
    output: Sequence[MessageItem | CallItem] = ()
    parallel_tool_calls: bool
    previous_response_id: str | None
    prompt_cache_key: str | None
    reasoning: Reasoning = Reasoning()
    safety_identifier: str | None
    service_tier: str = "default"
    store: bool
    temperature: float
    text: TextOptions
    tool_choice: str | NamedChoice
    tools: Sequence[FunctionTool]
    top_logprobs: int
    top_p: float
    truncation: str = "disabled"
    usage: Usage | None = None
    user: str | None


class Deleted(msgspec.Struct, frozen=True):
    """Says that a response is no longer there."""

    id: str
    object: str = "response"
    deleted: bool = True


def begun(prediction: Prediction, terms: Terms, *, status: str) -> Response:
    """A response before its end.

    Args:
        prediction: of the response.
        terms: what its request said.
        status: as this API knows it.
    """
    return Response(
        id=f"{PREFIX}{prediction.id}",
        created_at=prediction.created_at_ms // 1000,
        status=status,
        background=bool(terms.background),
        instructions=terms.instructions,
        max_output_tokens=(
            terms.max_tokens if terms.max_output_tokens is None else terms.max_output_tokens
        ),
        metadata=terms.metadata or {},
        model=terms.model,
        parallel_tool_calls=terms.parallel_tool_calls is not False,
        previous_response_id=terms.previous_response_id,
        prompt_cache_key=terms.prompt_cache_key,
        safety_identifier=terms.safety_identifier,
        store=terms.stored,
        text=terms.text if terms.text is not None and terms.text.format else _ANY_TEXT,
        temperature=1.0 if terms.temperature is None else terms.temperature,
        tool_choice=terms.tool_choice or "auto",
        tools=terms.tools or (),
        top_logprobs=terms.top_logprobs or 0,
        top_p=1.0 if terms.top_p is None else terms.top_p,
        user=terms.user,
    )


def response_of(prediction: Prediction, terms: Terms) -> Response:
    """A response as its prediction is.

    Raises:
        ForebayError: the model has answered with something that is no text.
    """
    told = begun(prediction, terms, status=STATUSES[prediction.status])
    if not prediction.status.terminal:
        return told
    if prediction.status is not Status.SUCCEEDED:
        canceled = prediction.status is Status.CANCELED
        return msgspec.structs.replace(told, error=None if canceled else _failure(prediction.error))
    output = text_of(prediction)
    incomplete = output.finish is Finish.LENGTH
    status = "incomplete" if incomplete else "completed"
    return msgspec.structs.replace(
        told,
        status=status,
        completed_at=_seconds(prediction.completed_at_ms),
        incomplete_details=Incomplete() if incomplete else None,
        output=_items(prediction.id, output, terms, status),
        usage=_usage(output),
    )


def _items(
    prediction: str, output: Generated, terms: Terms, status: str
) -> list[MessageItem | CallItem]:
    items: list[MessageItem | CallItem] = []
    if output.text or not output.calls:
        items.append(message_of(prediction, part_of(output, terms), status))
    items += [
        call_of(prediction, at, call.name, call.arguments, status)
        for at, call in enumerate(output.calls)
    ]
    return items


def call_of(prediction: str, at: int, name: str, arguments: str, status: str) -> CallItem:
    """A call that a prediction comes to.

    Args:
        prediction: its id.
        at: which of its calls.
        name: of the tool.
        arguments: as far as they are written.
        status: of the call.
    """
    id_ = f"fc_{prediction}_{at}"
    return CallItem(id_, call_id(prediction, 0, at), name, arguments, status)


def text_of(prediction: Prediction) -> Generated:
    """What a prediction that has succeeded came to.

    Raises:
        ForebayError: it is no text.
    """
    (output,) = prediction.outputs
    if not isinstance(output, Generated):
        raise ForebayError(f"{prediction.model!r} answered with something that is no text.")
    return output


def message_id(prediction: str) -> str:
    """The id of the message that a prediction comes to."""
    return f"msg_{prediction}"


def message_of(prediction: str, part: TextPart | None, status: str) -> MessageItem:
    """The message that a prediction comes to.

    Args:
        prediction: its id.
        part: the text; None before there is any.
        status: of the message.
    """
    parts = () if part is None else (part,)
    return MessageItem(message_id(prediction), status, "assistant", parts)


def part_of(output: Generated, terms: Terms) -> TextPart:
    """A text as it is told."""
    return output_part(output.text, logprobs_of(output.logprobs, terms))


def logprobs_of(tokens: Sequence[TokenLogprob], terms: Terms) -> tuple[ChatTokenLogprob, ...]:
    """How likely tokens were, where that is wanted."""
    return chat_logprobs(tokens).content if terms.with_logprobs else ()


def _failure(error: ErrorInfo | None) -> Failure:
    if error is None:
        return Failure("server_error", "The prediction ended without a result.")
    return Failure(_CODES.get(error.kind, "server_error"), worded(error.message))


def _usage(output: Generated) -> Usage:
    return Usage(
        output.prompt_tokens,
        InputDetails(output.cached_tokens),
        output.tokens,
        OutputDetails(),
        output.prompt_tokens + output.tokens,
    )


def _seconds(at_ms: int | None) -> int | None:
    return None if at_ms is None else at_ms // 1000
