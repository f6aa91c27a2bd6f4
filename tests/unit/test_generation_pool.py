"""Memory of slots: taken as texts need it."""

import psutil

from forebay.contract.manifest import Decoder
from forebay.inference.generation.pool import Pool

DECODER = Decoder(
    layers=30,
    kv_heads=3,
    head_size=64,
    cache_type="FP32",
    context=8_192,
    vocabulary=49_152,
    end_ids=(2,),
)
MB = 1_000_000


def resident() -> int:
    return int(psutil.Process().memory_info().rss)


def test_a_slot_takes_memory_for_the_tokens_it_has_and_not_for_those_it_may_have() -> None:
    before = resident()
    pool = Pool(DECODER, slots=8, capacity=2_048)
    cache = pool.take(0, 16)
    cache[:] = 1
    for slot in range(8):
        pool.put(slot, cache)
    # 16 tokens of 46 kB in each, by whole pages; all slots together have room for 755 MB.
    assert resident() - before < 50 * MB
    assert (pool.take(7, 17)[:, :, :16] == 1).all()
    assert (pool.take(7, 17)[:, :, 16] == 0).all()
