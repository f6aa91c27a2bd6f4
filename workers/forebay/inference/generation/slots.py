"""Which slot a request gets, and what each still has of prompts that were computed there.

Pure: memory is moved by the caller. Only what was computed as a prompt is known here, not what was
generated behind it: kernels for one token and for several differ in the last bits, and what a
request gets may not depend on who was there before.
"""

import numpy as np
import numpy.typing as npt

Ids = npt.NDArray[np.int64]

LEFT = 2
"""Tokens of a prompt that are computed at least: of one alone the bits would differ."""


class Slots:
    """A table of slots.

    Args:
        count: how many there are.
        capacity: tokens that each has room for.
    """

    def __init__(self, count: int, capacity: int) -> None:
        self._tokens = np.full((count, capacity), -1, np.int64)
        self._held = np.zeros(count, np.int64)
        self._taken = np.zeros(count, bool)
        self._used = np.zeros(count, np.int64)
        self._clock = 0

    def __len__(self) -> int:
        return len(self._held)

    @property
    def free(self) -> int:
        """How many nobody has."""
        return int(np.count_nonzero(~self._taken))

    def is_free(self, slot: int) -> bool:
        """Whether nobody has it."""
        return not self._taken[slot]

    def held(self, slot: int) -> int:
        """How many tokens of a prompt it has."""
        return int(self._held[slot])

    def take(self, prompt: Ids) -> int:
        """Give a slot to a request; one at least is free.

        A prompt that goes on where another ended gets that one's slot, with what it has. Else it is
        an empty one, or the one that was not used for longest; what that has is forgotten.

        Args:
            prompt: `[tokens]`.
        """
        common = self._common(prompt)
        common[self._taken] = 0
        slot = int(common.argmax())
        shared = int(common[slot])
        if 2 * shared <= self._held[slot] or not shared:
            rank = np.where(self._held == 0, -1, self._used)
            rank[self._taken] = np.iinfo(np.int64).max
            slot, shared = int(rank.argmin()), 0
        self._taken[slot] = True
        self._cut(slot, shared)
        return slot

    def source(self, prompt: Ids) -> tuple[int, int]:
        """The slot that has most of a prompt's first tokens, and how many."""
        common = self._common(prompt)
        slot = int(common.argmax())
        return slot, int(common[slot])

    def hold(self, slot: int, tokens: Ids) -> None:
        """More tokens of a prompt were computed in a slot, or copied to it."""
        held = self.held(slot)
        self._tokens[slot, held : held + len(tokens)] = tokens
        self._cut(slot, held + len(tokens))

    def leave(self, slot: int, *, forget: bool = False) -> None:
        """Nobody has a slot any more; others may use what it has, unless it is to be forgotten."""
        self._taken[slot] = False
        if forget:
            self._cut(slot, 0)

    def swap(self, one: int, other: int) -> None:
        """Two slots were exchanged."""
        for table in (self._held, self._tokens, self._taken, self._used):
            table[[one, other]] = table[[other, one]]

    def _cut(self, slot: int, held: int) -> None:
        self._held[slot] = held
        self._clock += 1
        self._used[slot] = self._clock

    def _common(self, prompt: Ids) -> npt.NDArray[np.int64]:
        """How many of a prompt's first tokens each slot has; some are always left to compute."""
        width = max(len(prompt) - LEFT, 0)
        if not width:
            return np.zeros_like(self._held)
        differs = self._tokens[:, :width] != prompt[:width]
        first = np.where(differs.any(1), differs.argmax(1), width)
        return np.minimum(first, self._held)
