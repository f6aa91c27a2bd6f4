"""What the loop runs: a model over slots, whatever executes it.

The loop knows tokens, slots and logits; here is the protocol of what is below it. A session of ONNX
Runtime (`session`) keeps it, and a network in PyTorch (`networks/decoder`).
"""

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Ids = npt.NDArray[np.int64]
Logits = npt.NDArray[np.float32]

Kept = Any
"""A copy of some tokens' keys and values: only the pool that gave it looks inside."""


class Pool(Protocol):
    """Keys and values of all slots."""

    @property
    def slots(self) -> int:
        """How many requests have room."""
        ...

    @property
    def capacity(self) -> int:
        """Tokens a slot has room for."""
        ...

    def copy(self, source: int, target: int, *, start: int, end: int) -> None:
        """Give a slot another's tokens from `start` up to `end`."""
        ...

    def take(self, slot: int, tokens: int) -> Kept:
        """A copy of a slot's first tokens."""
        ...

    def put(self, slot: int, cache: Kept) -> None:
        """Make what was taken a slot's first tokens."""
        ...

    def swap(self, one: int, of_one: int, other: int, of_other: int) -> None:
        """Exchange the first tokens of two slots, so many of each."""
        ...


class Decoding(Protocol):
    """Runs prompts and steps; used by one thread at a time.

    A row's logits are the same bits whatever the other rows are and wherever its prompt was cut, as
    long as no part of it is a single token that is not the whole.
    """

    @property
    def pool(self) -> Pool:
        """Where keys and values are."""
        ...

    @property
    def chunk(self) -> int:
        """Most tokens of a prompt that are computed at once."""
        ...

    def prefill(self, slot: int, ids: Ids, *, filled: int) -> Logits:
        """Compute a part of a prompt, `[tokens]`, behind what the slot has.

        Returns:
            Logits of the token after the last, `[vocabulary]`; valid until the next run.

        Raises:
            BackendFailed: what executes it failed.
        """
        ...

    def decode(self, first: int, tokens: Ids, filled: Ids) -> Logits:
        """One token more for each of some slots in a row.

        Args:
            first: the first slot.
            tokens: the next token of each slot, `[rows]`.
            filled: tokens that each slot has, `[rows]`; 0 in an empty row, whose logits mean
                nothing.

        Returns:
            Logits of the token after it, `[rows, vocabulary]`; valid until the next run.

        Raises:
            BackendFailed: what executes it failed.
        """
        ...

    def close(self) -> None:
        """Drop the weights."""
        ...


class Checking(Protocol):
    """What can run several new tokens of one text at once, with the bits of as many steps."""

    def check(self, slot: int, tokens: Ids, *, filled: int) -> Logits:
        """Several tokens more of one text.

        Args:
            slot: the text's.
            tokens: its next tokens, `[rows]`.
            filled: tokens that the slot has.

        Returns:
            Logits of the token after each, `[rows, vocabulary]`; valid until the next run.

        Raises:
            BackendFailed: what executes it failed.
        """
        ...
