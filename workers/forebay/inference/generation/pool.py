"""Keys and values of all slots: memory that is taken once, and parts of it moved about."""

import math
import mmap

import numpy as np

from forebay.contract.manifest import Decoder
from forebay.inference.generation.device import DeviceMemory
from forebay.inference.generation.memory import TYPES, Cache, HostMemory, Memory, Place, Shape
from forebay.inference.generation.mirror import Mirror, SharedMemory

_PAGE = mmap.ALLOCATIONGRANULARITY


class Pool:
    """Slots for keys and values.

    A graph reads and writes them in place, through pointers to some slots in a row. In the
    machine's memory pages that no token was ever written to take none.

    Args:
        decoder: says how large a token's are.
        slots: how many requests have room.
        capacity: tokens a slot has room for.
        rows: most rows that one slot can be in a run; 1 on a device.
        device: whose memory it is; by default the machine's own.

    Attributes:
        place: where it is, as ONNX Runtime names it.

    Raises:
        ConfigurationError: the device has no room.
        OSError: the system can't map a slot's memory as several rows.
    """

    def __init__(
        self,
        decoder: Decoder,
        *,
        slots: int,
        capacity: int,
        rows: int = 1,
        device: Place | None = None,
    ) -> None:
        self.slots = slots
        self.capacity = capacity
        self.rows = rows
        self.type = TYPES[decoder.cache_type]
        itemsize = np.dtype(self.type).itemsize
        if rows > 1:  # a slot's part of a tensor is whole pages
            token = decoder.kv_heads * decoder.head_size * itemsize
            capacity = -(-capacity // (step := _PAGE // math.gcd(_PAGE, token))) * step
        self._slot = (decoder.kv_heads, capacity, decoder.head_size)
        shape: Shape = (2 * decoder.layers, slots, *self._slot)
        self._part = math.prod(self._slot) * itemsize
        self._memory: Memory
        self._mirrors: list[list[Mirror]] = []
        if device is not None:
            self._memory = DeviceMemory(shape, decoder.cache_type, device)
        else:
            self._memory = host = HostMemory(shape, self.type, shared=rows > 1)
            if host.shared is not None:
                self._mirrors = [self._mirror(host.shared, shape[0], slot) for slot in range(slots)]
        self.place = self._memory.place

    def shape(self, rows: int) -> tuple[int, ...]:
        """Of one tensor of so many slots: `[rows, kv_heads, capacity, head_size]`."""
        return (rows, *self._slot)

    def pointer(self, tensor: int, slot: int) -> int:
        """Where a slot's part of a tensor begins; the next slot's follows it."""
        return self._memory.address + self._offset(tensor, slot)

    def mirrored(self, tensor: int, slot: int) -> int:
        """Where a slot's part of a tensor begins, and stands `rows` times in a row."""
        return self._mirrors[slot][tensor].address

    def clear(self) -> None:
        """Forget all tokens; memory of pages is given back."""
        self._memory.clear()

    def copy(self, source: int, target: int, *, start: int, end: int) -> None:
        """Give a slot another's tokens from `start` up to `end`."""
        self._memory.copy(source, target, start, end)

    def take(self, slot: int, tokens: int, *, start: int = 0) -> Cache:
        """A copy of so many of a slot's tokens, its first ones or those from a place on."""
        return self._memory.read(slot, start, start + tokens)

    def put(self, slot: int, cache: Cache, *, start: int = 0) -> None:
        """Make what was taken a slot's first tokens, or those from a place on."""
        self._memory.write(slot, start, cache)

    def swap(self, one: int, of_one: int, other: int, of_other: int) -> None:
        """Exchange the first tokens of two slots, so many of each."""
        kept = self.take(one, of_one)
        self.copy(other, one, start=0, end=of_other)
        self.put(other, kept)

    def _offset(self, tensor: int, slot: int) -> int:
        return (tensor * self.slots + slot) * self._part

    def _mirror(self, shared: SharedMemory, tensors: int, slot: int) -> list[Mirror]:
        """A slot's part of each tensor, several times in a row."""
        return [
            shared.repeated(self._offset(tensor, slot), self._part, self.rows)
            for tensor in range(tensors)
        ]
