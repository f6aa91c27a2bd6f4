"""A model whose replicas follow the policy is served within its bounds, and they don't flap."""

import itertools
import math
from collections.abc import Callable, Sequence

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from forebay.autoscaler.policy import DRAIN_SHARE, PACE_S, STALE_S, UP_S, Goals, Policy, Sample, Why
from forebay.contract.model import BackendName, ModelSpec
from forebay.contract.replicas import Replicas
from forebay.contract.rows import Task

TICK_S = 1.0

goals = st.builds(
    lambda least, more, idle_s, drain_s, at_once, stable_s: Goals(
        least, max(least, 1) + more, idle_s, drain_s, 100 * drain_s, at_once, stable_s
    ),
    st.integers(0, 3),
    st.integers(0, 5),
    st.floats(0.5, 60),
    st.floats(0.1, 10),
    st.integers(1, 64),
    st.floats(0.5, 90),
)


class Seen:
    """Any sample at all, and how long after the one before."""

    def __init__(self, *drawn: float) -> None:
        self.after, self.realtime, self.bulk, self.new, self.busy, self.rate = drawn


seen = st.builds(
    Seen,
    st.floats(0.001, 2 * STALE_S),
    st.integers(0, 10_000) | st.just(0),
    st.integers(0, 100_000) | st.just(0),
    st.integers(0, 1_000) | st.just(0),
    st.integers(0, 8),
    st.floats(0.1, 1_000) | st.just(0.0),
)


def follow(asked: Goals, history: Sequence[Seen]) -> list[tuple[Sample, int]]:
    """What the policy makes of a history in which its word is done at once."""
    policy, now, entered, replicas = Policy(asked), 0.0, 0, asked.least
    told: list[tuple[Sample, int]] = []
    for one in history:
        now += one.after
        entered += int(one.new)
        sample = Sample(
            now,
            realtime=int(one.realtime),
            bulk=int(one.bulk),
            entered=entered,
            replicas=replicas,
            busy=min(int(one.busy), replicas),
            rate=one.rate,
        )
        replicas = policy.decide(sample).replicas
        told.append((sample, replicas))
    return told


@given(goals, st.lists(seen, min_size=1, max_size=40))
def test_whatever_it_sees_it_keeps_its_bounds_and_ends_nobody_who_is_busy(
    asked: Goals, history: list[Seen]
) -> None:
    for sample, replicas in follow(asked, history):
        assert asked.least <= replicas <= max(asked.most, sample.busy)
        assert replicas >= sample.busy
        if sample.rows:
            assert replicas >= 1
        if not sample.replicas and sample.rows and not asked.least:
            assert replicas >= 1


@given(goals, st.lists(seen, min_size=2, max_size=40))
def test_what_was_wanted_stays_for_the_stable_window_and_the_last_for_as_long_as_idle(
    asked: Goals, history: list[Seen]
) -> None:
    told = follow(asked, history)
    for (before, wanted), (after, then) in itertools.pairwise(told):
        if then < wanted:
            # Whatever made it so many lies further back than what is not needed may stay.
            window_s = asked.idle_s if not then else min(asked.stable_s, asked.idle_s)
            recent = [
                one.replicas
                for one, _ in told
                if after.now - window_s < one.now <= before.now and one.replicas < wanted
            ]
            assert not recent, "it went up, and down again within its window"


@given(goals, st.lists(seen, max_size=20), st.floats(0.1, 0.99 * STALE_S))
def test_idle_for_long_enough_leaves_the_least(
    asked: Goals, history: list[Seen], tick_s: float
) -> None:
    ticks = math.ceil(asked.idle_s / tick_s) + 2
    rest = [Seen(tick_s, 0, 0, 0, 0, 0.0)] * ticks
    told = follow(asked, [*history, *rest])
    assert told[-1][1] == asked.least


@given(goals, st.lists(seen, min_size=1, max_size=20), st.integers(1, 10_000))
def test_more_rows_never_make_it_fewer(asked: Goals, history: list[Seen], more: int) -> None:
    *before, last = history
    _, fewer = follow(asked, history)[-1]
    told = (last.after, last.realtime + more, last.bulk, last.new, last.busy, last.rate)
    assert follow(asked, [*before, Seen(*told)])[-1][1] >= fewer


