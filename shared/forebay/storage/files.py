"""The file store: uploads and produced files, flat under one root, on anything fsspec reaches.

A file appears under its name only once it is whole. Calls block; async callers use a thread.
"""

import contextlib
import re
import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from typing import IO, Any, cast

import fsspec.core
import msgspec

from forebay.contract.errors import InvalidInput, NotFound

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
    """

    def __init__(
        self, root: str, *, now: Callable[[], float] = time.time, **options: object
    ) -> None:
        fs, path = fsspec.core.url_to_fs(root, **options)
        self._fs: Any = fs
        self._root = str(path).rstrip("/")
        self._now = now

    def put(self, name: str, chunks: Iterable[bytes]) -> int:
        """Write a file, replacing one of the same name, and return its size in bytes.

        Readers see the old file or the new one. If `chunks` raises, nothing is kept.

        Raises:
            InvalidInput: the name is not a plain file name.
        """
        path = self._path(name)
        part = f"{self._root}/{_PART}{secrets.token_hex(8)}"
        self._fs.makedirs(self._root, exist_ok=True)
        size = 0
        try:
            with self._fs.open(part, "wb") as file:
                for chunk in chunks:
                    size += len(chunk)
                    file.write(chunk)
            self._fs.mv(part, path)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                self._fs.rm_file(part)
            raise
        return size

    def open(self, name: str) -> IO[bytes]:
        """The file's content, to be read and closed.

        Raises:
            InvalidInput: the name is not a plain file name.
            NotFound: there is no such file.
        """
        try:
            return cast("IO[bytes]", self._fs.open(self._path(name), "rb"))
        except FileNotFoundError:
            raise NotFound(f"There is no file {name!r}.") from None

    def delete(self, name: str) -> bool:
        """Remove a file; False if there was none, so that a repeated delete is no error.

        Raises:
            InvalidInput: the name is not a plain file name.
        """
        try:
            self._fs.rm_file(self._path(name))
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
        removed = 0
        for file in list(self._aged(older_than_s)):
            try:
                self._fs.rm_file(f"{self._root}/{file.name}")
            except FileNotFoundError:
                continue
            removed += not file.name.startswith(_PART)
        return removed

    def _aged(self, age_s: float) -> Iterator[StoredFile]:
        before = self._now() - age_s
        try:
            found: dict[str, dict[str, Any]] = self._fs.find(self._root, maxdepth=1, detail=True)
        except FileNotFoundError:
            return
        for path, info in sorted(found.items()):
            try:
                modified_at = _timestamp(self._fs.modified(path))
            except FileNotFoundError:
                continue
            if modified_at < before:
                yield StoredFile(path.rsplit("/", 1)[-1], int(info["size"]), modified_at)

    def _path(self, name: str) -> str:
        if not _NAME.fullmatch(name):
            raise InvalidInput(
                f"{name[:80]!r} can't name a file: use 1 to 200 of letters, digits, '.', '_' and "
                "'-', starting with a letter or digit."
            )
        return f"{self._root}/{name}"


def _timestamp(modified: datetime) -> float:
    """Some file systems give a naive datetime; by fsspec's convention it is UTC."""
    return (modified if modified.tzinfo else modified.replace(tzinfo=UTC)).timestamp()
