"""Looks at candidates: each is a stretch in its own process, and what came of it is kept."""

import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from forebay.contract.errors import ForebayError
from forebay.tune.arms import Arm
from forebay.tune.orders import Arrive, Saturate
from forebay.tune.rates import LEAD_SHARE, USUAL_LOAD, arrivals_s
from forebay.tune.trials import Trials

OVERTIME = 1.25
"""Past so many times the time there is, what is known has to do: slow models' passes take long."""

T = TypeVar("T")


class Budget:
    """The time for measuring.

    Args:
        seconds: all of it.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._began = time.monotonic()

    @property
    def elapsed_s(self) -> float:
        """Since it began."""
        return time.monotonic() - self._began

    @property
    def left_s(self) -> float:
        """Until the time is up; negative after that."""
        return self.seconds - self.elapsed_s

    @property
    def is_over(self) -> bool:
        """Whether it is time to be content with what is known."""
        return self.elapsed_s > OVERTIME * self.seconds


class Looks:
    """Measures candidates. One that fails is marked so, and looked at no more.

    Args:
        trials: their processes.
    """

    def __init__(self, trials: Trials) -> None:
        self._trials = trials

    def start(self, arm: Arm) -> None:
        """Have it loaded and warm."""
        with self._marked(arm):
            arm.ready = self._trials.of(arm.number, arm.spec, arm.home).ready

    def first(self, arm: Arm, seconds: float, *, with_latency: bool) -> None:
        """How much it can do and, if that counts, how late it is at the usual load."""
        arm.forget()
        self.saturate(arm, seconds / 2 if with_latency else seconds, seed=0)
        if with_latency:
            self.arrive(arm, USUAL_LOAD, seconds / 2, seed=0)

    def saturate(self, arm: Arm, seconds: float, *, seed: int) -> None:
        """Keep it busy for so long."""
        self._run(arm, Saturate(lead_s=LEAD_SHARE * seconds, seconds=seconds, seed=seed), None)

    def arrive(self, arm: Arm, fraction: float, seconds: float, *, seed: int) -> None:
        """Have rows come at random, at a share of what it can do."""
        if arm.is_measured:
            rate = fraction * arm.capacity.median
            order = Arrive(rate=rate, seconds=arrivals_s(seconds, fraction), seed=seed)
            self._run(arm, order, fraction)

    def _run(self, arm: Arm, order: Saturate | Arrive, fraction: float | None) -> None:
        if arm.failed:
            return
        with self._marked(arm):
            trial = self._trials.of(arm.number, arm.spec, arm.home)
            arm.ready = trial.ready
            stretch = trial.run(order)
            if fraction is None:
                arm.saturated(stretch)
            else:
                arm.arrived(fraction, stretch)

    @contextmanager
    def _marked(self, arm: Arm) -> Generator[None]:
        try:
            yield
        except ForebayError as error:
            arm.failed = error.message
            self._trials.end(arm.number)


def turned(items: Sequence[T], by: int) -> list[T]:
    """The same, beginning elsewhere: so that none always comes after the same other."""
    by %= max(1, len(items))
    return [*items[by:], *items[:by]]