class Simulated:
    """A model with one lane: replicas take time to start, each works off rows at one rate.

    Args:
        asked: of its policy.
        rate: rows a second of one replica.
        start_s: until one is ready.
    """

    def __init__(self, asked: Goals, *, rate: float, start_s: float) -> None:
        self.policy, self.rate, self.start_s = Policy(asked), rate, start_s
        self.ready_at = [0.0] * asked.least
        self.rows, self.entered, self.now = 0.0, 0.0, 0.0
        self.wanted: list[int] = []
        self.waits: list[float] = []
        self.ever = False

    def run(self, seconds: float, arrivals: Callable[[float], float]) -> None:
        """Let so much time pass, with so many rows a second coming in."""
        for _ in range(int(seconds / TICK_S)):
            came = arrivals(self.now) * TICK_S
            ready = sum(at <= self.now for at in self.ready_at)
            done = min(self.rows + came, ready * self.rate * TICK_S)
            self.rows, self.entered = self.rows + came - done, self.entered + came
            self.ever |= done > 0
            self.now += TICK_S
            self.waits.append(self.rows / (ready * self.rate) if ready else float(self.rows > 0))
            self._decide(math.ceil(done / (self.rate * TICK_S)))

    def _decide(self, busy: int) -> None:
        replicas = len(self.ready_at)
        wanted = self.policy.decide(
            Sample(
                self.now,
                realtime=math.ceil(self.rows),
                entered=int(self.entered),
                replicas=replicas,
                busy=min(busy, replicas) if self.rows else 0,
                rate=self.rate if self.ever else 0.0,
            )
        ).replicas
        self.ready_at += [self.now + self.start_s] * (wanted - replicas)
        del self.ready_at[wanted:]
        self.wanted.append(wanted)

    @property
    def turns(self) -> int:
        """How often it went from growing to shrinking, or back."""
        steps = [b - a for a, b in itertools.pairwise(self.wanted) if a != b]
        return sum((a > 0) != (b > 0) for a, b in itertools.pairwise(steps))


@given(
    load=st.floats(0.05, 3.7),
    rate=st.floats(1, 500),
    start_s=st.floats(0.1, 5),
    idle_s=st.floats(5, 60),
)
def test_a_steady_load_finds_its_replicas_and_they_stay(
    load: float, rate: float, start_s: float, idle_s: float
) -> None:
    assume(load * rate >= 2)
    asked = Goals(0, 6, idle_s, 3.0, 300.0)
    model = Simulated(asked, rate=rate, start_s=start_s)
    model.run(300, lambda _: load * rate)
    settled = model.wanted[-100:]
    assert len(set(settled)) == 1, "it flaps"
    assert settled[0] >= math.ceil(load - 1e-6)
    assert model.waits[-1] <= asked.drain_s, "what waits is worked off in time"
    assert model.turns <= 1


@given(
    rows=st.integers(50, 2_000), rate=st.floats(5, 50), start_s=st.floats(0.1, 3), times=st.just(5)
)
def test_bursts_from_nothing_are_worked_off_by_as_many_as_it_takes_and_leave_nobody(
    rows: int, rate: float, start_s: float, times: int
) -> None:
    asked = Goals(0, 8, 10.0, 3.0, 300.0)
    model = Simulated(asked, rate=rate, start_s=start_s)
    long = rows / rate + 60
    for _ in range(times):
        began = model.now
        model.run(1, lambda _: rows)
        assert model.wanted[-1] >= 1
        model.run(long, lambda _: 0.0)
        assert model.rows == 0
        assert model.wanted[-1] == 0
        # Up once, down once: the burst before this one is forgotten, but for the rate.
        burst = model.wanted[int(began) :]
        most = max(burst)
        peak = burst.index(most)
        assert burst[: peak + 1] == sorted(burst[: peak + 1])
        assert burst[peak:] == sorted(burst[peak:], reverse=True)
        if rows / rate > 4 * asked.drain_s * asked.most:
            assert most == asked.most


def test_on_and_off_faster_than_idle_keeps_it_warm_and_turns_no_oftener_than_that() -> None:
    asked = Goals(0, 4, 30.0, 3.0, 300.0)
    model = Simulated(asked, rate=10, start_s=1)
    model.run(300, lambda now: 100.0 if now % 20 < 2 else 0.0)
    assert set(model.wanted[30:]) <= {3, 4}
    assert model.turns <= 2 * 300 / asked.idle_s


