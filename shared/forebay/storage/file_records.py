"""Files with what is known of them, all of it in the file store.

    <files_url>/contents/<id>              the bytes
               /records/<id>               what is known, JSON; the file exists while this does
               /holds/<id>.<holder>        whoever needs it to stay
               /segments/<id>.<index>      what a file that is yet to be joined is made of
               /parcels/<id>               what is sent in parts: storage/parcels.py

A record is written after its content and deleted before it, so that a file is there whole or not
at all, whatever is killed. Redis has no part in it: files outlive it, and any process that shares
the store has the same files (decision 0053). Ids sort by age, so that a page of a list takes one
listing and the records on the page. Calls block; async callers use a thread.
"""

import hashlib
import logging
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from typing import IO, Self

import msgspec

from forebay.contract.errors import InvalidInput, NotFound
from forebay.contract.files import FILE_ID, FileRecord, Page, Purpose, Terms, label
from forebay.runtime.settings import Settings
from forebay.storage.files import FileStore, Writing

log = logging.getLogger(__name__)

ABANDONED_S = 7 * 86_400.0
"""Age at which what nobody has finished, joined or let go counts as left behind, seconds."""

MOST_KNOWN = 20_000
"""Records kept in memory: about 10 MB."""

_decoder = msgspec.json.Decoder(FileRecord)


class Files:
    """The files of one store.

    Args:
        url: a folder or any fsspec URL.
        retention_s: how long a file is kept at most, from its creation.
        now: the clock, Unix time in seconds.
        options: passed to the file system.

    Raises:
        ConfigurationError: the URL is of no file system that is known or installed.
    """

    def __init__(
        self,
        url: str,
        *,
        retention_s: float,
        now: Callable[[], float] = time.time,
        **options: object,
    ) -> None:
        root = url.rstrip("/")
        self.contents = FileStore(f"{root}/contents", now=now, **options)
        self.segments = FileStore(f"{root}/segments", now=now, **options)
        self.parcels = FileStore(f"{root}/parcels", now=now, **options)
        self._records = FileStore(f"{root}/records", now=now, **options)
        self._holds = FileStore(f"{root}/holds", now=now, **options)
        self._retention_s = retention_s
        self._now = now
        self._known: OrderedDict[str, FileRecord] = OrderedDict()
        self._ids = threading.Lock()
        self._last_ms = 0

    def new_id(self) -> str:
        """An id that nobody has and nobody can guess, and that sorts after those before it."""
        with self._ids:
            self._last_ms = max(self._last_ms + 1, int(self._now() * 1000))
            return f"file-{self._last_ms:012x}{secrets.token_hex(10)}"

    def begin(self, file_id: str | None = None) -> "Upload":
        """Begin to write a file.

        Args:
            file_id: one that was chosen before, by `new_id`.

        Raises:
            Unavailable: the store is out of reach.
        """
        file_id = file_id or self.new_id()
        return Upload(self, file_id, self.contents.begin(file_id))

    def put(
        self, chunks: Iterable[bytes], terms: Terms, *, file_id: str | None = None
    ) -> FileRecord:
        """Write a file. If `chunks` raises, nothing is kept.

        Raises:
            Unavailable: the store is out of reach.
        """
        with self.begin(file_id) as upload:
            for chunk in chunks:
                upload.write(chunk)
            return upload.finish(terms)

    def keep(self, record: FileRecord) -> None:
        """Have a file exist whose content is there."""
        self._records.put(record.id, [msgspec.json.encode(record)])

    def made(self, file_id: str, size: int, sha256: str, terms: Terms) -> FileRecord:
        """The record of a file that is made now."""
        now = self._now()
        kept_s = self._retention_s
        if terms.expires_after_s is not None:
            kept_s = min(kept_s, terms.expires_after_s)
        return FileRecord(
            id=file_id,
            filename=label(terms.filename),
            bytes=size,
            purpose=terms.purpose,
            created_at=now,
            expires_at=now + kept_s,
            media_type=terms.media_type,
            sha256=sha256,
            metadata=terms.metadata,
        )

    def get(self, file_id: str) -> FileRecord:
        """What is known of a file.

        Raises:
            NotFound: there is none, or its time is over and nobody holds it.
            Unavailable: the store is out of reach.
        """
        found = None
        if FILE_ID.fullmatch(file_id):
            content = self._records.read([file_id]).get(file_id)
            found = None if content is None else self._decoded(file_id, content)
        if found is None or (self._is_over(found) and file_id not in self._held()):
            raise NotFound(f"There is no file {file_id[:80]!r}; it may have expired.")
        return found

    def open(self, file_id: str) -> IO[bytes]:
        """A file's content, to be read and closed; it can be sought in.

        Raises:
            NotFound: there is none, or its time is over and nobody holds it.
            Unavailable: the store is out of reach.
        """
        return self.contents.open(self.get(file_id).id)

    def page(
        self,
        *,
        limit: int,
        after: str | None = None,
        newest_first: bool = True,
        purpose: Purpose | None = None,
    ) -> Page:
        """Files by age.

        Args:
            limit: the most of them.
            after: the id that the page before ended with; it need not be there any more.
            newest_first: else the oldest.
            purpose: of those alone.

        Raises:
            Unavailable: the store is out of reach.
        """
        names = sorted(filter(FILE_ID.fullmatch, self._records.names()), reverse=newest_first)
        if after is not None:
            names = [name for name in names if (name < after if newest_first else name > after)]
        found: list[FileRecord] = []
        at = 0
        while at < len(names) and len(found) <= limit:
            some = names[at : at + limit + 1]
            at += len(some)
            found += [
                record
                for record in self._read(some)
                if not self._is_over(record) and purpose in (None, record.purpose)
            ]
        return Page(found[:limit], len(found) > limit)

    def delete(self, file_id: str) -> None:
        """Delete a file.

        Raises:
            NotFound: there is none.
            InvalidInput: somebody holds it.
            Unavailable: the store is out of reach.
        """
        self.get(file_id)
        holders = self._held().get(file_id)
        if holders:
            raise InvalidInput(
                f"{file_id!r} is in use by {', '.join(sorted(holders))}, and can be deleted when "
                "that has ended."
            )
        self._delete(file_id)

    def hold(self, file_id: str, *, by: str) -> FileRecord:
        """Have a file stay until it is released, past its time if need be; again to renew it.

        A hold that is not renewed for `ABANDONED_S` seconds counts for nothing.

        Args:
            file_id: the file.
            by: who needs it: letters, digits, `_` and `-`.

        Raises:
            NotFound: there is none, or its time is over.
            Unavailable: the store is out of reach.
        """
        # First the hold, then the look: otherwise it could go between the two.
        if FILE_ID.fullmatch(file_id):
            self._holds.put(f"{file_id}.{by}", [b"1"])
        try:
            return self.get(file_id)
        except NotFound:
            self.release(file_id, by=by)
            raise

    def release(self, file_id: str, *, by: str) -> None:
        """Let a file go; no error if it was not held.

        Raises:
            Unavailable: the store is out of reach.
        """
        if FILE_ID.fullmatch(file_id):
            self._holds.delete(f"{file_id}.{by}")

    def expire(self) -> int:
        """Delete files whose time is over, and what was left behind; how many files.

        Raises:
            Unavailable: the store is out of reach.
        """
        self._holds.expire(ABANDONED_S)
        self.segments.expire(ABANDONED_S)
        names = list(filter(FILE_ID.fullmatch, self._records.names()))
        held = self._held()
        gone = [
            record
            for record in self._read(names)
            if self._is_over(record) and record.id not in held
        ]
        for record in gone:
            self._delete(record.id)
        self._records.sweep(ABANDONED_S)
        self.contents.sweep(ABANDONED_S)
        listed = set(names)
        for content in list(self.contents.older_than(ABANDONED_S)):
            if content.name not in listed and not self._records.read([content.name]):
                self.contents.delete(content.name)
        return len(gone)

    def _delete(self, file_id: str) -> None:
        self._known.pop(file_id, None)
        self._records.delete(file_id)
        self.contents.delete(file_id)

    def _is_over(self, record: FileRecord) -> bool:
        # The retention may have been shortened since.
        return self._now() >= min(record.expires_at, record.created_at + self._retention_s)

    def _held(self) -> dict[str, set[str]]:
        held: dict[str, set[str]] = {}
        for name in self._holds.names():
            file_id, _, holder = name.partition(".")
            held.setdefault(file_id, set()).add(holder)
        return held

    def _read(self, names: Sequence[str]) -> list[FileRecord]:
        """Records in order; what is known already is not read again, for they don't change."""
        known = {name: record for name in names if (record := self._known.get(name)) is not None}
        missing = [name for name in names if name not in known]
        for name, content in self._records.read(missing).items():
            record = self._decoded(name, content)
            if record is not None:
                known[name] = self._known[name] = record
        while len(self._known) > MOST_KNOWN:
            self._known.popitem(last=False)
        return [known[name] for name in names if name in known]

    def _decoded(self, name: str, content: bytes) -> FileRecord | None:
        try:
            return _decoder.decode(content)
        except msgspec.MsgspecError as error:
            log.warning("the record of %s can't be read: %s", name, error)
            return None


