"""Small operations on ONNX graphs: clean them, find constants and producers, save them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

MODEL_FILE = "model.onnx"
WEIGHTS_FILE = "weights.bin"

OWN_DOMAIN = "com.microsoft"
"""Of ONNX Runtime's own operators."""

_INLINE_BYTES = 1_024


def cleaned(
    model: ModelProto,
    *,
    inputs: Sequence[str | ValueInfoProto],
    output: str,
    shape: Sequence[str | int],
) -> ModelProto:
    """An exported graph with plain names at its edges, and no trace of where it was made.

    Args:
        model: as it was exported.
        inputs: each by its name, where it is int64 `[rows, tokens]`, or described.
        output: what to call its one output, float32.
        shape: of the output; names where an axis is dynamic.

    The exporter notes source paths and stack traces on every node; with them an artifact's digest
    would depend on the machine that built it.
    """
    result = ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    # The exporter calls the token table's output "embedding" too.
    names = {output: f"{output}.tokens", graph.output[0].name: output}
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
        node.doc_string = ""
        del node.metadata_props[:]
    for tensor in graph.initializer:
        tensor.doc_string = ""
        del tensor.metadata_props[:]
    del graph.input[:], graph.output[:], graph.value_info[:], graph.metadata_props[:]
    graph.input.extend(
        helper.make_tensor_value_info(one, TensorProto.INT64, ["rows", "tokens"])
        if isinstance(one, str)
        else one
        for one in inputs
    )
    graph.output.append(helper.make_tensor_value_info(output, TensorProto.FLOAT, list(shape)))
    graph.name, graph.doc_string = "encoder", ""
    del result.metadata_props[:]
    result.producer_name, result.producer_version, result.doc_string = "forebay", "", ""
    return result


def constants(model: ModelProto) -> dict[str, TensorProto]:
    """The graph's initializers by name."""
    return {tensor.name: tensor for tensor in model.graph.initializer}


def producers(model: ModelProto) -> dict[str, NodeProto]:
    """The node that makes each value."""
    return {name: node for node in model.graph.node for name in node.output}


def add_constant(model: ModelProto, name: str, value: npt.NDArray[np.generic]) -> str:
    """Add an initializer and return its name."""
    model.graph.initializer.append(numpy_helper.from_array(value, name))
    return name


def node(
    op: str, inputs: Sequence[str], output: str, *, domain: str = "", **attributes: Any
) -> NodeProto:
    """A node, named for its one output."""
    return helper.make_node(op, inputs, [output], name=output, domain=domain, **attributes)


def copied(model: ModelProto) -> ModelProto:
    """A graph that may be changed."""
    copy = ModelProto()
    copy.CopyFrom(model)
    return copy


def use_own_domain(model: ModelProto) -> None:
    """Let a graph use ONNX Runtime's own operators."""
    if not any(opset.domain == OWN_DOMAIN for opset in model.opset_import):
        model.opset_import.append(helper.make_opsetid(OWN_DOMAIN, 1))


def replace_nodes(model: ModelProto, nodes: list[NodeProto]) -> None:
    """Make `nodes` the graph's nodes and drop the initializers that none of them uses."""
    graph = model.graph
    used = {name for node in nodes for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(nodes)
    graph.initializer.extend(kept)


def save_mapped(model: ModelProto, folder: Path) -> None:
    """Write `model.onnx` with its large tensors in `weights.bin` beside it.

    ONNX Runtime maps that file, so that of the token table only the rows in use take memory.
    """
    copy = ModelProto()
    copy.CopyFrom(model)
    (folder / WEIGHTS_FILE).unlink(missing_ok=True)  # onnx appends to one that exists
    onnx.save_model(
        copy,
        folder / MODEL_FILE,
        save_as_external_data=True,
        location=WEIGHTS_FILE,
        size_threshold=_INLINE_BYTES,
    )
