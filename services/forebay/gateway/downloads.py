"""Answers that are files: sent piece by piece, whole or a range of them.

A client that reads slowly holds up its own download alone, and one that goes away ends it.
https://www.rfc-editor.org/rfc/rfc9110#name-range-requests
"""

import contextlib
import logging
import re
from collections.abc import AsyncGenerator, Callable
from http import HTTPStatus

import msgspec
from starlette.types import Send

log = logging.getLogger(__name__)

_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.ASCII)


class Span(msgspec.Struct, frozen=True):
    """Some bytes of a file.

    Attributes:
        start: the first of them.
        size: how many.
    """

    start: int
    size: int


class Download(msgspec.Struct, frozen=True):
    """A file, or a range of it, as an answer.

    Attributes:
        status: HTTP status.
        size: bytes of the answer.
        headers: but for the length and the request's id.
        chunks: begins to read; is closed when nobody reads on. None of an answer without content.
    """

    status: int
    size: int
    headers: tuple[tuple[bytes, bytes], ...]
    chunks: Callable[[], AsyncGenerator[bytes, None]] | None = None

    async def run(
        self,
        send: Send,
        request_id: str,
        *,
        when_gone: Callable[[Callable[[], None]], None],
        head: bool,
    ) -> None:
        """Send it. What is cut short in the middle is seen to be, for its length was told.

        Args:
            send: ASGI's.
            request_id: told to the client, and in the log.
            when_gone: takes what is to be called if the client goes away.
            head: leave the content out.
        """
        gone = False

        def leave() -> None:
            nonlocal gone
            gone = True

        when_gone(leave)
        headers = [(b"x-request-id", request_id.encode()), *self.headers]
        if self.status != HTTPStatus.NOT_MODIFIED:  # which would tell of the content not sent
            headers.insert(0, (b"content-length", b"%d" % self.size))
        await send(
            {
                "type": "http.response.start",
                "status": self.status,
                "headers": headers,
            }
        )
        if self.chunks is not None and not head:
            try:
                async with contextlib.aclosing(self.chunks()) as chunks:
                    async for chunk in chunks:
                        await send({"type": "http.response.body", "body": chunk, "more_body": True})
                        if gone:
                            return
            except Exception as error:  # of the file system's own kind
                log.warning("%s is cut short: %s: %s", request_id, type(error).__name__, error)
                return
        await send({"type": "http.response.body", "body": b""})


def span_of(header: bytes, size: int) -> Span | None:
    """What a `Range` header asks for; None where it is to be ignored, and all of it sent.

    Of a request for several ranges all is sent, as RFC 9110 allows.

    Args:
        header: its value; empty if there is none.
        size: of the file.

    Returns:
        The range, with no bytes where the file has none of those that are asked for.
    """
    match = _RANGE.fullmatch(header.decode("latin-1").replace(" ", ""))
    if match is None or match[0] == "bytes=-":
        return None
    first, last = match[1], match[2]
    if not first:
        wanted = min(int(last), size)
        return Span(size - wanted, wanted)
    start = int(first)
    end = min(int(last) + 1, size) if last else size
    if last and int(last) < start:
        return None
    return Span(start, max(0, end - start))