def sample(now: float, rows: int = 0, **fields: float) -> Sample:
    told = {"entered": 0, "replicas": 1, "busy": 0, "rate": 10.0, **fields}
    return Sample(now, realtime=rows, **told)  # type: ignore[arg-type]


def test_one_is_started_at_once_from_none_whatever_waits() -> None:
    for rows in (1, 100_000):
        policy = Policy(Goals(0, 8, 60, 3.0, 300.0))
        assert policy.decide(sample(0, replicas=0)).replicas == 0
        decision = policy.decide(sample(0.001, rows, replicas=0))
        assert (decision.replicas, decision.why) == (1, Why.WORK)


def test_a_little_too_much_is_waited_with_and_a_lot_is_not() -> None:
    policy = Policy(Goals(1, 8, 60, 3.0, 300.0))
    for tick in range(10):
        assert policy.decide(sample(tick)).replicas == 1
    assert policy.decide(sample(10, 45)).replicas == 1, "one and a half, for a moment"
    assert policy.decide(sample(11, 45)).replicas == 1
    assert policy.decide(sample(10 + UP_S + 1, 45)).replicas == 2, "and for long"
    assert policy.decide(sample(15, 45 * 4, replicas=2)).replicas == 6, "at once"


@pytest.mark.parametrize("rate", [0.0, 0.001])
def test_there_are_never_more_than_rows_however_slow_they_are(rate: float) -> None:
    policy = Policy(Goals(0, 8, 60, 3.0, 300.0))
    for tick in range(100):
        assert policy.decide(sample(tick, 2, busy=1, rate=rate)).replicas <= 2


def test_those_that_rows_come_in_for_stay_though_nothing_waits() -> None:
    goals = Goals(1, 8, 5, 3.0, 300.0)
    policy = Policy(goals)
    entered = 0
    for tick in range(int(4 * PACE_S)):
        entered += 25  # of 30 that three can do, and more than two should
        decision = policy.decide(sample(tick, 1, entered=entered, replicas=3, busy=1))
        assert decision.replicas == 3
    assert decision.why is Why.PACE


def test_a_model_that_was_never_measured_is_judged_by_how_long_nothing_comes_of_it() -> None:
    policy = Policy(Goals(0, 8, 60, 3.0, 300.0, at_once=2))
    wanted = [
        policy.decide(sample(tick, 20, replicas=1, busy=1, rate=0.0)).replicas for tick in range(9)
    ]
    assert wanted[:3] == [1, 1, 1]
    assert wanted[-1] > 8 // 2


def test_who_has_not_looked_for_long_ends_nobody_yet() -> None:
    policy = Policy(Goals(0, 8, 5, 3.0, 300.0))
    assert policy.decide(sample(0, 500, replicas=8, busy=8)).replicas == 8
    assert policy.decide(sample(1_000, replicas=8)).replicas == 8
    assert policy.decide(sample(1_004, replicas=8)).replicas == 8
    assert policy.decide(sample(1_005.1, replicas=8)).replicas == 0


def test_goals_are_those_of_the_models_table() -> None:
    spec = ModelSpec(Task.ECHO, BackendName.ECHO, replicas=Replicas(min=0, max=3, idle_s=7))
    goals = Goals.of(spec)
    assert (goals.least, goals.most, goals.idle_s) == (0, 3, 7)
    assert goals.drain_s == pytest.approx(DRAIN_SHARE * 30)
    assert goals.bulk_drain_s == pytest.approx(DRAIN_SHARE * 86_400)


def test_of_several_those_go_that_were_not_needed_of_late_and_the_last_once_it_is_idle() -> None:
    policy = Policy(Goals(0, 8, 60.0, 3.0, 300.0, 1, stable_s=10.0))
    assert policy.decide(sample(0, 300, replicas=1, entered=300)).replicas == 8
    told = [policy.decide(sample(tick, replicas=8, entered=300)).replicas for tick in range(1, 100)]
    assert told[:10] == [8] * 10
    assert told[10:59] == [1] * 49
    assert set(told[61:]) == {0}
