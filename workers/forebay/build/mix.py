"""Mixed precision: which products are worth keeping as they are, found by measuring.

Each product is quantized alone, which tells what it costs; then those that cost most for their
weights are put back, no more than the aim needs and the budget allows. A product's time and size
both go with its weights, so the budget is a share of them, and needs no clock.
"""

from collections.abc import Callable, Set
from itertools import accumulate

import msgspec
from onnx import ModelProto

from forebay.build import linears
from forebay.build.trial import Trials

Quantizer = Callable[[Set[str]], ModelProto]
"""Makes the quantized graph with the named products kept."""


class Mix(msgspec.Struct, frozen=True):
    """What to keep.

    Attributes:
        keep: names of products, what costs most for its weights first.
        share: of all products' weights.
        closeness: of the mixed graph, on the calibration texts.
    """

    keep: tuple[str, ...]
    share: float
    closeness: float


def mix(
    model: ModelProto,
    quantizer: Quantizer,
    trials: Trials,
    *,
    budget: float,
    progress: Callable[[float], None] = lambda _: None,
) -> Mix:
    """The fewest products that bring the graph to the aim, or all that the budget allows.

    Args:
        model: the FP32 graph.
        quantizer: how it is quantized.
        trials: of that graph.
        budget: the largest share of the products' weights that may be kept, 0..1.
        progress: told the share of the work done, 0..1.
    """
    shares = linears.shares(model)
    cost: dict[str, float] = {}
    for name, share in shares.items():
        progress(len(cost) / len(shares))
        lost = 1 - trials.closeness(quantizer(shares.keys() - {name}))
        cost[name] = lost / share
    ranked = sorted(shares, key=lambda name: -cost[name])
    affordable = [
        name
        for name, spent in zip(ranked, accumulate(shares[name] for name in ranked), strict=True)
        if spent <= budget + 1e-9
    ]

    def kept(count: int) -> Mix:
        names = tuple(affordable[:count])
        share = sum(shares[name] for name in names)
        return Mix(names, share, trials.closeness(quantizer(frozenset(names))))

    best = kept(len(affordable))
    if best.closeness < trials.aim:
        return best
    low, high = 0, len(affordable)  # `high` reaches the aim
    while high - low > 1:
        middle = kept((low + high) // 2)
        if middle.closeness >= trials.aim:
            best, high = middle, (low + high) // 2
        else:
            low = (low + high) // 2
    return best
