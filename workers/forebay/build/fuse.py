"""Attention as one operator, ONNX Runtime's `MultiHeadAttention`.

What PyTorch's exporter writes for attention with a mask,

    q, k, v [rows, tokens, hidden] ─▶ Reshape ─▶ Transpose ─▶ [rows, heads, tokens, size]
    softmax(q @ kᵀ · scale + mask) @ v ─▶ Transpose ─▶ Reshape ─▶ [rows, tokens, hidden]

becomes one node with the same inputs and the same output. ONNX Runtime's own optimizer knows the
graphs of the exporter before this one, and finds no attention in these. Attention of other forms
(rotated, or with relative positions, as in ModernBERT and DeBERTa) stays as it is.
"""

from collections.abc import Mapping, Sequence

import msgspec
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from forebay.build import graph

_SPLIT = [0, 2, 1, 3]
_SPLIT_AND_TURNED = [0, 2, 3, 1]


class _Attention(msgspec.Struct, frozen=True):
    """Attention that was found: its inputs, and the value that it makes."""

    query: str
    key: str
    value: str
    mask: str
    heads: int
    scale: float
    output: str


def attention(model: ModelProto) -> tuple[ModelProto, int]:
    """The graph with attention fused, and how many there were; `model` stays as it is."""
    finder = _Finder(model)
    found = {one.output: one for node in model.graph.node if (one := finder.at(node)) is not None}
    result = graph.copied(model)
    if not found:
        return result, 0
    nodes = [
        _fused(found[node.output[0]]) if node.output[0] in found else node
        for node in result.graph.node
    ]
    graph.replace_nodes(result, _used(result, nodes))
    graph.use_own_domain(result)
    return result, len(found)


def _fused(found: _Attention) -> NodeProto:
    inputs = [found.query, found.key, found.value, "", "", found.mask]
    return graph.node(
        "MultiHeadAttention",
        inputs,
        found.output,
        domain=graph.OWN_DOMAIN,
        num_heads=found.heads,
        scale=found.scale,
    )


def _used(model: ModelProto, nodes: Sequence[NodeProto]) -> list[NodeProto]:
    """The nodes whose values lead to an output of the graph."""
    wanted = {value.name for value in model.graph.output}
    kept: list[NodeProto] = []
    for node in reversed(nodes):
        if wanted & set(node.output):
            wanted |= set(node.input)
            kept.append(node)
    return kept[::-1]


class _Finder:
    """Looks for attention around a `Softmax`."""

    def __init__(self, model: ModelProto) -> None:
        self._made = graph.producers(model)
        self._constants: Mapping[str, TensorProto] = graph.constants(model)
        self._users: dict[str, list[NodeProto]] = {}
        for node in model.graph.node:
            for name in node.input:
                self._users.setdefault(name, []).append(node)

    def at(self, softmax: NodeProto) -> _Attention | None:
        """The attention of a node, if it is a `Softmax` of the known form."""
        if softmax.op_type != "Softmax" or _attribute(softmax, "axis", -1) not in (-1, 3):
            return None
        masked = self._maker(softmax.input[0], "Add")
        scaled = self._maker(masked.input[0], "Mul") if masked else None
        scores = self._maker(scaled.input[0], "MatMul") if scaled else None
        weighed = self._only_user(softmax.output[0], "MatMul")
        turned = self._only_user(weighed.output[0], "Transpose") if weighed else None
        joined = self._only_user(turned.output[0], "Reshape") if turned else None
        if not (masked and scaled and scores and weighed and turned and joined):
            return None
        query = self._split(scores.input[0], _SPLIT)
        key = self._split(scores.input[1], _SPLIT_AND_TURNED)
        value = self._split(weighed.input[1], _SPLIT)
        scale = self._number(scaled.input[1])
        if not (query and key and value) or scale is None:
            return None
        if _attribute(turned, "perm", None) != _SPLIT or weighed.input[0] != softmax.output[0]:
            return None
        heads = self._heads(query)
        if heads is None or {self._heads(key), self._heads(value)} != {heads}:
            return None
        return _Attention(
            query[0].input[0],
            key[0].input[0],
            value[0].input[0],
            masked.input[1],
            heads,
            scale,
            joined.output[0],
        )

    def _maker(self, value: str, op: str) -> NodeProto | None:
        node = self._made.get(value)
        return node if node is not None and node.op_type == op else None

    def _only_user(self, value: str, op: str) -> NodeProto | None:
        users = self._users.get(value, [])
        return users[0] if len(users) == 1 and users[0].op_type == op else None

    def _split(self, value: str, perm: list[int]) -> tuple[NodeProto, NodeProto] | None:
        """The `Reshape` and the `Transpose` that make heads of a value."""
        turn = self._maker(value, "Transpose")
        cut = self._maker(turn.input[0], "Reshape") if turn else None
        if turn is None or cut is None or _attribute(turn, "perm", None) != perm:
            return None
        return cut, turn

    def _heads(self, split: tuple[NodeProto, NodeProto]) -> int | None:
        """Heads that a `Reshape` makes: the width of what it cuts by the size of one."""
        cut = split[0]
        shape = self._maker(cut.input[1], "Concat")
        size = self._number(shape.input[-1]) if shape else None
        width = self._width(cut.input[0])
        if not size or not width or width % int(size):
            return None
        return width // int(size)

    def _width(self, value: str) -> int | None:
        """Length of the last axis, told by a bias or by weights."""
        node = self._made.get(value)
        if node is None or node.op_type not in ("Add", "MatMul"):
            return None
        for name in node.input:
            if name in self._constants:
                return int(self._constants[name].dims[-1])
        return None

    def _number(self, value: str) -> float | None:
        constant = self._constants.get(value)
        if constant is None:
            return None
        array = numpy_helper.to_array(constant)
        return float(array.reshape(-1)[0]) if array.size == 1 else None


def _attribute(node: NodeProto, name: str, default: object) -> object:
    for attribute in node.attribute:
        if attribute.name == name:
            return helper.get_attribute_value(attribute)
    return default
