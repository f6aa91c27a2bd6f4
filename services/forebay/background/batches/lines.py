"""A line of a batch's file and the request in it."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from itertools import islice
from typing import IO, Final

import msgspec

from forebay.contract.batches import MOST_CUSTOM_ID, Fault
from forebay.contract.errors import InvalidInput
from forebay.contract.validation import explain
from forebay.storage.lines import Line, lines_of

ENVELOPE_BYTES: Final = 8_192
"""Of a line, so much may be beside the request's body."""

LINES_AT_ONCE: Final = 256
BYTES_AT_ONCE: Final = 1_000_000
"""Read in one go; the next is read when these have been taken."""

_BOM: Final = b"\xef\xbb\xbf"


class LineRequest(msgspec.Struct, frozen=True):
    """The request of a line.

    Attributes:
        custom_id: what the client calls it, once in a file.
        method: HTTP's.
        url: the batch's endpoint.
        body: a JSON object.
    """

    custom_id: str
    method: str
    url: str
    body: msgspec.Raw


class FaultyLine(Exception):  # noqa: N818 - tells of a fault
    """A line that holds no request of this batch.

    Args:
        fault: what is wrong.
    """

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.message)
        self.fault = fault


_decoder = msgspec.json.Decoder(LineRequest)


def read_lines(file: IO[bytes], *, max_body_bytes: int) -> Iterator[Line]:
    """The lines of a file that are not blank. Blocks while it reads."""
    for line in lines_of(file, max_bytes=max_body_bytes + ENVELOPE_BYTES):
        text = line.text.removeprefix(_BOM) if line.number == 1 else line.text
        if text.strip():
            yield line if text is line.text else msgspec.structs.replace(line, text=text)


async def each_line(lines: Iterator[Line]) -> AsyncIterator[Line]:
    """Lines that are read in a thread, some at a time."""
    while some := await asyncio.to_thread(_some, lines):
        for line in some:
            yield line


def _some(lines: Iterator[Line]) -> list[Line]:
    some: list[Line] = []
    size = 0
    for line in islice(lines, LINES_AT_ONCE):
        some.append(line)
        size += len(line.text)
        if size > BYTES_AT_ONCE:
            break
    return some


def request_of(line: Line, endpoint: str) -> LineRequest:
    """The request of a line.

    Raises:
        FaultyLine: the line has none that belongs into a batch of this endpoint.
    """
    if not line.is_whole:
        raise _faulty(line, "line_too_long", "The line is longer than a request may be.")
    try:
        if not line.text.isascii():
            line.text.decode()  # what the decoder leaves raw it doesn't look at
        request = _decoder.decode(line.text)
    except msgspec.ValidationError as error:
        if not line.text.lstrip().startswith(b"{"):
            raise _faulty(line, "invalid_parameter", "The line is no JSON object.") from None
        why: InvalidInput = explain(str(error))
        missing = "missing required field" in str(error)
        code = "missing_required_parameter" if missing else "invalid_parameter"
        raise _faulty(line, code, why.message, why.param) from None
    except UnicodeDecodeError:
        raise _faulty(line, "invalid_json_line", "The line is not JSON: it is not UTF-8.") from None
    except RecursionError:
        raise _faulty(line, "invalid_json_line", "The line nests too deeply.") from None
    except ValueError as error:
        raise _faulty(line, "invalid_json_line", f"The line is not JSON: {error}.") from None
    if not 0 < len(request.custom_id) <= MOST_CUSTOM_ID:
        raise _faulty(
            line,
            "invalid_custom_id",
            f"custom_id has from 1 to {MOST_CUSTOM_ID} characters.",
            "custom_id",
        )
    if request.method != "POST":
        raise _faulty(
            line, "invalid_method", f"method is POST, not {request.method[:20]!r}.", "method"
        )
    if request.url != endpoint:
        raise _faulty(
            line,
            "mismatched_endpoint",
            f"url is {request.url[:80]!r}, and the batch's endpoint {endpoint!r}: they must be the "
            "same.",
            "url",
        )
    if not bytes(request.body).lstrip().startswith(b"{"):
        raise _faulty(line, "invalid_body", "body is a JSON object.", "body")
    return request


def _faulty(line: Line, code: str, message: str, param: str | None = None) -> FaultyLine:
    return FaultyLine(Fault(code, message, line.number, param))
