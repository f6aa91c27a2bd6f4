"""An order of documents against how relevant each of them is."""

from collections.abc import Sequence

import numpy as np


def ndcg(gains: Sequence[float], *, most: int) -> float:
    """Normalised discounted cumulative gain of the first documents; 0 if none is relevant.

    Järvelin and Kekäläinen 2002, with the relevance itself as gain and log2(rank + 1) as discount,
    as trec_eval and scikit-learn have it.

    Args:
        gains: relevance of each document, 0 or more, in the order that is judged.
        most: how many of the first count.
    """
    discounts = 1 / np.log2(np.arange(2, min(most, len(gains)) + 2))
    best = float(np.sort(np.asarray(gains, float))[::-1][:most] @ discounts)
    return float(np.asarray(gains[:most], float) @ discounts) / best if best > 0 else 0.0


def reciprocal_rank(gains: Sequence[float]) -> float:
    """1 over the rank of the first relevant document; 0 if there is none (Voorhees 1999)."""
    return next((1 / rank for rank, gain in enumerate(gains, 1) if gain > 0), 0.0)


def average_precision(gains: Sequence[float]) -> float:
    """Mean over the relevant documents of the precision at their rank; 0 if there is none.

    Its mean over queries is MAP (Buckley and Voorhees 2000); grades above 0 all count as relevant.
    """
    hits, total = 0, 0.0
    for rank, gain in enumerate(gains, 1):
        if gain > 0:
            hits += 1
            total += hits / rank
    return total / hits if hits else 0.0
