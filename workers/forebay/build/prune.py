"""Magnitude pruning: the products' smallest weights become zero (Han et al. 2015, 1506.02626).

Zeros are spread over the matrices, and no kernel of ONNX Runtime skips them: nothing gets faster.
What is won is size where the artifact is compressed, on its way or at rest.
"""

import zlib

import msgspec
import numpy as np
import numpy.typing as npt
from onnx import ModelProto, numpy_helper

from forebay.build import graph
from forebay.build.linears import linears, weights_of
from forebay.contract.recipe import PruneScope


class Pruned(msgspec.Struct, frozen=True):
    """A pruned graph.

    Attributes:
        model: the graph.
        compressed: bytes of the products' weights, compressed with zlib.
        compressed_before: likewise before.
    """

    model: ModelProto
    compressed: int
    compressed_before: int


def prune(model: ModelProto, share: float, *, scope: PruneScope) -> Pruned:
    """Set the smallest weights to zero; `model` stays as it is.

    Args:
        model: an FP32 graph, weights inside.
        share: of the weights, 0..1.
        scope: whether each output channel loses its smallest, or all products together.
    """
    result = graph.copied(model)
    constants = graph.constants(result)
    matrices = {linear.weights: weights_of(model, linear) for linear in linears(model)}
    before = _compressed(matrices)
    if scope is PruneScope.GLOBAL:
        whole = np.concatenate([np.abs(matrix).ravel() for matrix in matrices.values()])
        limits: dict[str, npt.NDArray[np.float32]] = dict.fromkeys(
            matrices, _limit(whole[:, None], share)
        )
    else:
        limits = {name: _limit(np.abs(matrix), share) for name, matrix in matrices.items()}
    for name, matrix in matrices.items():
        matrices[name] = np.where(np.abs(matrix) < limits[name], np.float32(0), matrix)
        constants[name].CopyFrom(numpy_helper.from_array(matrices[name], name))
    return Pruned(result, _compressed(matrices), before)


def _limit(sizes: npt.NDArray[np.float32], share: float) -> npt.NDArray[np.float32]:
    """For each column, the size under which `share` of its values lie, `[1, columns]`."""
    place = int(share * len(sizes))
    return np.partition(sizes, place, axis=0)[place : place + 1]


def _compressed(matrices: dict[str, npt.NDArray[np.float32]]) -> int:
    return sum(len(zlib.compress(matrix.tobytes(), 1)) for matrix in matrices.values())
