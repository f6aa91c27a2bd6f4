"""A slot's memory as several rows: one memory at more than one address, and counted once."""

import ctypes
import gc

import numpy as np
import numpy.typing as npt
import psutil
import pytest

from forebay.contract.manifest import Decoder
from forebay.inference.generation.pool import Pool
from forebay.inference.memory import resident_bytes

DECODER = Decoder(
    layers=2,
    kv_heads=3,
    head_size=64,
    cache_type="FP32",
    context=2_048,
    vocabulary=500,
    end_ids=(2,),
)
ROWS = 8
MB = 1_000_000


def row(pool: Pool, tensor: int, slot: int, number: int) -> npt.NDArray[np.float32]:
    """What a kernel sees as a row of a run on one slot."""
    _, *shape = pool.shape(1)
    size = int(np.prod(shape)) * 4
    address = pool.mirrored(tensor, slot) + number * size
    seen = (ctypes.c_char * size).from_address(address)
    return np.frombuffer(memoryview(seen), np.float32).reshape(shape)


@pytest.mark.parametrize("capacity", [128, 129, 1_000])
def test_what_is_written_to_one_row_is_in_all_and_in_the_slot_and_in_no_other(
    capacity: int,
) -> None:
    pool = Pool(DECODER, slots=3, capacity=capacity, rows=ROWS)
    for number in range(ROWS):
        row(pool, 3, 1, number)[:, number] = number + 1
    for number in range(ROWS):
        seen = row(pool, 3, 1, number)
        assert (seen[:, :ROWS] == np.arange(1, ROWS + 1)[None, :, None]).all()
    taken = pool.take(1, capacity)
    assert taken.shape == (4, 3, capacity, 64)
    assert (taken[3, :, :ROWS] == np.arange(1, ROWS + 1)[None, :, None]).all()
    assert not taken[:3].any()
    assert not taken[3, :, ROWS:].any()
    assert not any(pool.take(slot, capacity).any() for slot in (0, 2))


def test_pages_count_once_however_often_they_are_mapped_and_can_be_given_back() -> None:
    pool = Pool(DECODER, slots=2, capacity=2_048, rows=ROWS)
    before, told = resident_bytes(), psutil.Process().memory_info().rss
    tensors = 2 * DECODER.layers
    for number in range(ROWS):
        for tensor in range(tensors):
            row(pool, tensor, 0, number)[:] = 1
    held = tensors * 3 * 2_048 * 64 * 4
    assert psutil.Process().memory_info().rss - told > held * ROWS * 0.9
    assert held * 0.9 < resident_bytes() - before < held + 3 * MB
    pool.clear()
    assert resident_bytes() - before < 3 * MB
    assert not pool.take(0, 2_048).any()


def test_a_pool_that_is_gone_leaves_no_mapping_and_no_file() -> None:
    gc.collect()  # other tests' pools are gone, or may go while this one is looked at
    process = psutil.Process()
    before = len(process.memory_maps(grouped=False)), process.num_fds()
    pool = Pool(DECODER, slots=8, capacity=64, rows=ROWS)
    assert len(process.memory_maps(grouped=False)) > before[0] + 200
    del pool
    after = len(process.memory_maps(grouped=False)), process.num_fds()
    assert after[0] < before[0] + 20
    assert after[1] <= before[1]
