"""How many replicas a model should have. Pure: it is told what there is, and the time.

    up    from none   at once, one, as soon as anything waits
          in panic    at once, if what waits takes twice the replicas there are, or more
          otherwise   if it took more of them over the last `UP_S`, on average
    down  to the most that was needed at any time in the last `stable_s`
          to none once none was needed for `idle_s`

Needed are as many as work off what is on the lanes within a share of its deadline, as fast as one
replica was measured to be; and, of those that are there, as many as rows come in for. So a burst is
answered within a tick or two, and nothing that has been of use of late goes: replicas follow
demand, and don't flap. Two windows, a short one for up and a long one for down, are what Knative's
autoscaler has (its panic and stable windows); unlike there, the demand is what waits and runs, not
what is under way in a proxy, and the target is a time, not a number of requests. The last replica
is kept for longer than those beside it: without it somebody waits for a start.
"""

import math
from collections import deque
from enum import StrEnum
from typing import Final

import msgspec

from forebay.contract.model import ModelSpec

DRAIN_SHARE: Final = 0.1
"""Share of a lane's deadline within which what is on it is to be worked off."""

UP_S: Final = 3.0
"""What is needed for so long, on average, is started."""

PANIC: Final = 2.0
"""What takes so many times the replicas there are is not waited with."""

PACE_S: Final = 15.0
"""Over so long is it measured how fast rows come."""

BUSY_SHARE: Final = 0.8
"""Share of its time that a replica may be busy before one less is too few."""

STALE_S: Final = 10.0
"""Who has not looked for so long knows nothing: what is there stays for `idle_s`."""


class Why(StrEnum):
    """What replicas are for."""

    IDLE = "nothing to do"
    LEAST = "the least there may be"
    WORK = "there is work"
    DEPTH = "what waits would take too long"
    PACE = "rows come as fast as they are worked off"
    LATELY = "needed lately"
    MOST = "more would be needed, and these are the most there may be"
    BUSY = "none of them is idle"


class Goals(msgspec.Struct, frozen=True):
    """What is asked of a model's replicas.

    Attributes:
        least: replicas there always are.
        most: replicas there may be.
        idle_s: the last one goes if none was needed for so long.
        drain_s: within how long the realtime lane is to be worked off.
        bulk_drain_s: likewise, the bulk lane.
        at_once: rows that one replica may take in one go.
        stable_s: of several, what has not been needed for so long goes; no longer than `idle_s`.
    """

    least: int
    most: int
    idle_s: float
    drain_s: float
    bulk_drain_s: float
    at_once: int = 1
    stable_s: float = math.inf

    @classmethod
    def of(cls, spec: ModelSpec) -> "Goals":
        """What a model's table asks."""
        return cls(
            spec.replicas.min,
            spec.replicas.most,
            spec.replicas.idle_s,
            DRAIN_SHARE * spec.realtime.deadline_s,
            DRAIN_SHARE * spec.bulk.deadline_s,
            spec.batch.max_rows,
            spec.replicas.stable_s,
        )


class Sample(msgspec.Struct, frozen=True):
    """What there is.

    Attributes:
        now: seconds on a clock that only goes forward.
        realtime: rows on the realtime lane, waiting and leased.
        bulk: likewise, on the bulk lane.
        entered: rows that ever entered either lane.
        replicas: that have been started and are not leaving.
        busy: how many of them hold rows.
        rate: rows a second that one works off; 0 if not known.
    """

    now: float
    realtime: int = 0
    bulk: int = 0
    entered: int = 0
    replicas: int = 0
    busy: int = 0
    rate: float = 0.0

    @property
    def rows(self) -> int:
        """On both lanes."""
        return self.realtime + self.bulk


class Decision(msgspec.Struct, frozen=True):
    """How many replicas there should be, and what for."""

    replicas: int
    why: Why


class _Need(msgspec.Struct, frozen=True):
    at: float
    replicas: int
    why: Why


class _Greatest:
    """The greatest need of a window: those that no later one exceeds are kept, so the first is it.

    Args:
        window_s: how far back it reaches.
    """

    def __init__(self, window_s: float) -> None:
        self._window_s = window_s
        self._needs: deque[_Need] = deque()

    def begin(self, need: _Need) -> None:
        """Forget all others."""
        self._needs.clear()
        self._needs.append(need)

    def of(self, need: _Need) -> _Need:
        """Note one; the greatest, it included."""
        while self._needs and self._needs[-1].replicas <= need.replicas:
            self._needs.pop()
        self._needs.append(need)
        while self._needs[0].at < need.at - self._window_s:
            self._needs.popleft()
        return self._needs[0]


