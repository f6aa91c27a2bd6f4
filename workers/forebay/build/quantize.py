"""W8A8 for an FP32 encoder graph: 8-bit weights per channel, activations per token.

Every `MatMul` with constant weights `w [k, n]` becomes, for its input `x [rows, tokens, k]`:

    m = max(|x|, over k)                        one scale a token: no row's result depends on
    q = round(x / m · levels) + zero   uint8    another row, nor on padding
    y = (q - zero) @ w8 · w_scale / levels · m  w8 int8 with one scale a column

`levels` is `QuantizeLinear`'s scale, and with `w_scale` that of `MatMulIntegerToFloat`, so neither
takes an operator of its own. Three things make it accurate (decision 0005):

- *Smoothing* (SmoothQuant, Xiao et al. 2022, arXiv 2211.10438): per channel of the input, x is
  divided and w multiplied by max|x|^α / max|w|^(1-α), so that outlier channels don't set the scale.
  Only behind a LayerNormalization: that is where the outliers are. Factors are rounded to
  half powers of two, so that the last bits of a calibration run don't change the artifact.
- *One-sided activations*: GELU gives at least -0.17 and ReLU at least 0, so there the zero point
  is 32 or 0 instead of 128, and the steps are finer by 223/127 or 255/127.
- The token table is kept as float16, which is lossless beside the rest.
"""

from collections.abc import Mapping, Set

import msgspec
import numpy as np
import numpy.typing as npt
from onnx import ModelProto, NodeProto, numpy_helper

from forebay.build import graph, tables
from forebay.build.linears import Linear, linears, smoothable, weights_of

Peaks = Mapping[str, npt.NDArray[np.float32]]
"""Largest absolute value of each channel, by name of a value in the graph."""

Smoothing = float | Mapping[str, float]
"""Strength of the smoothing, of all inputs or of each by name."""


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


def quantize(
    model: ModelProto,
    *,
    peaks: Peaks,
    smoothing: Smoothing,
    keep: Set[str] = frozenset(),
) -> ModelProto:
    """The graph with its products in 8 bits; `model` stays as it is.

    Args:
        model: an FP32 graph, opset 18 or later, weights inside.
        peaks: of the inputs in `smoothable`, from calibration.
        smoothing: α, 0..1, of all inputs or by name; 0 smooths nothing.
        keep: names of products to leave in FP32.
    """
    result = graph.copied(model)
    chosen = {linear.output: linear for linear in linears(model) if linear.name not in keep}
    rewriter = _Rewriter(result, chosen, _factors(model, chosen, peaks, smoothing))
    nodes: list[NodeProto] = []
    for node in result.graph.node:
        linear = chosen.get(node.output[0])
        nodes += [node] if linear is None else rewriter.product(linear)
    nodes = tables.halved(result, nodes)
    graph.replace_nodes(result, nodes)
    graph.use_own_domain(result)
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
        x, y, range_ = linear.input, linear.output, self._ranges[linear.input]
        nodes = self._quantized(x)
        weights = weights_of(self._model, linear)
        if x in self._factors:
            weights = weights * self._factors[x][:, None]
        scale = np.maximum(np.abs(weights).max(0), 1e-8).astype(np.float32) / np.float32(127)
        whole = np.clip(np.round(weights / scale), -127, 127).astype(np.int8)
        return [
            *nodes,
            graph.node(
                "MatMulIntegerToFloat",
                [
                    f"{x}/q",
                    graph.add_constant(self._model, f"{y}/w", whole),
                    self._step(range_),
                    graph.add_constant(self._model, f"{y}/w_scale", scale),
                    self._once(f"forebay/zero.{range_.zero}", np.uint8(range_.zero)),
                ],
                f"{y}/token",
                domain=graph.OWN_DOMAIN,
            ),
            graph.node("Mul", [f"{y}/token", f"{x}/max"], y),
        ]

    def _quantized(self, x: str) -> list[NodeProto]:
        """Nodes that make `x/q`, uint8, and `x/max`, float32 with a last axis of 1."""
        if x in self._shared:
            return []
        self._shared.add(x)
        range_, nodes, value = self._ranges[x], list[NodeProto](), x
        if x in self._factors:
            inverse = (1 / self._factors[x]).astype(np.float32)
            graph.add_constant(self._model, f"{x}/smooth", inverse)
            nodes.append(graph.node("Mul", [x, f"{x}/smooth"], f"{x}/smoothed"))
            value = f"{x}/smoothed"
        size = value
        if not range_.one_sided:
            nodes.append(graph.node("Abs", [value], f"{x}/abs"))
            size = f"{x}/abs"
        zero = range_.zero
        floor = self._once(f"forebay/floor.{zero}", np.float32(range_.floor))
        last = self._once("forebay/last", np.array([-1], np.int64))
        point = self._once(f"forebay/zero.{zero}", np.uint8(zero))
        return [
            *nodes,
            graph.node("ReduceMax", [size, last], f"{x}/top", keepdims=1),
            graph.node("Max", [f"{x}/top", floor], f"{x}/max"),
            graph.node("Div", [value, f"{x}/max"], f"{x}/share"),
            graph.node("QuantizeLinear", [f"{x}/share", self._step(range_), point], f"{x}/q"),
        ]

    def _step(self, range_: Range) -> str:
        """The constant between two integers, as a share of the token's largest value."""
        return self._once(f"forebay/step.{range_.zero}", np.float32(1 / range_.levels))

    def _once(self, name: str, value: np.generic | npt.NDArray[np.generic]) -> str:
        if name not in self._shared:
            self._shared.add(name)
            graph.add_constant(self._model, name, np.asarray(value))
        return name


def _factors(
    model: ModelProto, chosen: Mapping[str, Linear], peaks: Peaks, smoothing: Smoothing
) -> dict[str, npt.NDArray[np.float32]]:
    """Smoothing factor of each channel, for each input that is smoothed."""
    constants = graph.constants(model)
    factors: dict[str, npt.NDArray[np.float32]] = {}
    for x in smoothable(model):
        alpha = smoothing.get(x, 0.0) if isinstance(smoothing, Mapping) else smoothing
        names = [linear.weights for linear in chosen.values() if linear.input == x]
        if not names or alpha == 0:
            continue
        weights = np.max(
            [np.abs(numpy_helper.to_array(constants[name])).max(1) for name in names], axis=0
        )
        factor = np.maximum(peaks[x], 1e-5) ** alpha
        factor = factor / np.maximum(weights, 1e-5) ** (1 - alpha)
        halves = np.round(2 * np.log2(np.clip(factor, 1e-3, 1e3)))
        factors[x] = np.exp2(halves / 2).astype(np.float32)
    return factors
