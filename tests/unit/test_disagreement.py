"""How far a shadow's output is from the one that a client got."""

import struct

import pytest

from forebay.background.comparison import compare
from forebay.background.disagreement import difference
from forebay.contract.generation import Finish
from forebay.contract.rows import (
    Classes,
    Embedding,
    Entailment,
    Generated,
    NamedTensor,
    Output,
    Span,
    Spans,
    Tensors,
    Value,
)
from forebay.lanes.shadows import Compared


def embedding(*values: float) -> Embedding:
    return Embedding(struct.pack(f"<{len(values)}f", *values), 3)


def classes(**scores: float) -> Classes:
    return Classes(tuple(scores), struct.pack(f"<{len(scores)}f", *scores.values()), 3)


def tensors(*values: float, code: str = "f", datatype: str = "FP32") -> Tensors:
    data = struct.pack(f"<{len(values)}{code}", *(int(v) if code == "q" else v for v in values))
    return Tensors((NamedTensor("y", datatype, (len(values),), data),))


def spans(*found: tuple[str, int, int]) -> Spans:
    return Spans(tuple(Span(entity, 0.9, "w", start, end) for entity, start, end in found), 3)


@pytest.mark.parametrize(
    ("one", "other", "apart", "differs"),
    [
        (embedding(1, 0), embedding(1, 0), 0, False),
        (embedding(1, 0), embedding(3, 0), 0, False),
        (embedding(1, 0), embedding(1, 0.1), 0.00496, False),
        (embedding(1, 0), embedding(1, 1), 0.29289, True),
        (embedding(1, 0), embedding(-1, 0), 2, True),
        (embedding(1, 0), embedding(1, 0, 0), 1, True),
        (embedding(0, 0), embedding(0, 0), 0, False),
        (classes(good=0.9, bad=0.1), classes(good=0.7, bad=0.3), 0.2, False),
        (classes(good=0.6, bad=0.4), classes(bad=0.6, good=0.4), 0.2, True),
        (classes(good=0.6), classes(bad=0.6), 1, True),
        (classes(relevance=0.5), classes(relevance=0.505), 0.005, False),
        (classes(relevance=0.5), classes(relevance=0.6), 0.1, True),
        (Entailment(1, 0, 3), Entailment(1, 0, 3), 0, False),
        (Entailment(5, 0, 3), Entailment(0, 5, 3), 0.98661, True),
        (spans(("PER", 0, 3)), spans(("PER", 0, 3)), 0, False),
        (spans(("PER", 0, 3)), spans(("PER", 0, 3), ("LOC", 4, 9)), 0.5, True),
        (spans(), spans(), 0, False),
        (Value(b'{"a": 1, "b": 2}'), Value(b'{"b":2,"a":1}'), 0, False),
        (Value(b"1"), Value(b"2"), 1, True),
        (tensors(1, 2), tensors(1, 2), 0, False),
        (tensors(100, 2), tensors(100, 2.5), 0.005, False),
        (tensors(1, 2), tensors(1, 1), 0.5, True),
        (tensors(1, 2), tensors(1, 2, 3), 1, True),
        (tensors(1, 2), tensors(1, float("nan")), 1, True),
        (tensors(1, code="e", datatype="FP16"), tensors(1), 1, True),
        (tensors(1, code="q", datatype="INT64"), tensors(2, code="q", datatype="INT64"), 1, True),
        (Generated("a b", Finish.STOP, 3, 2), Generated("a b", Finish.LENGTH, 4, 2), 0, False),
        (Generated("a b", Finish.STOP, 3, 2), Generated("a c", Finish.STOP, 3, 2), 1, True),
        (Value(b"1"), embedding(1), 1, True),
    ],
)
def test_outputs_are_as_far_apart_as_their_task_has_it(
    one: Output, other: Output, apart: float, differs: bool
) -> None:
    far, another = difference(one, other)
    assert far == pytest.approx(apart, abs=1e-5)
    assert another is differs


def test_what_came_of_a_copy_is_summed_over_its_rows() -> None:
    wanted, found = [Value(b"1"), Value(b"2"), Value(b"3")], [Value(b"1"), Value(b"0"), Value(b"0")]
    assert compare("abc", wanted, found) == Compared("abc", rows=3, differ=2, sum=2.0, max=1.0)
    assert compare("abc", [], []) == Compared("abc")
