"""Keys and values in the machine's memory and as on a device: the same moves, the same bits."""

import numpy as np
import onnx
import pytest

from forebay.contract.errors import ConfigurationError
from forebay.contract.execution import Providers
from forebay.contract.manifest import Decoder
from forebay.inference.generation import copies
from forebay.inference.generation.memory import Place, place_of
from forebay.inference.generation.pool import Pool

DECODER = Decoder(
    layers=2,
    kv_heads=3,
    head_size=8,
    cache_type="FP32",
    context=32,
    vocabulary=500,
    end_ids=(2,),
)
HALF = Decoder(
    layers=2,
    kv_heads=3,
    head_size=8,
    cache_type="FP16",
    context=32,
    vocabulary=500,
    end_ids=(2,),
)
SLOTS, CAPACITY = 4, 32
MOVES = 200

CUDA: Providers = (("CUDAExecutionProvider", {"device_id": 1}), ("CPUExecutionProvider", {}))


def pools(decoder: Decoder) -> list[Pool]:
    """In the machine's memory, and as on a device."""
    return [
        Pool(decoder, slots=SLOTS, capacity=CAPACITY, device=device) for device in (None, Place())
    ]


@pytest.mark.parametrize("decoder", [DECODER, HALF], ids=["FP32", "FP16"])
def test_a_device_moves_what_the_machine_moves(decoder: Decoder) -> None:
    draws = np.random.default_rng(7)
    both = pools(decoder)
    for _ in range(MOVES):
        one, other = draws.choice(SLOTS, 2, replace=False).tolist()
        start, end = sorted(draws.choice(CAPACITY + 1, 2, replace=False).tolist())
        move = draws.integers(3)
        cache = draws.standard_normal((4, 3, end - start, 8)).astype(both[0].type)
        for pool in both:
            if move == 0:
                pool.put(one, cache, start=start)
            elif move == 1:
                pool.copy(one, other, start=start, end=end)
            else:
                pool.swap(one, start, other, end)
        part = [pool.take(one, end - start, start=start) for pool in both]
        assert part[0].tobytes() == part[1].tobytes()
    for slot in range(SLOTS):
        whole = [pool.take(slot, CAPACITY) for pool in both]
        assert whole[0].any(), "something was put there"
        assert whole[0].tobytes() == whole[1].tobytes()
    for pool in both:
        pool.clear()
        assert not pool.take(1, CAPACITY).any()


def test_numbers_that_are_none_are_moved_as_they_are() -> None:
    _, pool = pools(HALF)
    odd = np.array([0x7E01, 0xFC00, 0x0001, 0x8000], np.uint16).view(np.float16)
    cache = np.tile(odd, (4, 3, 5, 2))
    pool.put(0, cache, start=2)
    pool.copy(0, 3, start=2, end=7)
    assert pool.take(3, 5, start=2).tobytes() == cache.tobytes()


def test_slots_lie_behind_one_another_on_a_device_as_in_the_machine() -> None:
    for pool in pools(DECODER):
        slot = 3 * CAPACITY * 8 * 4
        assert pool.pointer(0, 1) - pool.pointer(0, 0) == slot
        assert pool.pointer(1, 0) - pool.pointer(0, 0) == SLOTS * slot
        assert pool.shape(2) == (2, 3, CAPACITY, 8)


@pytest.mark.parametrize("cache_type", ["FP32", "FP16"])
@pytest.mark.parametrize("graph", [copies.reading, copies.writing, copies.copying])
def test_graphs_that_copy_are_what_onnx_says_a_graph_is(graph: object, cache_type: str) -> None:
    assert callable(graph)
    made = onnx.load_model_from_string(graph(cache_type))
    onnx.checker.check_model(made)
    assert made.SerializeToString() == graph(cache_type)
    element = {"FP32": onnx.TensorProto.FLOAT, "FP16": onnx.TensorProto.FLOAT16}[cache_type]
    types = {one.name: one.type.tensor_type.elem_type for one in made.graph.input}
    assert types[copies.TABLE] == element
    assert types[copies.TOKENS] == onnx.TensorProto.INT64


def test_a_device_is_named_by_the_provider_that_goes_first() -> None:
    assert place_of("tiny", DECODER, (("CPUExecutionProvider", {}), *CUDA[:1])) is None
    assert place_of("tiny", HALF, CUDA) == Place("cuda", 1)
    with pytest.raises(ConfigurationError, match=r'in FP32.*precision = "fp16".*tiny\.onnx'):
        place_of("tiny", DECODER, CUDA)
    with pytest.raises(ConfigurationError, match=r"leave Other out of `models\.tiny\.onnx"):
        place_of("tiny", HALF, (("Other", {}),))


def test_a_device_that_is_not_there_is_told_with_what_to_install() -> None:
    with pytest.raises(ConfigurationError, match=r"has no CUDAExecutionProvider.*onnxruntime-gpu"):
        Pool(HALF, slots=1, capacity=8, device=Place("cuda"))
