"""Weights in blocks of 8 and 4 bits: what is packed is what ONNX Runtime multiplies with."""

import numpy as np
import numpy.typing as npt
import pytest
from onnx import ModelProto, helper

from forebay.build import blocks, graph
from forebay.build.encoder import Encoder, alone, mixed
from tests.fixtures.graphs import model_of, some_rows, tiny_encoder

Array = npt.NDArray[np.float32]


def unpacked(packed: blocks.Packed, *, bits: int, k: int) -> Array:
    """Weights `[k, n]` out of what `pack` gives, as ONNX Runtime documents `MatMulNBits`."""
    values, steps, zeros = packed
    n, count = values.shape[:2]
    whole = values if bits == 8 else np.stack([values & 15, values >> 4], -1).reshape(n, count, -1)
    if zeros is None:
        points = np.full((n, count), 128)
    else:
        points = np.stack([zeros & 15, zeros >> 4], -1).reshape(n, -1)[:, :count]
    weights = (whole.astype(np.float32) - points[..., None]) * steps.reshape(n, count, 1)
    return np.asarray(weights.reshape(n, -1).T[:k], np.float32)


def product(weights: Array) -> ModelProto:
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    return model_of([node], {"w": weights}, {"x": ("float", len(weights))}, ("y", weights.shape[1]))


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize(("k", "block"), [(64, 16), (72, 32), (48, 64)])
def test_the_kernel_multiplies_with_what_was_packed(bits: int, k: int, block: int) -> None:
    rng = np.random.default_rng(1)
    weights = rng.normal(0, 1, (k, 24)).astype(np.float32)
    weights[:, 3] = 0
    weights[:, 4] = np.abs(weights[:, 4])
    near = unpacked(blocks.pack(weights, bits=bits, block=block), bits=bits, k=k)
    span = weights.max(0) - np.minimum(weights.min(0), 0)
    assert (np.abs(near - weights).max(0) <= 1.01 * span / (2**bits - 2)).all()

    made = blocks.quantize(product(weights), bits=bits, block=block)
    x = rng.normal(0, 1, (2, 5, k)).astype(np.float32)
    session = Encoder(made, pad_id=0, threads=1, output="y")._session
    (got,) = session.run(["y"], {"x": x})
    # With 8 bits the kernel rounds activations to 8 bits, too.
    np.testing.assert_allclose(got, x @ near, atol=0.3 if bits == 8 else 1e-4)
    assert np.abs(got[..., 3]).max() < 1e-6


@pytest.mark.parametrize("bits", [8, 4])
def test_a_row_comes_out_the_same_whoever_shares_its_batch(bits: int) -> None:
    made = blocks.quantize(tiny_encoder(), bits=bits, block=16)
    encoder, rows = Encoder(made, pad_id=0, threads=1), some_rows()
    np.testing.assert_allclose(
        encoder.embed(rows, alone(rows)), encoder.embed(rows, mixed(rows)), rtol=1e-4, atol=1e-4
    )


def test_a_product_that_is_kept_stays_as_it_is_or_with_4_bits_gets_8() -> None:
    encoder = tiny_encoder()
    eight = blocks.quantize(encoder, bits=8, block=16, keep={"first"})
    assert [n.op_type for n in eight.graph.node if "MatMul" in n.op_type] == [
        "MatMul",
        "MatMulNBits",
    ]
    assert "first.weight" in graph.constants(eight)
    four = blocks.quantize(encoder, bits=4, block=16, keep={"first"})
    given = [
        helper.get_attribute_value(attribute)
        for node in four.graph.node
        for attribute in node.attribute
        if attribute.name == "bits"
    ]
    assert given == [8, 4]


def test_the_given_graph_is_left_alone_and_the_same_graph_comes_out_each_time() -> None:
    encoder = tiny_encoder()
    before = encoder.SerializeToString(deterministic=True)
    first, second = (blocks.quantize(encoder, bits=4, block=32) for _ in range(2))
    assert encoder.SerializeToString(deterministic=True) == before
    assert first.SerializeToString(deterministic=True) == second.SerializeToString(
        deterministic=True
    )
