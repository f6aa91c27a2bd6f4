"""A model's lane, its replicas and time, as far as a policy has to do with them.

Rows are worked off in the order in which they came. A replica takes `start_s` until it is ready,
and works off `rate` rows a second from then on; it goes at once when it is told to, but for those
that are at work, which a scaler that asks for fewer has go as soon as they are idle.
"""

import math
from collections import deque
from typing import Final, Protocol

import msgspec

from forebay.autoscaler.simulation.traces import Trace

STEP_S: Final = 0.25
"""Time passes in steps of so long."""

LONGEST_DRAIN_S: Final = 3600.0
"""After the trace's end what is left is worked off for so long."""


class Model(msgspec.Struct, frozen=True):
    """What is scaled.

    Attributes:
        rate: rows a second of one replica.
        start_s: until a replica is ready.
        least: replicas that there always are.
        most: replicas there may be.
    """

    rate: float
    start_s: float
    least: int = 0
    most: int = 8


class Seen(msgspec.Struct, frozen=True):
    """What a scaler is told.

    Attributes:
        now: seconds since the trace began.
        rows: that wait or run.
        oldest_s: for how long the oldest of them has been there.
        entered: rows that ever came.
        replicas: started and not told to go.
        ready: of them.
        busy: of those.
        rate: rows a second of one; 0 until one has worked.
    """

    now: float
    rows: int
    oldest_s: float
    entered: int
    replicas: int
    ready: int
    busy: int
    rate: float


class Scaler(Protocol):
    """Says how many replicas there should be."""

    @property
    def name(self) -> str:
        """For people, with its setting."""
        ...

    @property
    def every_s(self) -> float:
        """How often it is asked."""
        ...

    @property
    def wakes(self) -> bool:
        """Whether it is asked at once, too, when rows come and there is no replica."""
        ...

    def decide(self, seen: Seen) -> int:
        """How many."""
        ...


class Outcome(msgspec.Struct, frozen=True):
    """What came of a trace.

    Attributes:
        scaler: who decided.
        replica_s: seconds that replicas were there, starting ones too, summed up.
        waits: seconds from a row's coming until it was done, with how many rows waited so long.
        starts: replicas that were started.
        turns: how often it went from more replicas to fewer, or back.
        left: rows that were not done in the end.
        replicas: at each second.
        rows: that waited or ran at each second.
    """

    scaler: str
    replica_s: float
    waits: tuple[tuple[float, int], ...]
    starts: int
    turns: int
    left: int
    replicas: tuple[int, ...]
    rows: tuple[int, ...]

    @property
    def replica_hours(self) -> float:
        """Hours of one replica."""
        return self.replica_s / 3600

    def wait_s(self, share: float) -> float:
        """The wait that so large a share of the rows didn't exceed; infinite if rows are left."""
        if self.left:
            return math.inf
        total = sum(count for _, count in self.waits)
        counted = 0
        for waited, count in sorted(self.waits):
            counted += count
            if counted >= share * total:
                return waited
        return 0.0


class _World:
    def __init__(self, model: Model, scaler: Scaler) -> None:
        self.model, self.scaler = model, scaler
        self.now = 0.0
        self.ready_at = [0.0] * model.least
        self.queue: deque[tuple[float, int]] = deque()
        self.rows = self.entered = 0
        self.worked = False
        self.wanted = model.least
        self.busy = 0
        self.spare = 0.0
        self.waits: dict[float, int] = {}
        self.replica_s = 0.0
        self.starts = model.least
        self.steps: list[int] = []

    def come(self, rows: int) -> None:
        self.queue.append((self.now, rows))
        self.rows += rows
        self.entered += rows
        if self.scaler.wakes and not self.ready_at:
            self.decide()

    def decide(self) -> None:
        seen = Seen(
            self.now,
            self.rows,
            self.now - self.queue[0][0] if self.queue else 0.0,
            self.entered,
            len(self.ready_at),
            sum(at <= self.now for at in self.ready_at),
            self.busy,
            self.model.rate if self.worked else 0.0,
        )
        self.wanted = min(max(self.scaler.decide(seen), self.model.least), self.model.most)
        more = self.wanted - len(self.ready_at)
        if more > 0:
            self.ready_at += [self.now + self.model.start_s] * more
            self.starts += more
            self.steps.append(1)

    def pass_time(self) -> None:
        """Let replicas work, and those go that nobody wants and that are idle."""
        ready = sum(at <= self.now for at in self.ready_at)
        self.replica_s += len(self.ready_at) * STEP_S
        self.now += STEP_S
        can = ready * self.model.rate * STEP_S
        self.spare += can
        done = min(int(self.spare), self.rows)
        self.spare = min(self.spare - done, self.model.rate * STEP_S) if self.rows else 0.0
        self.busy = min(math.ceil(done / (self.model.rate * STEP_S)), ready)
        self.rows -= done
        self.worked |= done > 0
        while done:
            came, rows = self.queue.popleft()
            taken = min(rows, done)
            waited = round(self.now - came, 2)
            self.waits[waited] = self.waits.get(waited, 0) + taken
            done -= taken
            if taken < rows:
                self.queue.appendleft((came, rows - taken))
        idle = len(self.ready_at) - self.busy
        fewer = min(len(self.ready_at) - self.wanted, idle)
        if fewer > 0:
            self.ready_at.sort()
            del self.ready_at[-fewer:]
            self.steps.append(-1)


def replay(trace: Trace, model: Model, scaler: Scaler) -> Outcome:
    """Let a trace come over a model."""
    world = _World(model, scaler)
    steps_a_second = round(1 / STEP_S)
    replicas: list[int] = []
    rows: list[int] = []
    ask_at = 0.0
    second = 0
    while second < len(trace.rows) or (world.rows and second < len(trace.rows) + LONGEST_DRAIN_S):
        came = trace.rows[second] if second < len(trace.rows) else 0
        for step in range(steps_a_second):
            # Spread over the second, the remainder first.
            now = came // steps_a_second + (step < came % steps_a_second)
            if now:
                world.come(now)
            if world.now >= ask_at:
                world.decide()
                ask_at = world.now + scaler.every_s
            world.pass_time()
        replicas.append(len(world.ready_at))
        rows.append(world.rows)
        second += 1
    turns = sum(a != b for a, b in zip(world.steps, world.steps[1:], strict=False))
    return Outcome(
        scaler.name,
        world.replica_s,
        tuple(world.waits.items()),
        world.starts,
        turns,
        world.rows,
        tuple(replicas),
        tuple(rows),
    )
