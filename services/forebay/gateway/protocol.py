"""HTTP/1.1 as uvicorn speaks it, with errors of ours for what its parser refuses.

uvicorn answers all that the parser can't read with a line of plain text. A client that sends a
method the parser has never heard of gets what it gets for any other wrong method: 405 with `Allow`,
or 404, in the dialect of the path. For the rest there is no path to go by: RFC 9457.
"""

import re
import secrets
import sys
from http import HTTPStatus
from typing import Any, Final, cast

from httptools import HttpParserInvalidMethodError
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from forebay.gateway.corked import CorkedProtocol
from forebay.gateway.errors import MalformedRequest, fault_of
from forebay.gateway.http import WHEN_GONE, render_problem

_REQUEST_LINE: Final = re.compile(
    rb"(?P<method>[!#$%&'*+.^_`|~0-9A-Za-z-]{1,40}) (?P<target>/[!-~]*) "
    rb"HTTP/(?P<version>1\.[01])\r?\n"
)


class Protocol(CorkedProtocol):
    """One connection."""

    _data = b""

    def data_received(self, data: bytes) -> None:
        """Take what has come."""
        self._data = data
        super().data_received(data)
        self._data = b""

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone, or we have hung up."""
        super().connection_lost(exc)
        cycle = cast(RequestResponseCycle | None, self.cycle)
        if cycle is not None and not cycle.response_complete:
            tell = cast(dict[str, Any], cycle.scope).get(WHEN_GONE)
            if tell is not None:
                tell()

    def send_400_response(self, msg: str) -> None:
        """Answer what the parser has refused; called while its error is being handled."""
        unknown = isinstance(sys.exception(), HttpParserInvalidMethodError)
        line = _REQUEST_LINE.match(self._data) if unknown else None
        if line is not None and not self._is_answering():
            self.parser = cast(Any, _KnowsBetter(line["method"], line["version"]))
            self.on_message_begin()
            self.on_url(line["target"])
            self.on_headers_complete()
            return
        request_id = f"req_{secrets.token_hex(10)}"
        answer = render_problem(fault_of(MalformedRequest()), request_id)
        status = HTTPStatus(answer.status)
        name, content_type = answer.content_type
        self.transport.write(
            b"HTTP/1.1 %d %s\r\n" % (status, status.phrase.encode())
            + b"%s: %s\r\n" % (name, content_type)
            + b"content-length: %d\r\n" % len(answer.body)
            + b"x-request-id: %s\r\n" % request_id.encode()
            + b"connection: close\r\n\r\n"
            + answer.body
        )
        self.transport.close()

    def _is_answering(self) -> bool:
        # There is none before the first request, whatever its type says.
        cycle = cast(RequestResponseCycle | None, self.cycle)
        return cycle is not None and not cycle.response_complete


class _KnowsBetter:
    """Stands in for a parser that has given up on a request's method, until its answer is sent.

    Args:
        method: as the client sent it.
        version: of HTTP, likewise.
    """

    def __init__(self, method: bytes, version: bytes) -> None:
        self._method = method
        self._version = version.decode()

    def get_method(self) -> bytes:
        """The method."""
        return self._method

    def get_http_version(self) -> str:
        """The version."""
        return self._version

    def should_keep_alive(self) -> bool:
        """What comes next can't be told from this request's body."""
        return False

    def should_upgrade(self) -> bool:
        """Nothing is upgraded."""
        return False

    def feed_data(self, data: bytes) -> None:
        """The rest of the request doesn't matter."""
