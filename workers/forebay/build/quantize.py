"""W8A8 for an FP32 encoder graph: 8-bit weights per channel, activations per token.

Every `MatMul` with constant weights `w [k, n]` becomes, for its input `x [rows, tokens, k]`:

    r = levels / max(x, over k)                 one scale a token: no row's result depends on
    q = round(x · r) + zero    uint8            another row, nor on padding
    y = (q - zero) @ w8 · w_scale / r           w8 int8 with one scale a column

`w_scale` is applied by `MatMulIntegerToFloat`, fused with the integer product. Three things make
it accurate (decision 0005):

- *Smoothing* (SmoothQuant, Xiao et al. 2022, arXiv 2211.10438): per channel of the input, x is
  divided and w multiplied by max|x|^α / max|w|^(1-α), so that outlier channels don't set the scale.
  Only behind a LayerNormalization: that is where the outliers are. Factors are rounded to
  half powers of two, so that the last bits of a calibration run don't change the artifact.
- *One-sided activations*: GELU gives at least -0.17 and ReLU at least 0, so there the zero point
  is 32 or 0 instead of 128, and the steps are finer by 223/127 or 255/127.
- The token table is kept as float16, which is lossless beside the rest.
"""

from collections.abc import Mapping, Set
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from forebay.build import graph

Peaks = Mapping[str, npt.NDArray[np.float32]]
"""Largest absolute value of each channel, by name of a value in the graph."""

_OWN_DOMAIN = "com.microsoft"
_TABLE_ELEMENTS = 1_000_000


class Range(msgspec.Struct, frozen=True):
    """How an activation is laid over 0..255.

    Attributes:
        zero: the integer that stands for 0.0.
        floor: the largest value of a token counts as at least this, so that the lowest value the
            activation can have stays above 0.
        one_sided: whether the largest value alone sets the scale.
    """

    zero: int
    floor: float
    one_sided: bool

    @property
    def levels(self) -> int:
        """Integers above zero."""
        return 255 - self.zero


_SYMMETRIC = Range(zero=128, floor=1e-8, one_sided=False)
_ONE_SIDED = {
    "Gelu": Range(zero=32, floor=0.1701 * (255 - 32) / 32, one_sided=True),
    "Relu": Range(zero=0, floor=1e-8, one_sided=True),
}


class Linear(msgspec.Struct, frozen=True):
    """A matrix product with constant weights.

    Attributes:
        name: for people: its bias's name without `.bias`, else its weights'.
        input: the activation; several products may share one.
        output: their product; unique.
        weights: the initializer, float32 `[k, n]`.
    """

    name: str
    input: str
    output: str
    weights: str


def linears(model: ModelProto) -> list[Linear]:
    """The products that can be quantized, in the order of the graph."""
    constants = graph.constants(model)
    biases = {
        value: bias
        for node in model.graph.node
        if node.op_type == "Add"
        for value, bias in (tuple(node.input), tuple(node.input)[::-1])
        if bias in constants
    }
    return [
        Linear(
            biases.get(node.output[0], node.input[1]).removesuffix(".bias"),
            node.input[0],
            node.output[0],
            node.input[1],
        )
        for node in model.graph.node
        if node.op_type == "MatMul"
        and node.input[1] in constants
        and constants[node.input[1]].data_type == TensorProto.FLOAT
        and len(constants[node.input[1]].dims) == 2
    ]


def smoothable(model: ModelProto) -> list[str]:
    """Inputs of products that come straight from a LayerNormalization: those to calibrate."""
    made = graph.producers(model)
    inputs = dict.fromkeys(linear.input for linear in linears(model))
    return [x for x in inputs if x in made and made[x].op_type == "LayerNormalization"]


def quantize(
    model: ModelProto,
    *,
    peaks: Peaks,
    smoothing: float,
    keep: Set[str] = frozenset(),
) -> ModelProto:
    """The graph with its products in 8 bits; `model` stays as it is.

    Args:
        model: an FP32 graph, opset 18 or later, weights inside.
        peaks: of the inputs in `smoothable`, from calibration.
        smoothing: α, 0..1; 0 smooths nothing.
        keep: names of products to leave in FP32.
    """
    result = ModelProto()
    result.CopyFrom(model)
    chosen = {linear.output: linear for linear in linears(model) if linear.name not in keep}
    rewriter = _Rewriter(result, chosen, _factors(model, chosen, peaks, smoothing))
    nodes: list[NodeProto] = []
    for node in result.graph.node:
        linear = chosen.get(node.output[0])
        nodes += [node] if linear is None else rewriter.product(linear)
    nodes = _halve_tables(result, nodes)
    graph.replace_nodes(result, nodes)
    if not any(opset.domain == _OWN_DOMAIN for opset in result.opset_import):
        result.opset_import.append(helper.make_opsetid(_OWN_DOMAIN, 1))
    return result