class Policy:
    """Decides for one model, sample after sample.

    Args:
        goals: what is asked.
    """

    def __init__(self, goals: Goals) -> None:
        self._goals = goals
        self._rate = 0.0
        self._samples: deque[Sample] = deque()
        self._loads: deque[tuple[float, float]] = deque()
        self._lately = _Greatest(min(goals.stable_s, goals.idle_s))
        self._any = _Greatest(goals.idle_s)
        self._unmeasured_since: float | None = None

    def decide(self, sample: Sample) -> Decision:
        """How many replicas there should be, by this sample and those before it.

        Never fewer than the least, nor than are busy; and if anything is on the lanes, at least
        one. Never more than the most, but for busy ones.
        """
        if not self._samples or sample.now - self._samples[-1].now > STALE_S:
            self._begin(sample)
        self._rate = sample.rate or self._rate
        need = self._need(sample)
        self._remember(sample)
        greatest = max(self._lately.of(need), self._any.of(_one_of(need)), key=_needed)
        why = need.why if greatest.replicas == need.replicas else Why.LATELY
        goals = self._goals
        wanted, why = max((greatest.replicas, why), (goals.least, Why.LEAST), key=_replicas)
        if wanted > goals.most:
            wanted, why = goals.most, Why.MOST
        busy = min(sample.busy, sample.replicas)
        return Decision(busy, Why.BUSY) if busy > wanted else Decision(wanted, why)

    def _begin(self, sample: Sample) -> None:
        """Nothing is known of the time before: what is there may have been needed."""
        self._samples.clear()
        self._loads.clear()
        there = _Need(sample.now, sample.replicas, Why.LATELY)
        self._lately.begin(there)
        self._any.begin(_one_of(there))
        self._unmeasured_since = None

    def _need(self, sample: Sample) -> _Need:
        """Replicas that this very moment needs."""
        came = self._samples and sample.entered > self._samples[-1].entered
        load = self._load(sample)
        self._loads.append((sample.now, load))
        while self._loads[0][0] < sample.now - UP_S:
            self._loads.popleft()
        if not sample.rows and not came:
            return _Need(sample.now, 0, Why.IDLE)
        if not sample.replicas:
            return _Need(sample.now, 1, Why.WORK)
        if load < PANIC * sample.replicas:
            load = math.fsum(one for _, one in self._loads) / len(self._loads)
        deep = _whole(load)
        paced = min(_whole(self._pace(sample)), sample.replicas)
        return max(
            _Need(sample.now, 1, Why.WORK),
            _Need(sample.now, deep, Why.DEPTH),
            _Need(sample.now, paced, Why.PACE),
            key=lambda need: need.replicas,
        )

    def _load(self, sample: Sample) -> float:
        """Replicas that it takes to work off what is there in time."""
        wanted = sample.realtime / self._goals.drain_s + sample.bulk / self._goals.bulk_drain_s
        if not self._rate:
            return self._guess(sample, wanted)
        self._unmeasured_since = None
        # However slow they are: one that finds no row is of no use.
        return min(wanted / self._rate, float(sample.rows))

    def _guess(self, sample: Sample, wanted: float) -> float:
        """Likewise, before anything has been measured: by how long nothing has come of it."""
        if not sample.busy:
            self._unmeasured_since = None
            return min(float(sample.rows), 1.0)
        if self._unmeasured_since is None:
            self._unmeasured_since = sample.now
        busy_s = sample.now - self._unmeasured_since
        if busy_s < self._goals.drain_s:
            return 1.0
        return min(max(wanted * busy_s / self._goals.at_once, 1.0), float(sample.rows))

    def _pace(self, sample: Sample) -> float:
        """Replicas that rows come in for."""
        if not self._rate or not self._samples:
            return 0.0
        oldest = self._samples[0]
        elapsed = sample.now - oldest.now
        if elapsed < UP_S:
            return 0.0
        return (sample.entered - oldest.entered) / elapsed / (self._rate * BUSY_SHARE)

    def _remember(self, sample: Sample) -> None:
        self._samples.append(sample)
        while self._samples[0].now < sample.now - PACE_S:
            self._samples.popleft()


def _one_of(need: _Need) -> _Need:
    """Whether any is needed."""
    return _Need(need.at, min(need.replicas, 1), need.why)


def _needed(need: _Need) -> int:
    return need.replicas


def _replicas(told: tuple[int, Why]) -> int:
    return told[0]


def _whole(load: float) -> int:
    """As many replicas as hold so much; a hair more than a whole number is that number."""
    return math.ceil(load - 1e-6)
