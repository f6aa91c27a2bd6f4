"""The file store: bytes by name, flat under one root, on anything fsspec reaches.

A file appears under its name only once it is whole. Calls block; async callers use a thread.
"""

import contextlib
import os
import re
import secrets
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from datetime import UTC, datetime
from typing import IO, Any, Self, cast

import fsspec.core
import msgspec
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.spec import AbstractBufferedFile

from forebay.contract.errors import ConfigurationError, InvalidInput, NotFound
from forebay.storage.remote import reaching, readable

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")
_PART = ".part-"


class StoredFile(msgspec.Struct, frozen=True):
    """A file of the store.

    Attributes:
        name: what it was put under.
        bytes: its size.
        modified_at: Unix time in seconds.
    """

    name: str
    bytes: int
    modified_at: float


class FileStore:
    """Named files under one root.

    Args:
        root: a folder (`.forebay/files`) or any fsspec URL (`s3://bucket/forebay`, `memory://x`).
        now: the clock that ages are measured by, Unix time in seconds.
        options: passed to the file system: credentials, an endpoint.

    Raises:
        ConfigurationError: the URL is of no file system that is known or installed.
    """

    def __init__(
        self, root: str, *, now: Callable[[], float] = time.time, **options: object
    ) -> None:
        # What another process wrote a moment ago is to be seen: no listing is kept.
        options = {"use_listings_cache": False, **options}
        try:
            fs, path = fsspec.core.url_to_fs(root, **options)
        except (ImportError, ValueError) as error:
            raise ConfigurationError(
                f"files_url: no files can be kept at {root!r}: {error}. Give a folder, or "
                "s3://bucket/prefix with the extra `s3` installed."
            ) from error
        self._fs: Any = fs
        self._root = str(path).rstrip("/")
        self._now = now
        # Elsewhere an object is there once it is whole, and to rename it is to copy it.
        self._renames = isinstance(fs, LocalFileSystem | MemoryFileSystem)

    def begin(self, name: str) -> "Writing":
        """Begin to write a file, which will replace one of the same name.

        Raises:
            InvalidInput: the name is not a plain file name.
            Unavailable: the store is out of reach.
        """
        path = self._path(name)
        part = f"{self._root}/{_PART}{secrets.token_hex(8)}" if self._renames else path
        with reaching(self._root):
            self._fs.makedirs(self._root, exist_ok=True)
            return Writing(self._fs, self._fs.open(part, "wb"), part, path)

    def put(self, name: str, chunks: Iterable[bytes]) -> int:
        """Write a file, replacing one of the same name, and return its size in bytes.

        Readers see the old file or the new one. If `chunks` raises, nothing is kept.

        Raises:
            InvalidInput: the name is not a plain file name.
            Unavailable: the store is out of reach.
        """
        with self.begin(name) as writing:
            for chunk in chunks:
                writing.write(chunk)
            writing.finish()
        return writing.size

    def open(self, name: str) -> IO[bytes]:
        """The file's content, to be read and closed; it can be sought in.

        Raises:
            InvalidInput: the name is not a plain file name.
            NotFound: there is no such file.
            Unavailable: the store is out of reach.
        """
        path = self._path(name)
        try:
            with reaching(self._root):
                return readable(self._fs.open(path, "rb"), path)
        except FileNotFoundError:
            raise NotFound(f"There is no file {name!r}.") from None

    def read(self, names: Collection[str]) -> dict[str, bytes]:
        """Small files, whole, by name, side by side; those that are not there are left out.

        Raises:
            Unavailable: the store is out of reach.
        """
        if not names:
            return {}
        paths = {self._path(name): name for name in names}
        with reaching(self._root):
            found: dict[str, Any] = self._fs.cat(list(paths), on_error="return")
        contents: dict[str, bytes] = {}
        for path, content in found.items():
            if isinstance(content, FileNotFoundError):
                continue
            with reaching(self._root):
                if isinstance(content, Exception):
                    raise content
            contents[paths[path]] = content
        return contents

    def names(self) -> list[str]:
        """Names of all whole files, in order.

        Raises:
            Unavailable: the store is out of reach.
        """
        return [name for name in sorted(self._found()) if not name.startswith(_PART)]

    def sizes(self) -> dict[str, int]:
        """Sizes of all whole files in bytes, by name, in order.

        Raises:
            Unavailable: the store is out of reach.
        """
        found = sorted(self._found().items())
        return {name: int(info["size"]) for name, info in found if not name.startswith(_PART)}

    def delete(self, name: str) -> bool:
        """Remove a file; False if there was none, so that a repeated delete is no error.

        Raises:
            InvalidInput: the name is not a plain file name.
            Unavailable: the store is out of reach.
        """
        path = self._path(name)
        try:
            with reaching(self._root):
                if not self._renames and not self._fs.exists(path):
                    return False  # an object store doesn't say whether there was one
                self._fs.rm_file(path)
        except FileNotFoundError:
            return False
        return True

    def older_than(self, age_s: float) -> Iterator[StoredFile]:
        """Files last written more than `age_s` seconds ago, in order of name."""
        return (file for file in self._aged(age_s) if not file.name.startswith(_PART))

    def expire(self, older_than_s: float) -> int:
        """Delete files older than `older_than_s` seconds; the number removed.

        What interrupted writes of that age left behind goes too, uncounted.
        """
        removed = sum(self.delete(file.name) for file in list(self.older_than(older_than_s)))
        self.sweep(older_than_s)
        return removed

    def sweep(self, older_than_s: float) -> int:
        """Delete what writes that were interrupted longer ago than that left behind."""
        removed = 0
        for file in list(self._aged(older_than_s)):
            if file.name.startswith(_PART):
                with contextlib.suppress(FileNotFoundError), reaching(self._root):
                    self._fs.rm_file(f"{self._root}/{file.name}")
                    removed += 1
        return removed

    def _found(self) -> dict[str, dict[str, Any]]:
        try:
            with reaching(self._root):
                found: dict[str, dict[str, Any]] = self._fs.find(
                    self._root, maxdepth=1, detail=True
                )
        except FileNotFoundError:
            return {}
        return {path.rsplit("/", 1)[-1]: info for path, info in found.items()}

    def _aged(self, age_s: float) -> Iterator[StoredFile]:
        before = self._now() - age_s
        for name, info in sorted(self._found().items()):
            modified: datetime | None = info.get("LastModified")  # of S3; a question for each else
            try:
                with reaching(self._root):
                    modified = modified or self._fs.modified(f"{self._root}/{name}")
            except FileNotFoundError:
                continue
            modified_at = _timestamp(cast(datetime, modified))
            if modified_at < before:
                yield StoredFile(name, int(info["size"]), modified_at)

    def _path(self, name: str) -> str:
        if not _NAME.fullmatch(name):
            raise InvalidInput(
                f"{name[:80]!r} can't name a file: use 1 to 200 of letters, digits, '.', '_' and "
                "'-', starting with a letter or digit."
            )
        return f"{self._root}/{name}"


