"""Keys and values of all slots: memory that is taken once, and parts of it moved about."""

import math
import mmap

import numpy as np
import numpy.typing as npt

from forebay.contract.manifest import Decoder

Cache = npt.NDArray[np.generic]
"""Keys and values of some tokens: `[tensors, kv_heads, tokens, head_size]`."""

_TYPES: dict[str, type[np.generic]] = {"FP32": np.float32, "FP16": np.float16}


class Pool:
    """Slots for keys and values in the machine's memory.

    A graph reads and writes them in place, through pointers to some slots in a row. Pages that no
    token was ever written to take no memory.

    Args:
        decoder: says how large a token's are.
        slots: how many requests have room.
        capacity: tokens a slot has room for.
    """

    def __init__(self, decoder: Decoder, *, slots: int, capacity: int) -> None:
        self.slots = slots
        self.capacity = capacity
        self.type = _TYPES[decoder.cache_type]
        self._slot = (decoder.kv_heads, capacity, decoder.head_size)
        self._all = _zeros((2 * decoder.layers, slots, *self._slot), np.dtype(self.type))

    def shape(self, rows: int) -> tuple[int, ...]:
        """Of one tensor of so many slots: `[rows, kv_heads, capacity, head_size]`."""
        return (rows, *self._slot)

    def pointer(self, tensor: int, slot: int) -> int:
        """Where a slot's part of a tensor begins; the next slot's follows it."""
        strides = self._all.strides
        return int(self._all.ctypes.data) + tensor * strides[0] + slot * strides[1]

    def copy(self, source: int, target: int, *, start: int, end: int) -> None:
        """Give a slot another's tokens from `start` up to `end`."""
        self._all[:, target, :, start:end] = self._all[:, source, :, start:end]

    def take(self, slot: int, tokens: int) -> Cache:
        """A copy of a slot's first tokens."""
        return self._all[:, slot, :, :tokens].copy()

    def put(self, slot: int, cache: Cache) -> None:
        """Make what was taken a slot's first tokens."""
        self._all[:, slot, :, : cache.shape[2]] = cache

    def swap(self, one: int, of_one: int, other: int, of_other: int) -> None:
        """Exchange the first tokens of two slots, so many of each."""
        kept = self.take(one, of_one)
        self.copy(other, one, start=0, end=of_other)
        self.put(other, kept)


def _zeros(shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> Cache:
    """Zeros in small pages. numpy asks for huge ones, of which a slot's first token takes many."""
    memory = mmap.mmap(-1, math.prod(shape) * dtype.itemsize)
    if hasattr(mmap, "MADV_NOHUGEPAGE"):
        memory.madvise(mmap.MADV_NOHUGEPAGE)
    return np.frombuffer(memory, dtype).reshape(shape)
