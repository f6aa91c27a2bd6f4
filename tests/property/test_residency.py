"""A worker that follows the policy keeps to its memory, serves everybody, and doesn't thrash."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from forebay.contract.workers import ModelState
from forebay.inference.residency import (
    LONGEST,
    Load,
    Memory,
    Refuse,
    Resident,
    Unload,
    decide,
)

TICK_S = 0.1
FLOOR = 50
BUDGET = 250

sizes = st.integers(10, BUDGET - FLOOR)
model = st.tuples(sizes, st.sampled_from([0.05, 0.2, 1.0]), st.integers(0, 1_000))


class Model:
    """A model of a simulated worker. Its lanes have so many rows, for ever."""

    def __init__(self, name: str, size: int, load_s: float, rows: int) -> None:
        self.name, self.size, self.load_s, self.rows = name, size, load_s, rows
        self.state = ModelState.ABSENT
        self.since = 0.0
        self.waiting: float | None = 0.0 if rows else None
        self.longest_wait = 0.0
        self.until = 0.0

    def enter(self, state: ModelState, now: float) -> None:
        if state is ModelState.READY and self.waiting is not None:
            self.longest_wait = max(self.longest_wait, now - self.waiting)
        if state is ModelState.ABSENT and self.rows:
            self.waiting = now
        if state is ModelState.READY:
            self.waiting = None
        self.state, self.since = state, now

    def seen(self, now: float) -> Resident:
        is_here = self.state is ModelState.READY
        return Resident(
            self.name,
            self.state,
            bytes=self.size,
            load_s=self.load_s,
            since=self.since,
            used=now if self.rows and is_here else self.since,
            busy=is_here and self.rows > 0,
            rows=self.rows,
            waiting=self.waiting,
        )

    @property
    def slice_s(self) -> float:
        return self.seen(0.0).slice_s


def run(models: Sequence[Model], *, seconds: float) -> None:
    """Do as the policy says; hold its promises against each step."""
    for tick in range(int(seconds / TICK_S)):
        now = tick * TICK_S
        for one in models:
            if one.state is ModelState.LOADING and now >= one.until:
                one.enter(ModelState.READY, now)
            elif one.state is ModelState.UNLOADING and now >= one.until:
                one.enter(ModelState.ABSENT, now)
        held = sum(one.size for one in models if one.state is not ModelState.ABSENT)
        memory = Memory(BUDGET, FLOOR, rss=FLOOR + held)
        by_name = {one.name: one for one in models}
        for step in decide([one.seen(now) for one in models], memory, now=now):
            one = by_name[step.name]
            assert not isinstance(step, Refuse)
            if isinstance(step, Load):
                assert one.state is ModelState.ABSENT
                one.enter(ModelState.LOADING, now)
                one.until = now + one.load_s
            else:
                assert isinstance(step, Unload)
                assert one.state is ModelState.READY
                assert now - one.since >= one.slice_s, "it has just come"
                one.enter(ModelState.UNLOADING, now)
                one.until = now + TICK_S
        held = sum(one.size for one in models if one.state is not ModelState.ABSENT)
        assert held + FLOOR <= BUDGET


@given(st.lists(model, min_size=1, max_size=6))
def test_nobody_starves_and_the_memory_is_kept_to(drawn: list[tuple[int, float, int]]) -> None:
    models = [Model(f"m{number}", *one) for number, one in enumerate(drawn)]
    # Each that is ahead takes its longest slice, and is unloaded and loaded.
    turn_s = sum(LONGEST * one.slice_s + one.load_s + 5 * TICK_S for one in models)
    run(models, seconds=2 * turn_s)
    for one in models:
        if one.rows:
            assert one.longest_wait > 0
            assert one.longest_wait <= turn_s
            assert one.waiting is None or 2 * turn_s - one.waiting <= turn_s + TICK_S
        else:
            assert one.state is ModelState.ABSENT
