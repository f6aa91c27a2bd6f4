"""The products of a graph that have constant weights: what quantization and pruning work on."""

import msgspec
import numpy as np
import numpy.typing as npt
from onnx import ModelProto, TensorProto, numpy_helper

from forebay.build import graph


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


def weights_of(model: ModelProto, linear: Linear) -> npt.NDArray[np.float32]:
    """A product's weights, `[k, n]`."""
    return numpy_helper.to_array(graph.constants(model)[linear.weights]).astype(np.float32)


def shares(model: ModelProto) -> dict[str, float]:
    """By name, each product's share of all products' weights, which its time and size go with."""
    constants = graph.constants(model)
    sizes: dict[str, int] = {}
    for linear in linears(model):
        sizes[linear.name] = sizes.get(linear.name, 0) + int(
            np.prod(constants[linear.weights].dims)
        )
    whole = sum(sizes.values())
    return {name: size / whole for name, size in sizes.items()}
