"""Calls are read out of a text the same, wherever it was cut."""

import itertools
import json
import string
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.contract.tools import CallPiece, ToolForm
from forebay.inference.generation.grammar.calls import CallReader
from forebay.inference.generation.protocol import joined

FORMS = {
    "hermes": ToolForm(
        "<tool_call>",
        '<tool_call>\n{"name": "',
        '", "arguments": ',
        "}\n</tool_call>",
        '}\n</tool_call>\n<tool_call>\n{"name": "',
    ),
    "llama": ToolForm("", '{"name": "', '", "parameters": ', "}"),
    "mistral": ToolForm(
        "[TOOL_CALLS]", '[TOOL_CALLS] [{"name": "', '", "arguments": ', "}]", '}, {"name": "'
    ),
    "mistral's later one": ToolForm("[TOOL_CALLS]", "[TOOL_CALLS]", "[ARGS]", "", "[TOOL_CALLS]"),
}

names = st.text(string.ascii_letters + "_-", min_size=1, max_size=8)
said = st.text("ab <{[\n", max_size=12)
objects = st.dictionaries(
    st.text('a"\\{}[]é', max_size=4),
    st.recursive(
        st.none() | st.integers() | st.text('a"\\{}[],: \n', max_size=6),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
        max_leaves=5,
    ),
    max_size=3,
)
calls = st.lists(st.tuples(names, objects), max_size=3)


def read(form: ToolForm, text: str, cuts: list[int]) -> tuple[str, list[CallPiece], bool]:
    """What comes out of a text that comes in parts."""
    reader, told, pieces = CallReader(form), "", list[CallPiece]()
    places = sorted({0, *(cut % (len(text) + 1) for cut in cuts), len(text)})
    for start, end in itertools.pairwise(places):
        more, some = reader.add(text[start:end])
        told += more
        pieces += some
    return told + reader.end(), list(joined(pieces)), reader.called


def written(form: ToolForm, begin: str, made: list[tuple[str, Any]]) -> str:
    if not made:
        return begin
    text = begin + form.before
    for at, (name, arguments) in enumerate(made):
        text += form.between if at else ""
        text += name + form.middle + json.dumps(arguments, ensure_ascii=False)
    return text + form.after


@pytest.mark.parametrize("name", FORMS)
@given(begin=said, made=calls, cuts=st.lists(st.integers(0, 500), max_size=12))
def test_calls_come_out_as_they_were_written_wherever_a_text_is_cut(
    name: str, begin: str, made: list[tuple[str, Any]], cuts: list[int]
) -> None:
    form = FORMS[name]
    if not form.between:
        made = made[:1]
    if not form.marker and made:
        begin = ""
    told, pieces, called = read(form, written(form, begin, made), cuts)
    assert told == (begin.rstrip() if made else begin)
    assert called == bool(made)
    assert [(piece.index, piece.name, json.loads(piece.arguments)) for piece in pieces] == [
        (at, name, arguments) for at, (name, arguments) in enumerate(made)
    ]


@pytest.mark.parametrize("name", FORMS)
@given(made=calls, cuts=st.lists(st.integers(0, 500), max_size=6), end=st.integers(0, 300))
def test_a_text_that_was_cut_off_tells_what_there_is_and_calls_nothing_more(
    name: str, made: list[tuple[str, Any]], cuts: list[int], end: int
) -> None:
    form = FORMS[name]
    whole = written(form, "", made[: None if form.between else 1])
    text = whole[:end]
    told, pieces, called = read(form, text, cuts)
    _, all_pieces, _ = read(form, whole, [])
    for piece, wanted in zip(pieces, all_pieces, strict=False):
        assert piece.name == wanted.name
        assert wanted.arguments.startswith(piece.arguments)
    assert (told, pieces, called) == read(form, text, [])
