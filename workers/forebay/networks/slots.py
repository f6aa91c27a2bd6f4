"""Keys and values of a decoder's slots in PyTorch: memory that is taken once, on any device.

transformers' models write into a `Cache` and read what it gives back. This one writes each row at
a place of its own and gives back the slots themselves, so that rows of any lengths share a pass
and nothing is copied. What lies behind a row's tokens is hidden by the mask, and is zeros: a number
that is none would show through any mask.
"""

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from transformers.cache_utils import (
    Cache,
    CacheLayerMixin,
    DynamicCache,
    DynamicLayer,
    DynamicSlidingWindowLayer,
)

from forebay.contract.errors import ArtifactError

Ids = npt.NDArray[np.int64]

WIDTH = 64
"""Keys are looked at in multiples of this many: a kernel that adds up so many zeros more gives the
same bits, and one that adds up any number more doesn't (decision 0045)."""

Kept = list[tuple[torch.Tensor, torch.Tensor]]
"""A copy of a slot's first tokens: of each layer keys and values `[heads, tokens, size]`."""


class SlotLayer(CacheLayerMixin):  # type: ignore[no-untyped-call]
    """One layer's keys and values.

    Args:
        window: how many tokens back the layer looks; None for all of them.
    """

    is_sliding = False
    """transformers would ask a layer that slides for masks of its own making."""

    def __init__(self, window: int | None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.window = window
        self.keys: Any = None
        self.values: Any = None
        self._places: tuple[torch.Tensor, torch.Tensor, torch.Tensor] | None = None
        self._slots = slice(0)
        self._width = 0

    def reserve(self, keys: torch.Tensor, values: torch.Tensor, slots: int, capacity: int) -> None:
        """Take the memory.

        Args:
            keys: of any token, `[1, heads, tokens, size]`.
            values: likewise; sizes may differ.
            slots: how many texts have room.
            capacity: tokens each.
        """

        def zeros(like: torch.Tensor) -> torch.Tensor:
            return like.new_zeros((slots, like.shape[1], capacity, like.shape[3]))

        self.keys, self.values = zeros(keys), zeros(values)
        self.is_initialized = True

    def aim(
        self,
        rows: torch.Tensor,
        tokens: torch.Tensor,
        places: torch.Tensor,
        slots: slice,
        width: int,
    ) -> None:
        """Say where the next pass writes, and what it reads.

        Args:
            rows: rows of the pass whose keys and values are kept, `[kept]`.
            tokens: which token of the row, likewise.
            places: where in the row's slot it goes, likewise.
            slots: the slots that the rows have, in order.
            width: how many of their tokens are read.
        """
        self._places = rows, tokens, places
        self._slots, self._width = slots, width

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Called by the model: `[rows, heads, tokens, size]` in, with `width` tokens out."""
        assert self._places is not None
        rows, tokens, places = self._places
        keys, values = self.keys[self._slots], self.values[self._slots]
        keys[rows, :, places] = key_states[rows, :, tokens]
        values[rows, :, places] = value_states[rows, :, tokens]
        return keys[:, :, : self._width], values[:, :, : self._width]

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Nothing is left to a model's first call."""

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """As many keys as are read, from the first on."""
        return self._width, 0

    def get_seq_length(self) -> int:
        """Nothing: each row's own is told by its positions."""
        return 0

    def get_max_length(self) -> int:
        """Tokens of a slot."""
        return int(self.keys.shape[2])


class SlotCache:
    """All layers of all slots.

    Args:
        layers: of a model, after some tokens of its own making.
        slots: how many texts have room.
        capacity: tokens that each has room for.
    """

    def __init__(self, layers: Sequence[CacheLayerMixin], *, slots: int, capacity: int) -> None:
        self.slots = slots
        self.capacity = capacity
        self.layers: list[SlotLayer] = []
        for layer in layers:
            made = SlotLayer(cast("int | None", getattr(layer, "sliding_window", None)))
            given = cast("Any", layer)
            made.reserve(given.keys, given.values, slots, -(-capacity // WIDTH) * WIDTH)
            self.layers.append(made)
        self.cache = Cache(layers=cast("Any", self.layers))
        self._written = np.zeros(slots, np.int64)

    @property
    def windows(self) -> frozenset[int | None]:
        """How far back layers look, all kinds there are."""
        return frozenset(layer.window for layer in self.layers)

    def width(self, tokens: int) -> int:
        """How many keys are read where the longest row has so many."""
        return -(-tokens // WIDTH) * WIDTH

    def begin(self, slot: int, tokens: int, more: int) -> None:
        """A slot's text has so many tokens, and is about to get more: zeros behind them."""
        if self._written[slot] > tokens:
            end = int(self._written[slot])
            for layer in self.layers:
                layer.keys[slot, :, tokens:end] = 0
                layer.values[slot, :, tokens:end] = 0
        self._written[slot] = tokens + more

    def take(self, slot: int, tokens: int) -> Kept:
        """A copy of a slot's first tokens."""
        return [
            (layer.keys[slot, :, :tokens].clone(), layer.values[slot, :, :tokens].clone())
            for layer in self.layers
        ]

    def put(self, slot: int, cache: Kept) -> None:
        """Make what was taken a slot's first tokens."""
        tokens = cache[0][0].shape[1]
        for layer, (keys, values) in zip(self.layers, cache, strict=True):
            layer.keys[slot, :, :tokens] = keys
            layer.values[slot, :, :tokens] = values
        self._written[slot] = max(int(self._written[slot]), tokens)

    def copy(self, source: int, target: int, *, start: int, end: int) -> None:
        """Give a slot another's tokens from `start` up to `end`."""
        for layer in self.layers:
            for tensor in (layer.keys, layer.values):
                tensor[target, :, start:end] = tensor[source, :, start:end]
        self._written[target] = max(int(self._written[target]), end)

    def swap(self, one: int, of_one: int, other: int, of_other: int) -> None:
        """Exchange the first tokens of two slots, so many of each."""
        kept = self.take(one, of_one)
        if of_other:
            self.copy(other, one, start=0, end=of_other)
        self.put(other, kept)


def check_layers(config: Any) -> None:
    """Make sure that a model can share slots, by its configuration.

    Raises:
        ArtifactError: its layers keep more than keys and values.
    """
    layers_of(DynamicCache(config=config))


def layers_of(cache: Cache) -> list[CacheLayerMixin]:
    """A model's layers, which all have to be of attention over tokens.

    Raises:
        ArtifactError: one keeps something else, such as a state that every token changes.
    """
    known = (DynamicLayer, DynamicSlidingWindowLayer)
    other = sorted({type(layer).__name__ for layer in cache.layers if type(layer) not in known})
    if other or not cache.layers:
        raise ArtifactError(
            "This model's layers keep more than keys and values of each token "
            f"({', '.join(other) or 'nothing'}), and texts of such a model can't share slots: take "
            "one whose layers are all of attention."
        )
    return list(cast("list[CacheLayerMixin]", cache.layers))
