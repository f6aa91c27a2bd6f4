"""An image classifier's graph in 8 bits: the matrix products of its transformer layers.

As for texts (`quantize`, decision 0005), a position in the image taking a token's place: one scale
each, so that no image's result depends on its batch. Nothing is smoothed, so nothing has to be
calibrated: pictures that are drawn on the spot say little of what a model will see. Convolutions
stay as they are.
"""

from pathlib import Path

import numpy as np
from onnx import ModelProto

from forebay.build import graph, quantize
from forebay.build.linears import linears
from forebay.contract.errors import BuildFailed

LEAST_SHARE = 0.5
"""Of a graph's weights that must be those of products: with less there is little to win."""


def quantized(model: ModelProto, *, folder: Path) -> ModelProto:
    """The graph with its products in 8 bits; `model` stays as it is.

    Args:
        model: in FP32, weights inside.
        folder: where the model came from, for errors.

    Raises:
        BuildFailed: less than half of the weights are those of products.
    """
    sizes = {name: int(np.prod(one.dims)) for name, one in graph.constants(model).items()}
    products = sum(sizes[name] for name in {linear.weights for linear in linears(model)})
    share = products / max(1, sum(sizes.values()))
    if share < LEAST_SHARE:
        raise BuildFailed(
            f"`int8` is for matrix products, and only {share:.0%} of the weights in {folder} are "
            "those of products: there is little to win for a model of convolutions. Say "
            '`precision = "fp32"`.'
        )
    return quantize.quantize(model, peaks={}, smoothing=0.0)
