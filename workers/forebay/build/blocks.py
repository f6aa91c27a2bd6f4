"""Weight-only quantization: weights in 8 or 4 bits, in blocks, and activations as they are.

Every `MatMul` with constant weights `[k, n]` becomes ONNX Runtime's `MatMulNBits`. Each column is
cut in blocks of `block` weights along k; a block has one scale and, with 4 bits, one zero point:

    8 bits:  w ≈ (q - 128) · step        step = max|w| / 127
    4 bits:  w ≈ (q - zero) · step       step = (highest - lowest) / 15, 0 between the two

What is gained is size. Of the kernel's ways to compute, which it calls accuracy levels, the
quickest whose results do not depend on the batch is taken (decision 0026): with 8 bits and small
blocks it quantizes activations by row and block, with 4 bits it computes in FP32.
"""

from collections.abc import Set

import numpy as np
import numpy.typing as npt
from onnx import ModelProto, NodeProto

from forebay.build import graph, tables
from forebay.build.linears import linears, weights_of

BLOCKS = {8: (64, 32, 16), 4: (64, 32, 16)}
"""Sizes of block that are tried, by bits, the smallest artifact first."""

_WIDE = 8
_FP32_LEVEL, _INT8_LEVEL = 1, 4

Packed = tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32], npt.NDArray[np.uint8] | None]
"""Weights `[n, blocks, bytes]`, steps `[n · blocks]`, and with 4 bits zero points, also packed."""


def quantize(
    model: ModelProto, *, bits: int, block: int, keep: Set[str] = frozenset()
) -> ModelProto:
    """The graph with the weights of its products in blocks; `model` stays as it is.

    Args:
        model: an FP32 graph, weights inside.
        bits: 8 or 4.
        block: weights that share a scale: a power of two, 16 or more.
        keep: names of products that keep more: 8 bits where `bits` is 4, else FP32.
    """
    result = graph.copied(model)
    chosen = {linear.output: linear for linear in linears(model)}
    nodes: list[NodeProto] = []
    for node in result.graph.node:
        linear = chosen.get(node.output[0])
        if linear is None or (linear.name in keep and bits == _WIDE):
            nodes.append(node)
            continue
        own = _WIDE if linear.name in keep else bits
        weights, y = weights_of(model, linear), linear.output
        values, steps, zeros = pack(weights, bits=own, block=block)
        inputs = [
            linear.input,
            graph.add_constant(result, f"{y}/w", values),
            graph.add_constant(result, f"{y}/w_step", steps),
        ]
        if zeros is not None:
            inputs.append(graph.add_constant(result, f"{y}/w_zero", zeros))
        nodes.append(
            graph.node(
                "MatMulNBits",
                inputs,
                y,
                domain=graph.OWN_DOMAIN,
                K=weights.shape[0],
                N=weights.shape[1],
                bits=own,
                block_size=block,
                accuracy_level=_INT8_LEVEL if own == _WIDE else _FP32_LEVEL,
            )
        )
    graph.replace_nodes(result, tables.halved(result, nodes))
    graph.use_own_domain(result)
    return result


def pack(weights: npt.NDArray[np.float32], *, bits: int, block: int) -> Packed:
    """Weights `[k, n]` as `MatMulNBits` takes them; with 4 bits the earlier value is the low half.

    Args:
        weights: float32; k is filled up with zeros to whole blocks.
        bits: 8 or 4.
        block: weights that share a scale.
    """
    k, n = weights.shape
    blocks = -(-k // block)
    whole = np.zeros((blocks * block, n), np.float32)
    whole[:k] = weights
    cut = whole.T.reshape(n, blocks, block)
    if bits == _WIDE:
        steps = (np.maximum(np.abs(cut).max(2), 1e-8) / 127).astype(np.float32)
        values = (np.round(cut / steps[..., None]) + 128).astype(np.uint8)
        return values, steps.reshape(-1), None
    lowest, highest = np.minimum(cut.min(2), 0), np.maximum(cut.max(2), 0)
    steps = np.maximum((highest - lowest) / 15, 1e-8).astype(np.float32)
    zeros = np.clip(np.round(-lowest / steps), 0, 15)
    values = np.clip(np.round(cut / steps[..., None] + zeros[..., None]), 0, 15).astype(np.uint8)
    points = np.pad(zeros.astype(np.uint8), ((0, 0), (0, blocks % 2)))
    return _halves(values), steps.reshape(-1), _halves(points).reshape(-1)


def _halves(values: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Two values of 4 bits in each byte, along the last axis, whose length is even."""
    return np.asarray(values[..., 0::2] | (values[..., 1::2] << 4), np.uint8)
