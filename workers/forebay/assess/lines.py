"""A data file of one JSON value a line, read as it is needed, and what is wrong with a line."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import msgspec

from forebay.contract.errors import InvalidInput

T = TypeVar("T")

MAX_BYTES = 16_000_000
"""Longest line: what is longer is no line of a data file."""


class Line(msgspec.Struct, frozen=True):
    """One line that is not empty; `number` counts from 1, as editors do."""

    number: int
    data: bytes


class Lines:
    """The lines of a file, read once, from the start. Empty ones are passed over.

    Args:
        path: the file.
        limit: read no more lines than this; None reads all.

    Attributes:
        bytes_read: so far, for who wants to show how far it is.
        bytes: of the whole file.
    """

    def __init__(self, path: Path, *, limit: int | None = None) -> None:
        self._path = path
        self._limit = limit
        self._digest = hashlib.sha256()
        self.bytes_read = 0
        try:
            self.bytes = path.stat().st_size
        except OSError as error:
            raise InvalidInput(f"{path} can't be read: {error.strerror}.") from error

    def __iter__(self) -> Iterator[Line]:
        """Read line by line.

        Raises:
            InvalidInput: the file can't be read, or a line is too long.
        """
        count = 0
        try:
            with self._path.open("rb") as file:
                for number in range(1, 1 << 62):
                    if self._limit is not None and count >= self._limit:
                        return
                    data = file.readline(MAX_BYTES + 1)
                    if not data:
                        return
                    if len(data) > MAX_BYTES:
                        raise InvalidInput(
                            f"{self._path}, line {number}: it has more than {MAX_BYTES:,} bytes. "
                            "A data file has one JSON object a line."
                        )
                    self.bytes_read += len(data)
                    if data := data.strip():
                        count += 1
                        self._digest.update(data + b"\n")
                        yield Line(number, data)
        except OSError as error:
            raise InvalidInput(f"{self._path} can't be read: {error.strerror}.") from error

    @property
    def folder(self) -> Path:
        """The file's."""
        return self._path.parent

    @property
    def sha256(self) -> str:
        """Hex SHA-256 of the lines read so far: the same rows give the same, whatever the file."""
        return self._digest.hexdigest()

    def wrong(self, number: int, why: str) -> InvalidInput:
        """The error for a line."""
        return InvalidInput(f"{self._path}, line {number}: {why}")


def decode(decoder: msgspec.json.Decoder[T], data: bytes) -> T:
    """Read a line.

    Raises:
        InvalidInput: it is not JSON, or not of the shape that is wanted.
    """
    try:
        return decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{error}.") from error
    except RecursionError:
        raise InvalidInput("it nests too deeply.") from None
