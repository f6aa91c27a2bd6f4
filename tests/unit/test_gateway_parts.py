"""How a prediction's rows are cut into parts, and what is too long for any of them."""

import pytest

from forebay.contract.errors import TooLong
from forebay.contract.messages import decode_computation
from forebay.contract.prediction import MAX_PART_BYTES, MAX_PART_ROWS
from forebay.contract.rows import MAX_TEXT_CHARACTERS, Row, TextRow
from forebay.gateway.parts import parts_of


def cut(*texts: str, truncate: bool = False) -> list[tuple[int, tuple[Row, ...]]]:
    """First row and rows of each part."""
    rows = [TextRow(text) for text in texts]
    parts = parts_of(rows, now_ms=5, deadline_ms=10, truncate=truncate)
    computations = [decode_computation(part.message) for part in parts]
    assert [part.rows for part in parts] == [len(one.rows) for one in computations]
    assert {(one.enqueued_at_ms, one.deadline_at_ms) for one in computations} == {(5, 15)}
    return [(one.first_row, one.rows) for one in computations]


def test_all_rows_are_there_once_and_in_order() -> None:
    texts = [f"{number}" * (number % 7 * 9_000 + 1) for number in range(2 * MAX_PART_ROWS + 9)]
    parts = cut(*texts)
    assert [row for _, rows in parts for row in rows] == [TextRow(text) for text in texts]
    assert [first for first, _ in parts] == [
        sum(len(rows) for _, rows in parts[:number]) for number in range(len(parts))
    ]
    for _, rows in parts:
        size = sum(len(row.text) for row in rows if isinstance(row, TextRow))
        assert len(rows) <= MAX_PART_ROWS
        assert len(rows) == 1 or size <= MAX_PART_BYTES


def test_a_text_that_no_model_reads_to_the_end_is_refused_by_its_row_or_cut() -> None:
    longest = "x" * MAX_TEXT_CHARACTERS
    assert cut("a", longest) == [(0, (TextRow("a"),)), (1, (TextRow(longest),))]
    with pytest.raises(TooLong, match=r"Row 1: .*1,000,001.*truncate") as refused:
        cut("a", longest + "y")
    assert refused.value.row == 1
    assert cut(longest + "y", truncate=True) == [(0, (TextRow(longest),))]
