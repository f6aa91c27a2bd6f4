"""Large lookup tables in half the bytes."""

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, numpy_helper

from forebay.build import graph

_TABLE_ELEMENTS = 1_000_000


def halved(model: ModelProto, nodes: list[NodeProto]) -> list[NodeProto]:
    """Nodes that keep large tables as float16, and widen the rows that are looked up.

    Lossless beside 8-bit weights, and half of a small model's file (decision 0006).
    """
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
        result += [node, graph.node("Cast", [f"{out}/half"], out, to=TensorProto.FLOAT)]
    return result
