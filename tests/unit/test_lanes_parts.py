"""How a prediction's rows are cut into parts, and what is too long for any of them."""

import pytest

from forebay.contract.errors import TooLong
from forebay.contract.messages import decode_computation
from forebay.contract.prediction import MAX_PART_BYTES, MAX_PART_ROWS
from forebay.contract.rows import (
    DEFAULT_OPTIONS,
    MAX_TEXT_CHARACTERS,
    Aggregation,
    Function,
    Options,
    PairRow,
    Row,
    TextRow,
)
from forebay.lanes.parts import identity_of, parts_of


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


def test_both_texts_of_a_pair_count_and_both_are_bounded() -> None:
    longest = "x" * MAX_TEXT_CHARACTERS
    for text, pair in (("a", longest + "y"), (longest + "y", "a")):
        with pytest.raises(TooLong, match=r"Row 0: .*1,000,001"):
            parts_of([PairRow(text, pair)], now_ms=0, deadline_ms=1, truncate=False)
        (part,) = parts_of([PairRow(text, pair)], now_ms=0, deadline_ms=1, truncate=True)
        cut_pair = PairRow(text[:MAX_TEXT_CHARACTERS], pair[:MAX_TEXT_CHARACTERS])
        assert decode_computation(part.message).rows == (cut_pair,)
    halves = [PairRow("x" * (MAX_PART_BYTES // 4), "y" * (MAX_PART_BYTES // 4))] * 5
    parts = parts_of(halves, now_ms=0, deadline_ms=1, truncate=False)
    assert [part.rows for part in parts] == [2, 2, 1]


def test_every_part_carries_the_options() -> None:
    options = Options(top_k=3, function=Function.SIGMOID)
    rows = [TextRow("a")] * (MAX_PART_ROWS + 1)
    parts = parts_of(rows, now_ms=0, deadline_ms=1, truncate=False, options=options)
    assert [decode_computation(part.message).options for part in parts] == [options, options]


def test_requests_are_the_same_only_with_the_same_rows_and_options() -> None:
    asked = [
        (rows, truncate, options)
        for rows in ([TextRow("ab")], [PairRow("a", "b")], [TextRow("a"), TextRow("b")])
        for truncate in (False, True)
        for options in (
            DEFAULT_OPTIONS,
            Options(top_k=2),
            Options(function=Function.NONE),
            Options(aggregation=Aggregation.SIMPLE),
        )
    ]
    identities = {identity_of(rows, truncate=cut, options=options) for rows, cut, options in asked}
    assert len(identities) == len(asked)
    plain = identity_of([TextRow("a")], truncate=False)
    assert identity_of([TextRow("a")], truncate=False, options=Options()) == plain
