"""What is kept of a request for a response: the input of its prediction.

    {"messages": [what the model was given], "response": {what the request said beside it}}

A response has the whole conversation before it, so going on with it reads one prediction, and what
was before may lapse.
"""

from typing import Any, Final

import msgspec

from forebay.contract.errors import InvalidInput, NotFound
from forebay.contract.prediction import Prediction, Status
from forebay.contract.rows import ChatRow, Generated
from forebay.contract.tools import Tools
from forebay.gateway.chats import ChatMessage, chat_of
from forebay.gateway.dialects.openai.responses.terms import KeptTerms, Terms
from forebay.gateway.errors import of_one_row
from forebay.gateway.tools import Called, CalledFunction, call_id

_NAMES: Final = {None: "input", "response_format": "text.format"}
"""Names of fields, by what a worker or another endpoint calls them."""


class Kept(msgspec.Struct, frozen=True):
    """What is kept of a request.

    Attributes:
        messages: all that the model was given, the instructions first if there are any.
        response: what the request said beside them.
    """

    messages: tuple[ChatMessage, ...]
    response: KeptTerms

    @property
    def conversation(self) -> tuple[ChatMessage, ...]:
        """The messages without the instructions, which hold for one response only."""
        return self.messages[self.response.instructions is not None :]

    def row(self, tools: Tools | None) -> ChatRow:
        """What the worker is to go on with.

        Args:
            tools: that the model may call.

        Raises:
            InvalidInput: the conversation is too long, or can't be one.
        """
        try:
            return chat_of(self.messages, tools=tools)
        except InvalidInput as error:
            error.param = "input"
            raise


def begun(terms: Terms, before: tuple[ChatMessage, ...], new: tuple[ChatMessage, ...]) -> Kept:
    """What is to be kept of a request.

    Args:
        terms: what it says.
        before: the conversation that it goes on with.
        new: what it adds.
    """
    instructions = terms.instructions
    first = () if instructions is None else (ChatMessage("system", instructions),)
    return Kept((*first, *before, *new), msgspec.convert(terms, KeptTerms, from_attributes=True))


def kept_of(input_value: Any) -> Kept | None:
    """What is kept in a prediction's input; None where it was made by no request for a response."""
    try:
        return msgspec.convert(input_value, Kept)
    except msgspec.ValidationError:
        return None


def after(prediction: Prediction, kept: Kept, param: str) -> tuple[ChatMessage, ...]:
    """The conversation with a response as its end.

    Args:
        prediction: of the response.
        kept: of its request.
        param: where the response was named.

    Raises:
        InvalidInput: the response has no text, or not yet.
    """
    if prediction.status is not Status.SUCCEEDED:
        why = "has ended without a text" if prediction.status.terminal else "has not ended yet"
        raise InvalidInput(f"The response that {param} names {why}.", param=param)
    said = tuple(
        ChatMessage("assistant", output.text, tool_calls=_called(prediction.id, output) or None)
        for output in prediction.outputs
        if isinstance(output, Generated)
    )
    return (*kept.conversation, *said)


def _called(prediction: str, output: Generated) -> tuple[Called, ...]:
    return tuple(
        Called(call_id(prediction, 0, at), CalledFunction(call.name, call.arguments))
        for at, call in enumerate(output.calls)
    )


def no_response(id_: str, param: str | None = None) -> NotFound:
    """The error for an id that names none."""
    return NotFound(
        f"There is no response {id_[:200]!r}: it was never stored, or is no longer kept.",
        param=param,
    )


def name_field(error: InvalidInput) -> None:
    """Say which field of a request for a response is at fault, where others are named otherwise."""
    error.param = _NAMES.get(error.param, error.param)
    error.message = worded(error.message)


def worded(message: str) -> str:
    """A worker's message in the words of this endpoint, whose requests have one row."""
    return of_one_row(message).replace("response_format", _NAMES["response_format"])