class _Rewriter:
    """Makes the nodes of each product; products of one input share its quantized copy."""

    def __init__(
        self,
        model: ModelProto,
        chosen: Mapping[str, Linear],
        factors: Mapping[str, npt.NDArray[np.float32]],
    ) -> None:
        self._model = model
        self._factors = factors
        self._constants = graph.constants(model)
        made = graph.producers(model)
        self._ranges = {
            linear.input: _ONE_SIDED.get(made[linear.input].op_type, _SYMMETRIC)
            if linear.input in made
            else _SYMMETRIC
            for linear in chosen.values()
        }
        self._shared: set[str] = set()

    def product(self, linear: Linear) -> list[NodeProto]:
        """Nodes that stand for one MatMul."""
        x, y, zero = linear.input, linear.output, self._ranges[linear.input].zero
        nodes = self._quantized(x)
        weights = numpy_helper.to_array(self._constants[linear.weights]).astype(np.float32)
        if x in self._factors:
            weights = weights * self._factors[x][:, None]
        scale = np.maximum(np.abs(weights).max(0), 1e-8).astype(np.float32) / np.float32(127)
        whole = np.clip(np.round(weights / scale), -127, 127).astype(np.int8)
        return [
            *nodes,
            _node(
                "MatMulIntegerToFloat",
                [
                    f"{x}/q",
                    graph.add_constant(self._model, f"{y}/w", whole),
                    self._once("forebay/one", np.float32(1)),
                    graph.add_constant(self._model, f"{y}/w_scale", scale),
                    self._once(f"forebay/zero.{zero}", np.uint8(zero)),
                ],
                f"{y}/token",
                domain=_OWN_DOMAIN,
            ),
            _node("Mul", [f"{y}/token", f"{x}/scale"], y),
        ]

    def _quantized(self, x: str) -> list[NodeProto]:
        """Nodes that make `x/q`, uint8, and `x/scale`, float32 with a last axis of 1."""
        if x in self._shared:
            return []
        self._shared.add(x)
        range_, nodes, value = self._ranges[x], list[NodeProto](), x
        if x in self._factors:
            inverse = (1 / self._factors[x]).astype(np.float32)
            graph.add_constant(self._model, f"{x}/smooth", inverse)
            nodes.append(_node("Mul", [x, f"{x}/smooth"], f"{x}/smoothed"))
            value = f"{x}/smoothed"
        size = value
        if not range_.one_sided:
            nodes.append(_node("Abs", [value], f"{x}/abs"))
            size = f"{x}/abs"
        zero, levels = range_.zero, range_.levels
        floor = self._once(f"forebay/floor.{zero}", np.float32(range_.floor))
        up = self._once(f"forebay/levels.{zero}", np.float32(levels))
        down = self._once(f"forebay/step.{zero}", np.float32(1 / levels))
        one = self._once("forebay/one", np.float32(1))
        last = self._once("forebay/last", np.array([-1], np.int64))
        point = self._once(f"forebay/zero.{zero}", np.uint8(zero))
        return [
            *nodes,
            _node("ReduceMax", [size, last], f"{x}/top", keepdims=1),
            _node("Max", [f"{x}/top", floor], f"{x}/max"),
            _node("Div", [up, f"{x}/max"], f"{x}/r"),
            _node("Mul", [value, f"{x}/r"], f"{x}/levels"),
            _node("QuantizeLinear", [f"{x}/levels", one, point], f"{x}/q"),
            _node("Mul", [f"{x}/max", down], f"{x}/scale"),
        ]

    def _once(self, name: str, value: np.generic | npt.NDArray[np.generic]) -> str:
        if name not in self._shared:
            self._shared.add(name)
            graph.add_constant(self._model, name, np.asarray(value))
        return name


def _factors(
    model: ModelProto, chosen: Mapping[str, Linear], peaks: Peaks, smoothing: float
) -> dict[str, npt.NDArray[np.float32]]:
    """Smoothing factor of each channel, for each input that is smoothed."""
    if smoothing == 0:
        return {}
    constants = graph.constants(model)
    factors: dict[str, npt.NDArray[np.float32]] = {}
    for x in smoothable(model):
        names = [linear.weights for linear in chosen.values() if linear.input == x]
        if not names:
            continue
        weights = np.max(
            [np.abs(numpy_helper.to_array(constants[name])).max(1) for name in names], axis=0
        )
        factor = np.maximum(peaks[x], 1e-5) ** smoothing
        factor = factor / np.maximum(weights, 1e-5) ** (1 - smoothing)
        halves = np.round(2 * np.log2(np.clip(factor, 1e-3, 1e3)))
        factors[x] = np.exp2(halves / 2).astype(np.float32)
    return factors


def _halve_tables(model: ModelProto, nodes: list[NodeProto]) -> list[NodeProto]:
    """Keep large lookup tables as float16, and widen the rows that are looked up."""
    constants = graph.constants(model)
    result: list[NodeProto] = []
    for node in nodes:
        table = constants.get(node.input[0]) if node.op_type == "Gather" else None
        if table is None or table.data_type != TensorProto.FLOAT:
            result.append(node)
            continue
        values = numpy_helper.to_array(table)
        if values.size < _TABLE_ELEMENTS or np.abs(values).max() > np.finfo(np.float16).max:
            result.append(node)
            continue
        name, out = f"{table.name}/half", node.output[0]
        if name not in constants:
            graph.add_constant(model, name, values.astype(np.float16))
            constants = graph.constants(model)
        node.input[0], node.output[0] = name, f"{out}/half"
        result += [node, _node("Cast", [f"{out}/half"], out, to=TensorProto.FLOAT)]
    return result


def _node(
    op: str, inputs: list[str], output: str, *, domain: str = "", **attributes: Any
) -> NodeProto:
    return helper.make_node(op, inputs, [output], name=output, domain=domain, **attributes)
