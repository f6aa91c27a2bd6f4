"""Logits to scores."""

import numpy as np

from forebay.contract.rows import Function
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
