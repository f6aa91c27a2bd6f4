"""Rows and their sizes."""

import msgspec
import pytest

from forebay.contract.rows import (
    Embedding,
    Output,
    Row,
    TextRow,
    TokensRow,
    Value,
    ValueRow,
    row_bytes,
)


@pytest.mark.parametrize(
    ("row", "size"),
    [
        (TextRow("hello"), 5),
        (TextRow(""), 0),
        (TokensRow((101, 7592, 102)), 12),
        (ValueRow(b'{"a":1}'), 7),
    ],
)
def test_a_rows_size_is_that_of_its_payload(row: Row, size: int) -> None:
    assert row_bytes(row) == size


def test_a_row_says_on_the_wire_which_kind_it_is() -> None:
    for row, tag in ((TextRow("a"), "text"), (TokensRow((1,)), "ids"), (ValueRow(b"1"), "json")):
        assert msgspec.msgpack.decode(msgspec.msgpack.encode(row))["t"] == tag
        assert msgspec.msgpack.decode(msgspec.msgpack.encode(row), type=Row) == row


def test_an_output_says_on_the_wire_which_kind_it_is() -> None:
    for output, tag in ((Embedding(b"\0\0\0\0", 3), "emb"), (Value(b"1"), "json")):
        assert msgspec.msgpack.decode(msgspec.msgpack.encode(output))["t"] == tag
        assert msgspec.msgpack.decode(msgspec.msgpack.encode(output), type=Output) == output


def test_a_row_of_an_unknown_kind_is_refused() -> None:
    with pytest.raises(msgspec.ValidationError, match="video"):
        msgspec.msgpack.decode(msgspec.msgpack.encode({"t": "video", "x": b""}), type=Row)
