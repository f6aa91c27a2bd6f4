"""Files of other machines, read as any other and failing in one way."""

from typing import Any

import fsspec
import pytest
from fsspec.spec import AbstractBufferedFile, AbstractFileSystem

from forebay.contract.errors import Unavailable
from forebay.storage.lines import lines_of
from forebay.storage.remote import readable

CONTENT = b"".join(b"%d\n" % number for number in range(100_000))


class Elsewhere(AbstractBufferedFile):  # type: ignore[misc]
    """A file of a server that goes away after so many bytes."""

    def __init__(self, fs: AbstractFileSystem, *, there: int = len(CONTENT)) -> None:
        super().__init__(fs, "numbers", size=len(CONTENT), block_size=10_000)
        self._there = there

    def _fetch_range(self, start: int, end: int) -> bytes:
        if end > self._there:
            raise RuntimeError("the client library's own error")
        return CONTENT[start:end]


@pytest.fixture
def fs() -> Any:
    return fsspec.filesystem("memory")


def test_lines_are_read_from_anywhere(fs: AbstractFileSystem) -> None:
    with readable(Elsewhere(fs), "there") as file:
        lines = list(lines_of(file, max_bytes=3, number=3, offset=4))
    assert len(lines) == 100_000 - 2
    assert (lines[0].text, lines[0].number, lines[0].offset) == (b"2", 3, 4)
    assert (lines[-1].text, lines[-1].is_whole) == (b"999", False)
    assert lines[-1].end == len(CONTENT)


def test_all_of_it_is_read(fs: AbstractFileSystem) -> None:
    with readable(Elsewhere(fs), "there") as file:
        assert file.read(4) + file.read() == CONTENT
        assert file.tell() == len(CONTENT)
    assert file.closed


def test_a_server_that_goes_away_is_out_of_reach(fs: AbstractFileSystem) -> None:
    with (
        readable(Elsewhere(fs, there=300_000), "there") as file,
        pytest.raises(Unavailable, match="Try again later"),
    ):
        list(lines_of(file, max_bytes=10))
