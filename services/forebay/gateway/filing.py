"""The gateway's files: taken in, shown, sent, deleted; and read where an input names one.

What blocks runs on threads of this room's own, so that a slow store holds up files and nothing
else. Dialects say what a file is for and how it is shown.
"""

import asyncio
import functools
import mimetypes
import re
from collections.abc import AsyncGenerator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from email.utils import formatdate
from typing import IO, Final, TypeVar
from urllib.parse import quote

from forebay.contract.errors import InvalidInput, NotFound
from forebay.contract.files import FileRecord, Page, Purpose, Terms, id_in
from forebay.gateway.access import visitor
from forebay.gateway.downloads import Download, Span, span_of
from forebay.gateway.errors import RangeNotThere
from forebay.gateway.http import Call, Header
from forebay.gateway.parcelling import Parcelling
from forebay.gateway.uploads import Receiving
from forebay.storage.file_records import Files

T = TypeVar("T")

THREADS: Final = 8
"""Files that are read or written at one moment."""

_PIECE = 1 << 18
_MEDIA_TYPE = re.compile(r"[\w!#$&^.+-]{1,127}/[\w!#$&^.+-]{1,127}", re.ASCII)

ReadTerms = Callable[[Mapping[str, str], str, str], Terms]
"""Makes a file's terms of a form's other fields, its name and its media type."""


