"""Quantization of small hand-made graphs: close to FP32, and no row in another's way."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from forebay.build import graph, linears, quantize
from forebay.build.encoder import Encoder
from tests.fixtures.graphs import WIDTH, model_of, tiny_encoder

Array = npt.NDArray[np.float32]
LOUD = 5  # the channel whose values are far larger than the others'


def feed_forward() -> ModelProto:
    """x [rows, tokens, 32] → LayerNorm with one loud channel → q, k → GELU → out."""
    rng = np.random.default_rng(1)
    gain = np.ones(WIDTH)
    gain[LOUD] = 60.0
    weights: dict[str, Any] = {
        "gain": gain,
        "q.weight": rng.normal(0, 0.2, (WIDTH, 48)),
        "q.bias": rng.normal(0, 0.1, 48),
        "k.weight": rng.normal(0, 0.2, (WIDTH, 48)),
        "o.weight": rng.normal(0, 0.2, (48, 16)),
        "o.bias": rng.normal(0, 0.1, 16),
    }
    weights["q.weight"][LOUD] *= 0.02
    weights["k.weight"][LOUD] *= 0.02
    nodes = [
        helper.make_node("LayerNormalization", ["x", "gain"], ["normal"]),
        helper.make_node("MatMul", ["normal", "q.weight"], ["q"]),
        helper.make_node("Add", ["q", "q.bias"], ["q_"]),
        helper.make_node("MatMul", ["normal", "k.weight"], ["k"]),
        helper.make_node("Mul", ["q_", "k"], ["both"]),
        helper.make_node("Gelu", ["both"], ["active"]),
        helper.make_node("MatMul", ["active", "o.weight"], ["o"]),
        helper.make_node("Add", ["o.bias", "o"], ["out"]),
    ]
    return model_of(nodes, weights, {"x": ("float", WIDTH)}, ("out", 16))


def run(model: ModelProto, x: Array) -> Array:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    (out,) = session.run(None, {"x": x})
    return np.asarray(out, np.float32)


def peaks_of(model: ModelProto, x: Array) -> dict[str, Array]:
    watched = ModelProto()
    watched.CopyFrom(model)
    del watched.graph.output[:]
    watched.graph.output.append(helper.make_tensor_value_info("normal", TensorProto.FLOAT, None))
    return {"normal": np.abs(run(watched, x)).reshape(-1, WIDTH).max(0)}


def loss(model: ModelProto, x: Array, **how: Any) -> float:
    """Relative error of the quantized graph."""
    expected = run(model, x)
    got = run(quantize.quantize(model, **how), x)
    return float(np.linalg.norm(got - expected) / np.linalg.norm(expected))


def ops(model: ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]


@pytest.fixture(scope="module")
def model() -> ModelProto:
    return feed_forward()


@pytest.fixture(scope="module")
def x() -> Array:
    return np.random.default_rng(3).normal(0, 1, (4, 10, WIDTH)).astype(np.float32)


def test_the_result_is_close_to_fp32(model: ModelProto, x: Array) -> None:
    assert loss(model, x, peaks=peaks_of(model, x), smoothing=0.6) < 0.02


def test_a_row_comes_out_the_same_whoever_shares_its_batch(model: ModelProto, x: Array) -> None:
    quantized = quantize.quantize(model, peaks=peaks_of(model, x), smoothing=0.6)
    alone = run(quantized, x[:1])
    loud = np.concatenate([x[:1], 1_000 * x[1:]])
    padded = np.concatenate([loud, np.full((4, 5, WIDTH), 1e4, np.float32)], axis=1)
    np.testing.assert_array_equal(run(quantized, loud)[:1], alone)
    np.testing.assert_array_equal(run(quantized, padded)[:1, :10], alone)


def test_a_row_of_zeros_gives_the_bias_and_no_nan(model: ModelProto) -> None:
    zeros = np.zeros((1, 2, WIDTH), np.float32)
    quantized = quantize.quantize(model, peaks=peaks_of(model, zeros), smoothing=0.6)
    np.testing.assert_allclose(run(quantized, zeros), run(model, zeros), atol=1e-5)


def test_smoothing_tames_a_loud_channel(model: ModelProto, x: Array) -> None:
    peaks = peaks_of(model, x)
    plain = loss(model, x, peaks=peaks, smoothing=0.0)
    assert loss(model, x, peaks=peaks, smoothing=0.6) < plain / 2


def test_smoothing_does_not_depend_on_the_last_bits_of_the_calibration(
    model: ModelProto, x: Array
) -> None:
    peaks = peaks_of(model, x)
    nudged = {name: np.nextafter(peak, np.float32(np.inf)) for name, peak in peaks.items()}
    first, second = (
        quantize.quantize(model, peaks=p, smoothing=0.6).SerializeToString(deterministic=True)
        for p in (peaks, nudged)
    )
    assert first == second


def test_products_of_one_input_share_its_quantized_copy(model: ModelProto, x: Array) -> None:
    quantized = quantize.quantize(model, peaks=peaks_of(model, x), smoothing=0.6)
    assert ops(quantized).count("QuantizeLinear") == 2
    assert ops(quantized).count("MatMulIntegerToFloat") == 3
    assert "MatMul" not in ops(quantized)


def test_no_weights_are_left_in_fp32(model: ModelProto, x: Array) -> None:
    quantized = quantize.quantize(model, peaks=peaks_of(model, x), smoothing=0.6)
    matrices = [tensor for tensor in quantized.graph.initializer if len(tensor.dims) == 2]
    assert {tensor.data_type for tensor in matrices} == {TensorProto.INT8}


def test_after_gelu_nearly_the_whole_range_of_8_bits_is_used(model: ModelProto) -> None:
    quantized = quantize.quantize(model, peaks={}, smoothing=0.0)
    zero_points = {
        node.input[0].split("/")[0]: int(numpy_helper.to_array(constant))
        for node in quantized.graph.node
        if node.op_type == "QuantizeLinear"
        for constant in [graph.constants(quantized)[node.input[2]]]
    }
    assert zero_points == {"normal": 128, "active": 32}


def test_one_sided_quantization_is_finer_than_a_symmetric_one(
    model: ModelProto, x: Array, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep = {"q", "k.weight"}  # only the product behind GELU in 8 bits
    finer = loss(model, x, peaks={}, smoothing=0.0, keep=keep)
    monkeypatch.setattr(quantize, "_ONE_SIDED", {})
    assert finer < 0.85 * loss(model, x, peaks={}, smoothing=0.0, keep=keep)


def test_a_product_that_is_kept_stays_as_it_was(model: ModelProto) -> None:
    quantized = quantize.quantize(model, peaks={}, smoothing=0.0, keep={"q"})
    kept = [node for node in quantized.graph.node if node.op_type == "MatMul"]
    assert [tuple(node.input) for node in kept] == [("normal", "q.weight")]
    assert "q.weight" in graph.constants(quantized)


def test_products_are_named_for_their_bias_or_else_their_weights(model: ModelProto) -> None:
    assert [linear.name for linear in linears.linears(model)] == ["q", "k.weight", "o"]


def test_only_inputs_behind_a_layer_normalization_are_smoothed(model: ModelProto) -> None:
    assert linears.smoothable(model) == ["normal"]


def test_the_given_graph_is_left_alone_and_the_same_graph_comes_out_each_time(
    model: ModelProto, x: Array
) -> None:
    before = model.SerializeToString(deterministic=True)
    first, second = (
        quantize.quantize(model, peaks=peaks_of(model, x), smoothing=0.6) for _ in range(2)
    )
    assert model.SerializeToString(deterministic=True) == before
    assert first.SerializeToString(deterministic=True) == second.SerializeToString(
        deterministic=True
    )


def test_a_large_lookup_table_is_kept_in_half_the_bytes_and_a_small_one_whole() -> None:
    for rows, kind in ((40_000, TensorProto.FLOAT16), (50, TensorProto.FLOAT)):
        encoder = tiny_encoder(rows)
        quantized = quantize.quantize(encoder, peaks={}, smoothing=0.0)
        tables = [t for t in quantized.graph.initializer if list(t.dims) == [rows, WIDTH]]
        assert [table.data_type for table in tables] == [kind]
        ids = [np.array([1, 7, rows - 1])]
        (got,) = Encoder(quantized, pad_id=0, threads=1).run(ids, ["embedding"])
        (expected,) = Encoder(encoder, pad_id=0, threads=1).run(ids, ["embedding"])
        assert np.linalg.norm(got - expected) < 0.2 * np.linalg.norm(expected)


def test_saved_weights_lie_beside_the_graph_and_a_second_save_gives_the_same_bytes(
    tmp_path: Path, model: ModelProto
) -> None:
    for _ in range(2):
        graph.save_mapped(model, tmp_path)
    first = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert set(first) == {"model.onnx", "weights.bin"}
    assert len(first["weights.bin"]) < 40_000
    again = tmp_path / "again"
    again.mkdir()
    graph.save_mapped(model, again)
    assert {path.name: path.read_bytes() for path in again.iterdir()} == first
