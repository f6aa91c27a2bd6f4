"""Forms of several parts (`multipart/form-data`), read as they come.

    bytes of the body ─▶ Form.feed ─▶ Part, its content piece by piece, Part, …

No part is ever held here; each bound says how large what comes before its content may be.
https://www.rfc-editor.org/rfc/rfc7578
"""

from collections.abc import Iterator
from typing import Final

import msgspec
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from forebay.gateway.errors import MalformedBody

MAX_PARTS: Final = 64
MAX_HEADERS: Final = 16
MAX_HEADER_BYTES: Final = 8_192


class Part(msgspec.Struct, frozen=True):
    """The head of a part; its content follows.

    Attributes:
        name: of the form's field.
        filename: what a file is called; None of a field that is no file.
        media_type: what is in it, as the client says; empty if it doesn't.
    """

    name: str
    filename: str | None
    media_type: str


class Form:
    """Reads one form.

    Args:
        content_type: the header that says where a part ends.

    Raises:
        MalformedBody: it is not the header of a form.
    """

    def __init__(self, content_type: bytes) -> None:
        kind, options = parse_options_header(content_type)
        boundary = options.get(b"boundary")
        if kind != b"multipart/form-data" or not boundary:
            raise MalformedBody(
                "The body must be a form: multipart/form-data, with its boundary in Content-Type."
            )
        self._events: list[Part | bytes] = []
        self._header = [b"", b""]
        self._headers: dict[bytes, bytes] = {}
        self._parts = 0
        self._ended = False
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._begin,
                    "on_part_data": self._data,
                    "on_header_field": self._header_name,
                    "on_header_value": self._header_value,
                    "on_header_end": self._header_end,
                    "on_headers_finished": self._head,
                    "on_end": self._end,
                },
                max_header_count=MAX_HEADERS,
                max_header_size=MAX_HEADER_BYTES,
            )
        except FormParserError as error:
            raise _malformed(error) from None

    def feed(self, data: bytes) -> Iterator[Part | bytes]:
        """Read on.

        Yields:
            Each part that begins, and what there is of its content.

        Raises:
            MalformedBody: it is no form, or one of more than `MAX_PARTS` parts.
        """
        try:
            self._parser.write(data)
        except FormParserError as error:
            raise _malformed(error) from None
        events, self._events = self._events, []
        yield from events

    def finish(self) -> None:
        """Say that nothing more comes.

        Raises:
            MalformedBody: more should have.
        """
        if not self._ended:
            raise MalformedBody("The form is cut short: its last boundary is missing.")

    def _begin(self) -> None:
        self._parts += 1
        if self._parts > MAX_PARTS:
            raise MalformedBody(f"The form has more than {MAX_PARTS} parts.")
        self._headers = {}

    def _header_name(self, data: bytes, start: int, end: int) -> None:
        self._header[0] += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._header[1] += data[start:end]

    def _header_end(self) -> None:
        name, value = self._header
        self._headers[name.lower()] = value
        self._header = [b"", b""]

    def _head(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition"))
        filename = options.get(b"filename")
        self._events.append(
            Part(
                options.get(b"name", b"").decode("utf-8", "replace"),
                None if filename is None else filename.decode("utf-8", "replace"),
                self._headers.get(b"content-type", b"").decode("latin-1").strip(),
            )
        )

    def _data(self, data: bytes, start: int, end: int) -> None:
        self._events.append(data[start:end])

    def _end(self) -> None:
        self._ended = True


def _malformed(error: Exception) -> MalformedBody:
    return MalformedBody(f"The body is not a form as its Content-Type has it: {error}.")
