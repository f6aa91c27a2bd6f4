"""Rows of token ids to tensors, each at a width that is its own whoever shares its batch.

PyTorch's kernels add numbers up in an order that depends on how wide a row is: the same row, padded
further, comes out a little different, and rounding to 8 bits makes much of a little. So a row is
always padded to the same width, and rows of different widths run one after the other (decision
0027).
"""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch

Ids = npt.NDArray[np.int64]
Feed = Mapping[str, torch.Tensor]

SEGMENTS = "token_type_ids"

LEAST = 8
"""Narrowest width, and the smallest step between widths, tokens."""


def width(length: int, max_tokens: int) -> int:
    """What a row is padded to: the next of some four widths an octave, at most the limit.

    Args:
        length: tokens of the row.
        max_tokens: the model's limit.
    """
    step = max(LEAST, 1 << max(0, (length - 1).bit_length() - 3))
    return max(length, min(-(-length // step) * step, max_tokens))


def widths(max_tokens: int) -> list[int]:
    """Every width there is, ascending."""
    return sorted({width(length, max_tokens) for length in range(1, max_tokens + 1)})


def feed(
    ids: Sequence[Ids], segments: Sequence[Ids | None] | None, *, pad_id: int, width: int
) -> Feed:
    """The inputs of one forward pass.

    Args:
        ids: token ids of each row, int64 `[length]`; at least one row.
        segments: likewise which of two texts each token is of, zeros where None; None for a model
            that isn't told.
        pad_id: token id for padding.
        width: what all rows are padded to.

    Returns:
        `input_ids`, `attention_mask` and, with segments, `token_type_ids`: int64 `[rows, width]`.
    """
    shape = len(ids), width
    made = {"input_ids": np.full(shape, pad_id, np.int64), "attention_mask": np.zeros(shape, int)}
    for index, row in enumerate(ids):
        made["input_ids"][index, : len(row)] = row
        made["attention_mask"][index, : len(row)] = 1
    if segments is not None:
        made[SEGMENTS] = np.zeros(shape, np.int64)
        for index, told in enumerate(segments):
            if told is not None:
                made[SEGMENTS][index, : len(told)] = told
    return {name: torch.from_numpy(values) for name, values in made.items()}
