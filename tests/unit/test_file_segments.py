"""Files by lines, and files that are made of segments by whoever may be killed."""

import io
import secrets
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.contract.errors import NotFound
from forebay.contract.files import Purpose, Terms
from forebay.storage.file_records import Files
from forebay.storage.lines import Line, lines_of
from forebay.storage.segments import Segments

TERMS = Terms(filename="out.jsonl", purpose=Purpose.BATCH_OUTPUT)


@pytest.fixture(params=["folder", "memory"])
def files(request: pytest.FixtureRequest, tmp_path: Path) -> Files:
    """The same files on two file systems."""
    url = f"memory://{secrets.token_hex(4)}" if request.param == "memory" else str(tmp_path)
    return Files(url, retention_s=1e6)


def lines(content: bytes, *, max_bytes: int = 100) -> list[Line]:
    return list(lines_of(io.BytesIO(content), max_bytes=max_bytes))


def test_lines_are_told_with_where_they_are() -> None:
    assert lines(b"one\r\n\ntwo\nlast") == [
        Line(1, 0, 5, b"one"),
        Line(2, 5, 6, b""),
        Line(3, 6, 10, b"two"),
        Line(4, 10, 14, b"last"),
    ]
    assert lines(b"") == []


@pytest.mark.parametrize("size", [11, 12, 13, 200_000])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_a_line_that_is_too_long_is_cut_and_the_next_is_not(size: int, end: bytes) -> None:
    found = lines(b"x" * size + end + b"y" * 10 + end + b"z", max_bytes=10)
    second = size + len(end)
    assert found == [
        Line(1, 0, second, b"x" * 10, is_whole=False),
        Line(2, second, second + 10 + len(end), b"y" * 10),
        Line(3, second + 10 + len(end), second + 11 + len(end), b"z"),
    ]


@given(st.binary(max_size=200), st.integers(1, 20))
def test_every_byte_is_in_a_line_and_reading_can_begin_at_any(content: bytes, most: int) -> None:
    found = lines(content, max_bytes=most)
    at = 0
    for index, line in enumerate(found):
        assert (line.number, line.offset) == (index + 1, at)
        whole = content[line.offset : line.end].removesuffix(b"\n").removesuffix(b"\r")
        assert line.text == whole[:most]
        assert line.is_whole == (len(whole) <= most)
        again = lines_of(
            io.BytesIO(content), max_bytes=most, number=line.number, offset=line.offset
        )
        assert list(again) == found[index:]
        at = line.end
    assert at == len(content)


def test_segments_become_a_file_in_their_order(files: Files) -> None:
    file_id = files.new_id()
    segments = Segments(files, file_id)
    segments.put(10, [b"three\n"])
    segments.put(0, [b"one\n"])
    segments.put(2, [b"of another attempt"])
    assert segments.put(2, [b"two", b"\n"]) == 4
    assert segments.indices() == [0, 2, 10]
    with pytest.raises(NotFound):
        files.get(file_id)
    record = segments.join(TERMS)
    assert record is not None
    assert (record.id, record.bytes, record.purpose) == (file_id, 14, Purpose.BATCH_OUTPUT)
    with files.open(file_id) as content:
        assert content.read() == b"one\ntwo\nthree\n"
    assert files.segments.names() == []
    assert segments.join(TERMS) == record


def test_segments_of_another_file_stay_out_of_it(files: Files) -> None:
    one, other = (Segments(files, files.new_id()) for _ in range(2))
    one.put(0, [b"mine"])
    other.put(0, [b"theirs"])
    record = one.join(TERMS)
    assert record is not None
    assert record.bytes == 4
    assert other.indices() == [0]
    other.discard()
    assert files.segments.names() == []


def test_no_segments_make_no_file(files: Files) -> None:
    assert Segments(files, files.new_id()).join(TERMS) is None


def test_what_was_killed_while_joining_is_joined_by_the_next(files: Files) -> None:
    file_id = files.new_id()
    segments = Segments(files, file_id)
    for index in range(3):
        segments.put(index, [b"%d\n" % index])
    killed = files.begin(file_id)
    killed.write(b"0\n")
    assert Segments(files, file_id).join(TERMS) is not None
    with files.open(file_id) as content:
        assert content.read() == b"0\n1\n2\n"
    killed.abandon()


def test_what_was_killed_after_joining_is_not_joined_again(files: Files) -> None:
    file_id = files.new_id()
    segments = Segments(files, file_id)
    segments.put(0, [b"0\n"])
    record = files.put([b"0\n"], TERMS, file_id=file_id)
    assert segments.indices() == [0]
    assert Segments(files, file_id).join(TERMS) == record
    assert segments.indices() == []