class Writing:
    """A file that is being written: there once it is finished, and only then.

    As a context manager it is given up on leaving, if it is not finished.

    Args:
        fs: the file system.
        file: what is written to.
        part: where that is.
        path: where the file will be.
    """

    def __init__(self, fs: Any, file: Any, part: str, path: str) -> None:
        self._fs = fs
        self._file = file
        self._part = part
        self._path = path
        self._open = True
        self.size = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.abandon()

    def write(self, chunk: bytes) -> None:
        """Append some bytes.

        Raises:
            Unavailable: the store is out of reach, or full.
        """
        with reaching(self._path):
            self._file.write(chunk)
        self.size += len(chunk)

    def finish(self) -> None:
        """Have it there.

        Raises:
            Unavailable: the store is out of reach, or full.
        """
        with reaching(self._path):
            if isinstance(self._fs, LocalFileSystem):
                self._file.flush()
                os.fsync(self._file.fileno())
            self._file.close()
            if self._part != self._path:
                self._fs.mv(self._part, self._path)
        self._open = False

    def abandon(self) -> None:
        """Keep nothing of it, unless it is finished."""
        if not self._open:
            return
        self._open = False
        with contextlib.suppress(Exception):  # the sweep finds what stays
            if self._part == self._path and isinstance(self._file, AbstractBufferedFile):
                # To close it would be to finish it.
                self._file.discard()
                self._file.closed = True
                return
            self._file.close()
            self._fs.rm_file(self._part)


def _timestamp(modified: datetime) -> float:
    """Some file systems give a naive datetime; by fsspec's convention it is UTC."""
    return (modified if modified.tzinfo else modified.replace(tzinfo=UTC)).timestamp()