class Filing:
    """Files over HTTP. Nothing tells whose they are, so where API keys are asked for, an admin's.

    Args:
        files: the store.
        max_bytes: largest file that is taken.

    Attributes:
        parcels: files that come in parts.
    """

    def __init__(self, files: Files, *, max_bytes: int) -> None:
        self._files = files
        self._max_bytes = max_bytes
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="files")
        self.parcels = Parcelling(files, self._threads, max_bytes=max_bytes)

    async def take(self, call: Call, *, field: str, terms: ReadTerms) -> FileRecord:
        """Store the file of a form.

        Args:
            call: at an endpoint that doesn't read the body.
            field: of the form, that holds the file.
            terms: makes its terms of the rest.

        Raises:
            MalformedBody: the body is no form.
            PayloadTooLarge: the file is too large.
            InvalidInput: it is missing or empty, or a field is wrong.
            Unavailable: the store is out of reach.
            ClientGone: the client went away.
        """
        visitor.check_admin()
        async with Receiving(
            self._files.begin, self._threads, field=field, max_bytes=self._max_bytes
        ) as received:
            await received.run(call)
            assert received.part is not None
            upload = received.upload
            assert upload is not None
            filename = received.part.filename or ""
            said = terms(
                received.fields, filename, media_type_of(received.part.media_type, filename)
            )
            return await self._blocking(lambda: upload.finish(said))

    async def get(self, file_id: str) -> FileRecord:
        """What is known of a file.

        Raises:
            NotFound: there is none.
            Unavailable: the store is out of reach.
        """
        return await self._blocking(lambda: self._files.get(file_id))

    async def page(
        self,
        *,
        limit: int,
        after: str | None = None,
        newest_first: bool = True,
        purpose: Purpose | None = None,
    ) -> Page:
        """Files by age; see `Files.page`.

        Raises:
            Unavailable: the store is out of reach.
        """
        return await self._blocking(
            lambda: self._files.page(
                limit=limit, after=after, newest_first=newest_first, purpose=purpose
            )
        )

    async def delete(self, file_id: str) -> None:
        """Delete a file.

        Raises:
            NotFound: there is none.
            InvalidInput: it is in use.
            Unavailable: the store is out of reach.
        """
        await self._blocking(lambda: self._files.delete(file_id))

    async def content(self, call: Call, file_id: str) -> Download:
        """A file, or the range of it that the client wants.

        Raises:
            NotFound: there is none.
            RangeNotThere: it has no such bytes.
            Unavailable: the store is out of reach.
        """
        record = await self.get(file_id)
        etag = b'"%s"' % record.sha256.encode()
        headers: tuple[Header, ...] = (
            (b"accept-ranges", b"bytes"),
            (b"cache-control", b"private, max-age=0, must-revalidate"),
            (b"etag", etag),
            (b"last-modified", formatdate(record.created_at, usegmt=True).encode()),
        )
        known = call.header(b"if-none-match")
        if known == b"*" or etag in known:  # of one or of several, strong or weak
            return Download(304, 0, headers)
        wanted = span_of(call.header(b"range"), record.bytes)
        if wanted is not None and call.header(b"if-range") not in (b"", etag):
            wanted = None  # the part that the client has is of another file
        if wanted is not None and not wanted.size:
            raise RangeNotThere(record.bytes)
        span = wanted or Span(0, record.bytes)
        headers += (
            (b"content-type", record.media_type.encode("latin-1", "replace")),
            (b"content-disposition", _attachment(record.filename)),
            # Whatever is in it, a browser is to show nothing of it as ours.
            (b"content-security-policy", b"sandbox"),
            (b"x-content-type-options", b"nosniff"),
        )
        if wanted is not None:
            last = span.start + span.size - 1
            headers += ((b"content-range", b"bytes %d-%d/%d" % (span.start, last, record.bytes)),)
        return Download(
            200 if wanted is None else 206,
            span.size,
            headers,
            lambda: self._chunks(file_id, span),
        )

    async def read(self, named: str, *, max_bytes: int, param: str) -> bytes | None:
        """What an input names, if that is a file of ours.

        Args:
            named: an id or a URL.
            max_bytes: largest that it may be.
            param: the field that names it.

        Returns:
            Its content; None of a URL where there is no file here, and there may be elsewhere.

        Raises:
            InvalidInput: it is no file's id, or the file is too large.
            Unavailable: the store is out of reach.
        """
        file_id = id_in(named)
        if file_id is None:
            return None
        try:
            record = await self.get(file_id)
        except NotFound as error:
            if named != file_id:
                return None
            raise InvalidInput(f"{param}: {error.message}", param=param) from None
        if record.bytes > max_bytes:
            raise InvalidInput(
                f"{param} is a file of {record.bytes:,} bytes; the files of one request may have "
                f"{max_bytes:,} together.",
                param=param,
            )
        return await self._blocking(lambda: self._whole(file_id))

    async def aclose(self) -> None:
        """End the threads, once they have done what they are at."""
        await asyncio.to_thread(self._threads.shutdown)

    async def _chunks(self, file_id: str, span: Span) -> AsyncGenerator[bytes, None]:
        file = await self._blocking(lambda: self._opened(file_id, span.start))
        left = span.size
        try:
            while left:
                size = min(left, _PIECE)
                chunk = await self._blocking(functools.partial(file.read, size))
                if not chunk:
                    raise NotFound(f"The file {file_id!r} is shorter than it was.")
                left -= len(chunk)
                yield chunk
        finally:
            file.close()

    def _opened(self, file_id: str, at: int) -> IO[bytes]:
        file = self._files.contents.open(file_id)
        file.seek(at)
        return file

    def _whole(self, file_id: str) -> bytes:
        with self._files.contents.open(file_id) as file:
            return file.read()

    async def _blocking(self, work: Callable[[], T]) -> T:
        visitor.check_admin()
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)


def media_type_of(said: str, filename: str) -> str:
    """What is in a file: as the client says, or as its name does."""
    kind = said.partition(";")[0].strip().lower()
    if _MEDIA_TYPE.fullmatch(kind):
        return kind
    return mimetypes.guess_type(filename)[0] or "application/octet-stream"


def _attachment(filename: str) -> bytes:
    """A `Content-Disposition` that has a browser save it: RFC 6266."""
    plain = re.sub(r'[^\x20-\x7e]|["\\%]', "_", filename)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(filename, safe='')}".encode()