def files_of(settings: Settings) -> Files:
    """The files that settings name.

    Raises:
        ConfigurationError: `files_url` is of no file system that is known or installed.
    """
    return Files(settings.files_at, retention_s=settings.file_retention_s)


class Upload:
    """A file that is being written: there once it is finished, and only then.

    As a context manager it is given up on leaving, if it is not finished.

    Args:
        files: where it will be.
        file_id: its id.
        writing: its content.
    """

    def __init__(self, files: Files, file_id: str, writing: Writing) -> None:
        self.id = file_id
        self._files = files
        self._writing = writing
        self._hash = hashlib.sha256()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.abandon()

    @property
    def size(self) -> int:
        """Bytes that were written."""
        return self._writing.size

    def write(self, chunk: bytes) -> None:
        """Append some bytes.

        Raises:
            Unavailable: the store is out of reach, or full.
        """
        self._writing.write(chunk)
        self._hash.update(chunk)

    def finish(self, terms: Terms) -> FileRecord:
        """Have it there.

        Raises:
            Unavailable: the store is out of reach, or full.
        """
        self._writing.finish()
        record = self._files.made(self.id, self.size, self._hash.hexdigest(), terms)
        self._files.keep(record)
        return record

    def abandon(self) -> None:
        """Keep nothing of it, unless it is finished."""
        self._writing.abandon()
