"""File systems of all kinds, as one: what they raise, and how their files are read."""

import contextlib
import io
import logging
from collections.abc import Generator
from typing import IO, Any, cast

from fsspec.spec import AbstractBufferedFile

from forebay.contract.errors import ForebayError, Unavailable

log = logging.getLogger(__name__)


@contextlib.contextmanager
def reaching(where: str) -> Generator[None]:
    """Have whatever a file system raises, but for a file that is not there, mean one thing.

    Each has errors of its own, of its client library as a rule. What they say goes to the log.

    Raises:
        Unavailable: it raised.
    """
    try:
        yield
    except (FileNotFoundError, ForebayError):
        raise
    except Exception as error:
        log.warning("the file store at %s: %s: %s", where, type(error).__name__, error)
        raise Unavailable("Files can't be stored or read now. Try again later.") from error


def readable(file: Any, where: str) -> IO[bytes]:
    """A file that a file system has opened to be read, with all that Python's own files do.

    fsspec's own can't read a line up to a length, and raises whatever its client library does.

    Args:
        file: as it was opened.
        where: it is.
    """
    if not isinstance(file, AbstractBufferedFile):
        return cast("IO[bytes]", file)  # of this machine
    return io.BufferedReader(_Remote(file, where), _BUFFER)


_BUFFER = 1 << 18


class _Remote(io.RawIOBase):
    """A file elsewhere, unbuffered: fsspec has a cache of its own."""

    def __init__(self, file: Any, where: str) -> None:
        super().__init__()
        self._file = file
        self._where = where

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        with reaching(self._where):
            return int(self._file.readinto(buffer))

    def readall(self) -> bytes:
        with reaching(self._where):
            return bytes(self._file.read())

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        return int(self._file.seek(offset, whence))

    def tell(self) -> int:
        return int(self._file.tell())

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()
