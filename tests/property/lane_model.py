"""What the lanes should do, in plain Python: the oracle of the stateful test."""

from collections import Counter
from dataclasses import dataclass, field

from forebay.contract.prediction import Lane, Status
from forebay.lanes.consumer import Delivery, LeaseId
from forebay.lanes.scripts import EnqueueOutcome, FinishOutcome, SettleOutcome
from tests.fixtures.lanes import Lease

MAX_JOINED = 2
MOVED = b"0-0"
"""Entry of a part that was put back on its lane, until the new one is looked up."""
BOUNDS = {Lane.REALTIME: 20, Lane.BULK: 30}


@dataclass
class Part:
    """One lane entry to come, there, or gone."""

    number: int
    rows: int
    entry: bytes
    attempt: int = 1
    owner: str | None = None
    lapsed: bool = False
    strikes: int = 0
    settled: bool = False


@dataclass
class Prediction:
    """One prediction with its parts; `ended` is its terminal status.

    One that has `joined` another has no parts of its own. One that is `over` has no say any more;
    one that was `cut` was ended by authority.
    """

    id: str
    lane: Lane
    overdue: bool
    parts: list[Part]
    identity: str = ""
    joined: "Prediction | None" = None
    followers: list["Prediction"] = field(default_factory=list)
    over: bool = False
    cut: bool = False
    ended: Status | None = None

    @property
    def wanted(self) -> bool:
        """Whether anybody waits for what it runs, itself or one that joined it."""
        several = [self, *self.followers]
        return not self.over and any(one.ended is None for one in several)

    @property
    def queued(self) -> list[Part]:
        """Parts that should have an entry."""
        return [part for part in self.parts if not part.settled] if self.wanted else []


@dataclass
class Lanes:
    """All of one model's lanes."""

    predictions: dict[str, Prediction] = field(default_factory=dict)
    absent: set[str] = field(default_factory=set)
    running: dict[str, set[LeaseId]] = field(default_factory=dict)
    leaders: dict[str, Prediction] = field(default_factory=dict)
    counters: Counter[str] = field(default_factory=Counter)
    letters: Counter[str] = field(default_factory=Counter)

    def live(self, lane: Lane) -> list[tuple[Prediction, Part]]:
        """Parts that should have an entry, in the order of their entries."""
        found = [
            (prediction, part)
            for prediction in self.predictions.values()
            if prediction.lane is lane
            for part in prediction.queued
        ]
        return sorted(found, key=lambda pair: order(pair[1].entry))

    def demand(self, lane: Lane) -> int:
        """Rows that wait or are leased."""
        return sum(part.rows for _, part in self.live(lane))

    def enqueue(
        self, lane: Lane, rows: list[int], identity: str
    ) -> tuple[EnqueueOutcome, Prediction | None, bool]:
        """What a new prediction should be told, whom it joins, and whether that one is moved."""
        full = self.demand(lane) + sum(rows) > BOUNDS[lane]
        leader = self.leaders.get(identity) if identity else None
        if leader is not None and self._joinable(leader):
            if lane is Lane.BULK or leader.lane is Lane.REALTIME:
                return EnqueueOutcome.JOINED, leader, False
            if not full and all(part.owner is None for part in leader.parts):
                return EnqueueOutcome.JOINED, leader, True
        return (EnqueueOutcome.FULL if full else EnqueueOutcome.ENQUEUED), None, False

    def _joinable(self, leader: Prediction) -> bool:
        waiting = sum(one.ended is None for one in leader.followers)
        none_settled = not any(part.settled for part in leader.parts)
        return leader.wanted and none_settled and waiting < MAX_JOINED

    def read(self, worker: str, count: int) -> list[tuple[str, int]]:
        """Lease what is ready: realtime first."""
        taken: list[tuple[str, int]] = []
        for lane in Lane:
            for prediction, part in self.live(lane):
                if part.owner is None and len(taken) < count:
                    part.owner = worker
                    taken.append((prediction.id, part.number))
        return taken

    def leased(self) -> dict[bytes, Lease]:
        """Who should hold what."""
        return {
            part.entry: Lease(part.owner, part.attempt)
            for lane in Lane
            for _, part in self.live(lane)
            if part.owner is not None
        }

    def mine(self, worker: str, delivery: Delivery) -> Part | None:
        """The part of a delivery, if its lease is (still) this worker's."""
        prediction = self.predictions[delivery.prediction]
        part = prediction.parts[delivery.part]
        # What was put back on its lane is there under another entry, and is another lease.
        held = part in prediction.queued and part.owner == worker and part.entry == delivery.entry
        return part if held else None

    def reclaimable(self, worker: str) -> set[tuple[str, int]]:
        """What this worker may take over: an absent one, only what was let go."""
        return {
            (prediction.id, part.number)
            for lane in Lane
            for prediction, part in self.live(lane)
            if part.owner is not None
            and (part.lapsed or (part.owner in self.absent and worker not in self.absent))
        }

    def reclaim(self, worker: str, delivery: Delivery) -> None:
        """Take over a lease."""
        part = self.predictions[delivery.prediction].parts[delivery.part]
        owner = part.owner
        if owner is not None and owner != worker:
            part.strikes += delivery.lease in self.running.get(owner, set())
        part.owner, part.lapsed, part.attempt = worker, False, part.attempt + 1

    def lapse(self) -> int:
        """Let go what absent workers hold; returns how many leases."""
        lapsed = 0
        for lane in Lane:
            for _, part in self.live(lane):
                if part.owner in self.absent and not part.lapsed:
                    part.lapsed = True
                    lapsed += 1
        holders = {part.owner for lane in Lane for _, part in self.live(lane)}
        for worker in self.absent - holders:
            self.running.pop(worker, None)
        return lapsed

    def settle(self, delivery: Delivery, status: Status, *, dead: bool) -> SettleOutcome:
        """Record how a delivery ended."""
        prediction = self.predictions[delivery.prediction]
        part = prediction.parts[delivery.part]
        if (delivery.attempt, delivery.entry) != (part.attempt, part.entry):
            self.counters["stale"] += 1
            return SettleOutcome.STALE
        if part not in prediction.queued:
            self.counters["late"] += 1
            return SettleOutcome.LATE
        if status is Status.EXPIRED and any(
            one.ended is None and not one.overdue for one in prediction.followers
        ):
            part.entry, part.attempt, part.owner, part.lapsed = MOVED, 1, None, False
            return SettleOutcome.AGAIN
        part.settled = True
        if dead:
            self.counters["dead"] += 1
            self.letters[prediction.id] += 1
        if status is Status.SUCCEEDED and prediction.queued:
            return SettleOutcome.RECORDED
        prediction.over = True
        for one in (prediction, *prediction.followers):
            if one.ended is None:
                self._end(one, status)
        return SettleOutcome.ENDED

    def finish(self, id_: str, status: Status) -> FinishOutcome:
        """End a prediction by authority."""
        prediction = self.predictions[id_]
        if prediction.ended:
            return FinishOutcome.LATE
        self._end(prediction, status)
        prediction.cut = True
        return FinishOutcome.ENDED

    def expire(self) -> int:
        """End what is overdue; returns how many."""
        overdue = [p for p in self.predictions.values() if p.overdue and not p.ended]
        for prediction in overdue:
            self._end(prediction, Status.EXPIRED)
            prediction.cut = True
        return len(overdue)

    def _end(self, prediction: Prediction, status: Status) -> None:
        prediction.ended = status
        self.counters[status.value] += 1


def order(entry: bytes) -> tuple[int, ...]:
    """Where an entry stands in its stream."""
    return tuple(int(number) for number in entry.split(b"-"))
