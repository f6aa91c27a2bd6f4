"""Lines of the files that a batch makes, as OpenAI has them."""

import msgspec

from forebay.contract.asking import Answered

STREAM_FAULT = (
    "A request of a batch can't be streamed or run in the background: leave `stream` and "
    "`background` out."
)
EXPIRED = "This request could not be executed before the completion window expired."


class Response(msgspec.Struct, frozen=True):
    """What a request was answered."""

    status_code: int
    request_id: str
    body: msgspec.Raw


class Error(msgspec.Struct, frozen=True):
    """Why a request has no answer."""

    code: str
    message: str


class OutputLine(msgspec.Struct, frozen=True):
    """A line of either file."""

    id: str
    custom_id: str
    response: Response | None
    error: Error | None


_encoder = msgspec.json.Encoder()


def answer_line(id_: str, custom_id: str, answered: Answered) -> bytes:
    """The line for a request that was answered, one way or another."""
    request_id = answered.headers.get("x-request-id", "")
    response = Response(answered.status, request_id, msgspec.Raw(answered.body))
    return _encoder.encode(OutputLine(id_, custom_id, response, None)) + b"\n"


def error_line(id_: str, custom_id: str, code: str, message: str) -> bytes:
    """The line for a request that was not."""
    return _encoder.encode(OutputLine(id_, custom_id, None, Error(code, message))) + b"\n"
