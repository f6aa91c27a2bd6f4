"""A file as a stream of lines, of which no more than one is held.

A line is told with the byte at which it begins, so that whoever was cut off can go on from there.
"""

from collections.abc import Iterator
from typing import IO

import msgspec

_CHUNK = 1 << 16


class Line(msgspec.Struct, frozen=True):
    """A line.

    Attributes:
        number: counted from 1, blank lines too.
        offset: the byte at which it begins.
        end: the byte at which the next one does.
        text: its bytes, without what ends it; the first of them only where it is too long.
        is_whole: whether that is all of it.
    """

    number: int
    offset: int
    end: int
    text: bytes
    is_whole: bool = True


def lines_of(
    file: IO[bytes], *, max_bytes: int, number: int = 1, offset: int = 0
) -> Iterator[Line]:
    r"""The lines of a file, from one of them on. Blocks while it reads.

    Args:
        file: its content; it stays open.
        max_bytes: the most of one line that is held; what is over is skipped.
        number: of the line to begin with.
        offset: the byte at which that begins.

    Yields:
        Each line; of what ends it, `\n` or `\r\n`, nothing. After a last `\n` there is none.
    """
    file.seek(offset)
    while True:
        text = file.readline(max_bytes + 2)  # so much more is what ends it
        if not text:
            return
        end = offset + len(text)
        while not text.endswith(b"\n") and (rest := file.readline(_CHUNK)):
            end += len(rest)
            if rest.endswith(b"\n"):
                break
        line = text.removesuffix(b"\n").removesuffix(b"\r")
        yield Line(number, offset, end, line[:max_bytes], len(line) <= max_bytes)
        number, offset = number + 1, end
