"""Logits to scores, and scores to labels."""

from collections.abc import Sequence

import numpy as np

from forebay.contract.manifest import Head
from forebay.contract.rows import Classes, Function, Options, Output
from forebay.inference.tasks.base import Values


def scores(function: Function, logits: Values) -> Values:
    """Apply a function along the last axis, in float32 as transformers does."""
    match function:
        case Function.SOFTMAX:
            powers = np.exp(logits - logits.max(-1, keepdims=True))
            return np.asarray(powers / powers.sum(-1, keepdims=True), np.float32)
        case Function.SIGMOID:
            # Both sides of zero by the power that can't overflow.
            powers = np.exp(-np.abs(logits))
            return np.asarray(np.where(logits >= 0, 1, powers) / (1 + powers), np.float32)
        case Function.NONE:
            return logits


def classes(
    head: Head, logits: Values, *, options: Sequence[Options], tokens: Sequence[int]
) -> list[Output]:
    """`Classes` a row, the best label first, and the earlier one of two as good.

    Args:
        head: the labels, and what makes scores where a row asks for nothing else.
        logits: `[rows, labels]`.
        options: what is asked of each row.
        tokens: that each row has.
    """
    by_function: dict[Function, Values] = {}
    outputs: list[Output] = []
    for index, (asked, count) in enumerate(zip(options, tokens, strict=True)):
        function = asked.function or head.function
        if function not in by_function:
            by_function[function] = scores(function, logits)
        made = by_function[function][index]
        order = np.argsort(-made, kind="stable")[: asked.top_k or None]
        labels = tuple(head.labels[label] for label in order)
        outputs.append(Classes(labels, made[order].astype("<f4", copy=False).tobytes(), count))
    return outputs
