"""Up to which rate a candidate meets the goals: who is looked at, how long, at which rate. Pure."""

from forebay.tune.goals import Goals

ROUNDS = 3
"""Looks at each finalist and rate, with all others in between: a machine drifts."""

MOST_FINALISTS = 4
GOOD_LOOK_S = 1.5
LEAST_LOOK_S = 0.3
USUAL_LOAD = 0.7
"""The share of what a candidate can do at which its latency is looked at first."""

MOST_LOOK_S = 8.0
LEAD_SHARE = 0.2
"""Of a look; what runs in it doesn't count."""

FRACTIONS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
"""Rates that are looked at, as shares of the saturated rate."""

WITHOUT_GOALS = (0.7, 0.5, 0.9)
"""Those that are looked at where no latency is asked for."""


def steps(goals: Goals) -> int:
    """Rates at which a finalist is looked at, at most; its saturated rate is one of them."""
    return 1 + (Climb.STEPS if goals.latency else len(WITHOUT_GOALS))


def finalists(seconds: float, *, steps: int) -> int:
    """How many there is time for: at least 2, so that there is a choice.

    Args:
        seconds: for all of them.
        steps: rates at which each is looked at.
    """
    # One more: the current settings come along in any case.
    each_s = ROUNDS * steps * GOOD_LOOK_S * (1 + LEAD_SHARE)
    return max(2, min(MOST_FINALISTS, int(seconds / each_s) - 1))


def arrivals_s(look_s: float, fraction: float) -> float:
    """How long rows come at a share of what can be done: longer at a low one, as fewer come."""
    return look_s * min(3.0, max(1.0, USUAL_LOAD / fraction))


def look_s(seconds: float, *, arms: int, steps: int) -> float:
    """How long one look may take.

    Args:
        seconds: for all of them.
        arms: finalists.
        steps: rates at which each is looked at.
    """
    each = seconds / max(1, arms * ROUNDS * steps) / (1 + LEAD_SHARE)
    return min(MOST_LOOK_S, max(LEAST_LOOK_S, each))


class Climb:
    """Bisects `FRACTIONS` for the highest at which the goals are met, as latency rises with it."""

    STEPS = len(FRACTIONS).bit_length()
    """Looks that it takes at most."""

    def __init__(self) -> None:
        self._met = -1
        self._missed = len(FRACTIONS)

    @property
    def next(self) -> float | None:
        """The share to look at; None once it is known."""
        if self._missed - self._met <= 1:
            return None
        return FRACTIONS[(self._met + self._missed) // 2]

    @property
    def best(self) -> float | None:
        """The highest share known to meet the goals, if any does."""
        return FRACTIONS[self._met] if self._met >= 0 else None

    def told(self, fraction: float, *, met: bool) -> None:
        """Take in what was found at a share."""
        at = FRACTIONS.index(fraction)
        if met:
            self._met = max(self._met, at)
        else:
            self._missed = min(self._missed, at)
