"""A form with a file in it, on its way from the client to the file store.

    receive ─▶ Form ─┬─▶ fields, small and few
                     └─▶ the file ─▶ FileStore, 256 KiB at a time

The client's connection is read no faster than the store takes what came, so that an upload of any
size has the same few pieces in memory.
"""

import asyncio
import functools
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import Executor
from typing import Any, Final, Generic, Protocol, Self, TypeVar

from forebay.contract.errors import InvalidInput
from forebay.gateway.errors import ClientGone, PayloadTooLarge
from forebay.gateway.forms import Form, Part
from forebay.gateway.http import Call

MAX_FIELD_BYTES: Final = 65_536
"""Largest that the fields of one form may be, together."""

OVERHEAD_BYTES: Final = 1_000_000
"""What a form may be larger than the file in it."""

_PIECE = 1 << 18


class Target(Protocol):
    """Where a file goes: a file of the store, or a part of one."""

    @property
    def size(self) -> int:
        """Bytes that were written."""
        ...

    def write(self, chunk: bytes) -> None:
        """Append some bytes. Blocks."""
        ...

    def abandon(self) -> None:
        """Keep nothing of it, unless it is finished. Blocks."""
        ...


T = TypeVar("T", bound=Target)


class Receiving(Generic[T]):
    """One upload. Use as a context manager: what is not finished leaves nothing.

    Args:
        begin: makes where it goes; blocks.
        threads: what blocks runs there.
        field: the form's field that holds the file.
        max_bytes: largest that the file may be.

    Attributes:
        upload: the file; None until it has begun.
        part: how the form names it.
        fields: the others, as text.
    """

    def __init__(
        self, begin: Callable[[], T], threads: Executor, *, field: str, max_bytes: int
    ) -> None:
        self._begin = begin
        self._threads = threads
        self._field = field
        self._max_bytes = max_bytes
        self.upload: T | None = None
        self.part: Part | None = None
        self.fields: dict[str, str] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self.upload is not None:
            await asyncio.shield(self._blocking(self.upload.abandon))

    async def run(self, call: Call) -> None:
        """Read the body to its end.

        Raises:
            MalformedBody: it is no form.
            PayloadTooLarge: the file is too large.
            InvalidInput: the file is missing or empty, or a field is wrong.
            Unavailable: the store is out of reach.
            ClientGone: the client went away.
        """
        form = Form(call.header(b"content-type"))
        content = _Content(self)
        async for chunk in chunks_of(call, limit=self._max_bytes + OVERHEAD_BYTES):
            for event in form.feed(chunk):
                if isinstance(event, Part):
                    await content.end()
                    await content.begin(event)
                else:
                    await content.add(event)
        form.finish()
        await content.end()
        if self.part is None or self.upload is None:
            raise InvalidInput(f"The form has no file in its field {self._field!r}.", param="file")
        if not self.upload.size:
            raise InvalidInput(f"The file {self.part.filename!r} is empty.", param=self._field)

    async def begin(self, part: Part) -> None:
        """Begin with the file."""
        if part.name != self._field:
            raise InvalidInput(
                f"{part.name[:80]!r} holds a file: here it belongs in {self._field!r}.",
                param=part.name[:80],
            )
        if self.part is not None:
            raise InvalidInput("Send one file at a time.", param=self._field)
        self.part = part
        self.upload = await self._blocking(self._begin)

    async def write(self, piece: bytes) -> None:
        """Append to it."""
        assert self.upload is not None
        if self.upload.size + len(piece) > self._max_bytes:
            raise PayloadTooLarge(self._max_bytes)
        await self._blocking(functools.partial(self.upload.write, piece))

    async def _blocking(self, work: Callable[[], Any]) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)


class _Content:
    """The content of the part that is read just now.

    Args:
        receiving: the upload.
    """

    def __init__(self, receiving: Receiving[Any]) -> None:
        self._receiving = receiving
        self._part: Part | None = None
        self._pieces: list[bytes] = []
        self._size = 0
        self._of_fields = 0

    async def begin(self, part: Part) -> None:
        self._part = part
        if part.filename is not None:
            await self._receiving.begin(part)

    async def add(self, piece: bytes) -> None:
        assert self._part is not None
        self._pieces.append(piece)
        self._size += len(piece)
        if self._part.filename is not None:
            if self._size >= _PIECE:
                await self._receiving.write(self._taken())
            return
        if self._of_fields + self._size > MAX_FIELD_BYTES:
            raise InvalidInput(
                f"The form's fields have more than {MAX_FIELD_BYTES:,} bytes together.",
                param=self._part.name[:80],
            )

    async def end(self) -> None:
        part, self._part = self._part, None
        if part is None:
            return
        self._of_fields += 0 if part.filename is not None else self._size
        content = self._taken()
        if part.filename is not None:
            if content:
                await self._receiving.write(content)
            return
        if part.name in self._receiving.fields:
            raise InvalidInput(f"{part.name[:80]!r} is there twice.", param=part.name[:80])
        try:
            self._receiving.fields[part.name] = content.decode()
        except UnicodeDecodeError:
            raise InvalidInput(f"{part.name[:80]!r} is not UTF-8.", param=part.name[:80]) from None

    def _taken(self) -> bytes:
        content = b"".join(self._pieces)
        self._pieces, self._size = [], 0
        return content


async def chunks_of(call: Call, *, limit: int) -> AsyncGenerator[bytes, None]:
    """The body as it comes.

    Args:
        call: one whose endpoint doesn't read the body.
        limit: most bytes of it.

    Raises:
        PayloadTooLarge: it is larger; one that is announced as such is not begun with.
        ClientGone: the client went away.
    """
    assert call.receive is not None
    if int(call.header(b"content-length") or 0) > limit:  # the server has checked that it is one
        raise PayloadTooLarge(limit)
    size, more = 0, True
    while more:
        message = await call.receive()
        if message["type"] != "http.request":
            raise ClientGone
        chunk: bytes = message.get("body", b"")
        more = message.get("more_body", False)
        size += len(chunk)
        if size > limit:
            raise PayloadTooLarge(limit)
        if chunk:
            yield chunk
