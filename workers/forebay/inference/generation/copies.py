"""Graphs that copy rows of a table: a device's own way to do what numpy does in the host's memory.

A worker has ONNX Runtime, and not the package that writes graphs. Those here are four nodes at
most, so they are spelled out as protobuf: https://protobuf.dev/programming-guides/encoding, with
the numbers of fields of onnx.proto (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto).

Which rows is the sum of `heads`, int64 `[heads, 1, 1]`, and `tokens`, int64 `[1, tokens, 1]`: the
row of each head's first token, and tokens counted from there. A table is `[rows, size]`, and values
are `[heads, tokens, size]`.
"""

from collections.abc import Sequence
from typing import Final

TABLE: Final = "table"
CHANGED: Final = "changed"
"""The table again: bound to the same memory, so that nothing but the rows is written."""

HEADS: Final = "heads"
TO: Final = "to"
TOKENS: Final = "tokens"
VALUES: Final = "values"

_IR: Final = 8
_OPSET: Final = 18

_INT64: Final = 7
_ELEMENTS: Final = {"FP32": 1, "FP16": 10}
"""onnx.proto's `TensorProto.DataType`."""

_Node = tuple[str, tuple[str, ...], str]


def reading(cache_type: str) -> bytes:
    """A graph that gives rows: `table`, `heads`, `tokens` to `values`."""
    nodes = [
        ("Add", (HEADS, TOKENS), "rows"),
        ("GatherND", (TABLE, "rows"), VALUES),
    ]
    return _model(nodes, (TABLE, HEADS, TOKENS), VALUES, cache_type)


def writing(cache_type: str) -> bytes:
    """A graph that sets rows: `table`, `heads`, `tokens`, `values` to `changed`."""
    nodes = [
        ("Add", (HEADS, TOKENS), "rows"),
        ("ScatterND", (TABLE, "rows", VALUES), CHANGED),
    ]
    return _model(nodes, (TABLE, HEADS, TOKENS, VALUES), CHANGED, cache_type)


def copying(cache_type: str) -> bytes:
    """A graph that gives rows the values of others: `table`, `heads`, `to`, `tokens` to `changed`.

    `to` is as `heads`, of the rows that change.
    """
    nodes = [
        ("Add", (HEADS, TOKENS), "rows"),
        ("GatherND", (TABLE, "rows"), VALUES),
        ("Add", (TO, TOKENS), "others"),
        ("ScatterND", (TABLE, "others", VALUES), CHANGED),
    ]
    return _model(nodes, (TABLE, HEADS, TO, TOKENS), CHANGED, cache_type)


def _model(nodes: Sequence[_Node], inputs: Sequence[str], output: str, cache_type: str) -> bytes:
    graph = b"".join(
        [
            *(_field(1, _node(*node)) for node in nodes),
            _field(2, b"copies"),
            *(_field(11, _value(name, cache_type)) for name in inputs),
            _field(12, _value(output, cache_type)),
        ]
    )
    return _field(1, _IR) + _field(7, graph) + _field(8, _field(2, _OPSET))


def _node(kind: str, inputs: Sequence[str], output: str) -> bytes:
    names = b"".join(_field(1, name.encode()) for name in inputs)
    return names + _field(2, output.encode()) + _field(4, kind.encode())


def _value(name: str, cache_type: str) -> bytes:
    """A name, a type, and how many axes there are: how long each is stays open."""
    element = _ELEMENTS[cache_type] if name in (TABLE, VALUES, CHANGED) else _INT64
    axes = _field(1, b"") * (2 if name in (TABLE, CHANGED) else 3)
    return _field(1, name.encode()) + _field(2, _field(1, _field(1, element) + _field(2, axes)))


def _field(number: int, value: int | bytes) -> bytes:
    """A field of a message: a number, or bytes with their length before them."""
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    """Seven bits a byte, the lowest first; all but the last have the eighth set."""
    made = bytearray()
    while value > 0x7F:
        made.append(value & 0x7F | 0x80)
        value >>= 7
    made.append(value)
    return bytes(made)
