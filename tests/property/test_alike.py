"""Rows that say the same are the same to the cache and to who joins, and no others are."""

import json
from decimal import Decimal
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from forebay.contract.caching import row_keys
from forebay.contract.rows import DEFAULT_OPTIONS, TextRow, ValueRow, alike
from forebay.lanes.parts import identity_of

BLANKS = st.sampled_from(["", " ", "\n", "\t \r\n"])
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
NUMBERS = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)


@st.composite
def written(draw: st.DrawFn, value: Any) -> str:
    """A value as somebody may write it."""
    before, after = draw(BLANKS), draw(BLANKS)
    match value:
        case str():
            inner = "".join(draw(characters(each)) for each in value)
            text = f'"{inner}"'
        case list():
            text = f"[{','.join(draw(written(each)) for each in value)}]"
            text = text.replace("[]", f"[{before}]")
        case dict():
            fields = draw(st.permutations(list(value.items())))
            pairs = [f"{draw(written(name))}:{draw(written(each))}" for name, each in fields]
            text = f"{{{','.join(pairs)}}}"
        case _:
            text = json.dumps(value)
    return f"{before}{text}{after}"


def characters(character: str) -> st.SearchStrategy[str]:
    """The ways to write a character in a string."""
    plain = json.dumps(character, ensure_ascii=False)[1:-1]
    units = character.encode("utf-16-be")
    pairs = [units[at : at + 2].hex() for at in range(0, len(units), 2)]
    escaped = "".join(f"\\u{pair}" for pair in pairs)
    upper = "".join(f"\\u{pair.upper()}" for pair in pairs)
    ways = [plain, escaped, upper]
    return st.sampled_from([*ways, "\\/"] if character == "/" else ways)


def told(*rows: bytes) -> tuple[tuple[bytes, ...], bytes]:
    """What the cache knows these by, and what who joins does."""
    values = [ValueRow(row) for row in rows]
    keys = row_keys(values, version="1", truncate=False, options=DEFAULT_OPTIONS)
    return keys, identity_of(values, truncate=False)


@given(st.data(), VALUES)
def test_a_value_is_the_same_row_however_it_is_written(data: st.DataObject, value: Any) -> None:
    one, other = (data.draw(written(value)).encode() for _ in range(2))
    assert msgspec.json.decode(one) == msgspec.json.decode(other)
    assert told(one, b"1") == told(other, b"1")


@given(VALUES, VALUES)
def test_what_a_model_can_tell_apart_are_two_rows(one: Any, other: Any) -> None:
    rows = [json.dumps(value).encode() for value in (one, other)]
    same = json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
    assert (told(rows[0]) == told(rows[1])) == same


@given(VALUES)
def test_the_one_way_of_writing_says_what_was_said(value: Any) -> None:
    row = json.dumps(value).encode()
    (plain,) = alike([ValueRow(row)])
    assert isinstance(plain, ValueRow)
    for type_ in (Any, float, Decimal):
        try:
            expected = msgspec.json.decode(row, type=type_)
        except msgspec.ValidationError:
            continue
        assert msgspec.json.decode(plain.json, type=type_) == expected
    assert alike([plain]) == [plain]


def test_a_number_written_in_another_way_is_another_row() -> None:
    rows = (b"1", b"1.0", b"1.00", b"1e0", b"0.1", b"0.1000000000000000055511151231257827", b'"1"')
    keys, _ = told(*rows)
    assert len(set(keys)) == len(rows)


def test_what_can_not_be_read_is_a_row_as_it_came() -> None:
    rows = (b"", b"{", b'"\\ud800"', b"[" * 5_000, b"1" * 5_000, b"1e99999999999999999999", b"\xff")
    keys, _ = told(*rows)
    assert len(set(keys)) == len(rows)


def test_texts_stay_as_they_are() -> None:
    rows = [TextRow('{"a": 1}'), TextRow('{"a":1}')]
    assert alike(rows) is rows
    assert len(set(row_keys(rows, version="1", truncate=False, options=DEFAULT_OPTIONS))) == 2
