"""Policies side by side: at a queue time like Forebay's, what does each take?

Every one of the others has a number that people are to choose. All of a range are tried, and the
cheapest that is as quick as Forebay's policy stands for it: nobody is held to a bad choice.
"""

from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from forebay.autoscaler.policy import Goals
from forebay.autoscaler.simulation.scalers import (
    Concurrency,
    Forebay,
    QueueDelay,
    QueueLength,
    RequestCount,
)
from forebay.autoscaler.simulation.traces import Trace
from forebay.autoscaler.simulation.world import Model, Outcome, Scaler, replay

QUICK_S: Final = 1.0
"""What KEDA polls by where it is told to be as quick as it can."""

SHARES: Final = (0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 5.0, 10.0, 20.0)
"""Numbers of rows that are tried, as seconds of one replica's work."""

DELAYS_S: Final = (0.5, 1.0, 2.0, 4.0, 8.0)
"""Delays that are tried."""

QUICK_ENOUGH: Final = 1.02
"""A p99 of so many times Forebay's counts as equal."""


class Line(msgspec.Struct, frozen=True):
    """One policy, at its best.

    Attributes:
        outcome: of its cheapest setting that is as quick as Forebay's policy, or its quickest.
        p50_s: queue time, arrival to done.
        p99_s: likewise.
        as_quick: whether it is as quick.
    """

    outcome: Outcome
    p50_s: float
    p99_s: float
    as_quick: bool

    @property
    def hours(self) -> float:
        """Hours of one replica."""
        return self.outcome.replica_hours


def compare(trace: Trace, model: Model, goals: Goals, tell: Callable[[str], None]) -> list[Line]:
    """Forebay's policy and each of the others on one trace; Forebay's is the first.

    Args:
        trace: the load.
        model: what is scaled.
        goals: of Forebay's policy; a KEDA that is told to be quick has its `idle_s` for windows,
            and the others the times of their documentation.
        tell: is told what is being tried.
    """
    ours = replay(trace, model, Forebay(goals))
    bar = ours.wait_s(0.99) * QUICK_ENOUGH
    found = [_line(ours, bar)]
    for scalers in _others(model, goals):
        tried: list[Line] = []
        for scaler in scalers:
            tell(f"{trace.name}: {scaler.name}")
            tried.append(_line(replay(trace, model, scaler), bar))
        quick = [line for line in tried if line.as_quick]
        if quick:
            found.append(min(quick, key=lambda line: line.hours))
        else:
            found.append(min(tried, key=lambda line: (line.p99_s, line.hours)))
    return found


def _others(model: Model, goals: Goals) -> Sequence[Sequence[Scaler]]:
    numbers = sorted({max(round(share * model.rate, 1), 1.0) for share in SHARES})
    quick = {"polling_s": QUICK_S, "window_s": goals.idle_s}
    return (
        [QueueLength(number) for number in numbers],
        [QueueLength(number, **quick) for number in numbers],
        [Concurrency(number) for number in numbers],
        [QueueDelay(delay_s) for delay_s in DELAYS_S],
        [RequestCount(number) for number in numbers],
    )


def _line(outcome: Outcome, bar: float) -> Line:
    p99_s = outcome.wait_s(0.99)
    return Line(outcome, outcome.wait_s(0.5), p99_s, p99_s <= bar)
