"""Keys and values of all slots: memory that is taken once, and parts of it moved about."""

import math
import mmap

import numpy as np
import numpy.typing as npt

from forebay.contract.manifest import Decoder
from forebay.inference.generation.mirror import Mirror, SharedMemory

Cache = npt.NDArray[np.generic]
"""Keys and values of some tokens: `[tensors, kv_heads, tokens, head_size]`."""

_PAGE = mmap.ALLOCATIONGRANULARITY

_TYPES: dict[str, type[np.generic]] = {"FP32": np.float32, "FP16": np.float16}


class Pool:
    """Slots for keys and values in the machine's memory.

    A graph reads and writes them in place, through pointers to some slots in a row. Pages that no
    token was ever written to take no memory.

    Args:
        decoder: says how large a token's are.
        slots: how many requests have room.
        capacity: tokens a slot has room for.
        rows: most rows that one slot can be in a run.

    Raises:
        OSError: the system can't map a slot's memory as several rows.
    """

    def __init__(self, decoder: Decoder, *, slots: int, capacity: int, rows: int = 1) -> None:
        self.slots = slots
        self.capacity = capacity
        self.rows = rows
        self.type = _TYPES[decoder.cache_type]
        dtype = np.dtype(self.type)
        if rows > 1:  # a slot's part of a tensor is whole pages
            token = decoder.kv_heads * decoder.head_size * dtype.itemsize
            capacity = -(-capacity // (step := _PAGE // math.gcd(_PAGE, token))) * step
        self._slot = (decoder.kv_heads, capacity, decoder.head_size)
        shape = (2 * decoder.layers, slots, *self._slot)
        size = math.prod(shape) * dtype.itemsize
        self._shared = SharedMemory(size) if rows > 1 else None
        self._memory = mmap.mmap(-1, size) if self._shared is None else self._shared.memory
        # In small pages. numpy asks for huge ones, of which a slot's first token takes many.
        if hasattr(mmap, "MADV_NOHUGEPAGE"):
            self._memory.madvise(mmap.MADV_NOHUGEPAGE)
        self._all: Cache = np.frombuffer(self._memory, dtype).reshape(shape)
        self._mirrors: list[list[Mirror]] = []
        if self._shared is not None:
            self._mirrors = [self._mirror(self._shared, slot) for slot in range(slots)]

    def shape(self, rows: int) -> tuple[int, ...]:
        """Of one tensor of so many slots: `[rows, kv_heads, capacity, head_size]`."""
        return (rows, *self._slot)

    def pointer(self, tensor: int, slot: int) -> int:
        """Where a slot's part of a tensor begins; the next slot's follows it."""
        strides = self._all.strides
        return int(self._all.ctypes.data) + tensor * strides[0] + slot * strides[1]

    def mirrored(self, tensor: int, slot: int) -> int:
        """Where a slot's part of a tensor begins, and stands `rows` times in a row."""
        return self._mirrors[slot][tensor].address

    def clear(self) -> None:
        """Forget all tokens of a pool of several rows a slot; their memory is given back."""
        self._memory.madvise(mmap.MADV_REMOVE)

    def copy(self, source: int, target: int, *, start: int, end: int) -> None:
        """Give a slot another's tokens from `start` up to `end`."""
        self._all[:, target, :, start:end] = self._all[:, source, :, start:end]

    def take(self, slot: int, tokens: int, *, start: int = 0) -> Cache:
        """A copy of so many of a slot's tokens, its first ones or those from a place on."""
        return self._all[:, slot, :, start : start + tokens].copy()

    def put(self, slot: int, cache: Cache, *, start: int = 0) -> None:
        """Make what was taken a slot's first tokens, or those from a place on."""
        self._all[:, slot, :, start : start + cache.shape[2]] = cache

    def swap(self, one: int, of_one: int, other: int, of_other: int) -> None:
        """Exchange the first tokens of two slots, so many of each."""
        kept = self.take(one, of_one)
        self.copy(other, one, start=0, end=of_other)
        self.put(other, kept)

    def _mirror(self, shared: SharedMemory, slot: int) -> list[Mirror]:
        """A slot's part of each tensor, several times in a row."""
        tensor, part = self._all.strides[:2]
        return [
            shared.repeated(number * tensor + slot * part, part, self.rows)
            for number in range(len(self._all))
        ]
