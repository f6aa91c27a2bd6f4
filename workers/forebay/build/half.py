"""FP16: weights and computing in 16 bits, where the provider has kernels for it.

On a CPU ONNX Runtime has few: it puts casts around the others and computes in FP32, so the file is
half as large and nothing is faster. Inputs and outputs keep their types.
"""

from typing import Any

from onnx import ModelProto

from forebay.build import graph


def halved(model: ModelProto) -> ModelProto:
    """The graph in FP16; `model` stays as it is."""
    from onnxruntime.transformers import float16

    converter: Any = float16
    # Shapes are dynamic, and the converter needs none of them.
    result: ModelProto = converter.convert_float_to_float16(
        graph.copied(model), keep_io_types=True, disable_shape_infer=True
    )
    return result
