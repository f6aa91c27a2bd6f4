"""The lanes under any order of events, against the oracle, on the fake and on the real server.

After every step the whole of Redis is compared with what should be there. So each prediction has
at most one terminal status and keeps it, none is lost while it has none, demand is exact, every
entry and lease belongs to a part that still needs it, and whoever lost a lease changes nothing.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import fakeredis
import msgspec
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from forebay.contract.errors import LaneFull
from forebay.contract.model import LaneLimits
from forebay.contract.prediction import Lane, PredictionId, Status
from forebay.lanes import scripts, sweeps
from forebay.lanes.consumer import Consumer, Delivery
from forebay.lanes.dead import DeadLetters
from forebay.lanes.keys import Keys
from forebay.lanes.lane import Submission
from forebay.lanes.scripts import EnqueueOutcome
from tests.fixtures import lanes as drive
from tests.fixtures.gateway_end import echo_spec
from tests.fixtures.servers import LaneServer, fake_client, new_prefix, real_client
from tests.property.lane_model import BOUNDS, MAX_JOINED, MOVED, Lanes, Part, Prediction

T = TypeVar("T")
WORKERS = ("w1", "w2", "w3")
workers = st.sampled_from(WORKERS)
counts = st.integers(1, 6)
SPEC = msgspec.structs.replace(
    echo_spec(),
    realtime=LaneLimits(max_rows=BOUNDS[Lane.REALTIME], deadline_s=drive.LONG_MS / 1000),
    bulk=LaneLimits(max_rows=BOUNDS[Lane.BULK], deadline_s=drive.LONG_MS / 1000),
)


class LanesMachine(RuleBasedStateMachine):
    """Drives the lanes and the oracle with the same events."""

    new_server: Callable[[], LaneServer]

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.server = self.run(self._open())
        self.oracle = Lanes()
        self.consumers: dict[str, Consumer] = {}
        for name in WORKERS:
            joined = drive.join(self.server, name, dead_letter_max=10_000)
            self.consumers[name] = self.run(joined)
        # Everything each worker was ever given: a zombie may speak at any time.
        self.given: dict[str, list[Delivery]] = {name: [] for name in WORKERS}
        self.submissions: dict[str, Submission] = {}
        self.ended: dict[str, dict[str, bytes]] = {}

    async def _open(self) -> LaneServer:
        return type(self).new_server()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(coroutine)

    def teardown(self) -> None:
        self.run(self.server.close())
        self.runner.close()

    def some(self, data: st.DataObject, worker: str) -> list[Delivery]:
        """Some of what a worker was given, perhaps more than once."""
        return data.draw(st.lists(st.sampled_from(self.given[worker]), min_size=1, max_size=5))

    @rule(
        lane=st.sampled_from(Lane),
        rows=st.lists(st.integers(1, 5), min_size=1, max_size=3),
        overdue=st.booleans(),
    )
    def enqueue(self, lane: Lane, rows: list[int], overdue: bool) -> None:
        self._take(lane, rows, overdue, identity="")

    @rule(
        lanes=st.lists(st.sampled_from(Lane), min_size=1, max_size=4),
        rows=st.sampled_from([[2], [1, 2]]),
        overdue=st.booleans(),
    )
    def enqueue_the_same(self, lanes: list[Lane], rows: list[int], overdue: bool) -> None:
        """What others may ask for as well: one of two things, perhaps by several at once."""
        for lane in lanes:
            self._take(lane, rows, overdue, identity=f"parts: {len(rows)}")

    def _take(self, lane: Lane, rows: list[int], overdue: bool, *, identity: str) -> None:
        one = drive.submission(
            *rows,
            lane=lane,
            deadline_ms=-1 if overdue else drive.LONG_MS,
            identity=identity.encode(),
        )
        expected, leader, moved = self.oracle.enqueue(lane, rows, identity)
        assert self.run(self._enqueue(one)) == [expected]
        if expected is EnqueueOutcome.FULL:
            assert self.run(drive.view(self.server, [one.id.text])).records == {one.id.text: {}}
            return
        self.submissions[one.id.text] = one
        made = Prediction(one.id.text, lane, overdue, [], identity, joined=leader)
        self.oracle.predictions[one.id.text] = made
        if leader is not None:
            leader.followers.append(made)
            self.oracle.counters["joined"] += 1
            if moved:
                leader.lane = lane
                for number, entry in self._entries(leader.id, lane).items():
                    leader.parts[number].entry = entry
            return
        self._on_its_lane(made, rows)
        if identity:
            self.oracle.leaders[identity] = made

    def _on_its_lane(self, made: Prediction, rows: list[int]) -> None:
        entries = self._entries(made.id, made.lane)
        made.parts = [Part(number, count, entries[number]) for number, count in enumerate(rows)]

    def _entries(self, id_: str, lane: Lane) -> dict[int, bytes]:
        seen = self.run(drive.view(self.server)).entries[lane]
        return {part: entry for entry, (whose, part) in seen.items() if whose == id_}

    async def _enqueue(self, *several: Submission) -> list[EnqueueOutcome]:
        bounds = (BOUNDS[Lane.REALTIME], BOUNDS[Lane.BULK])
        return await drive.enqueue(self.server, *several, bounds=bounds)

    @precondition(lambda self: self.submissions)
    @rule(data=st.data())
    def enqueue_again(self, data: st.DataObject) -> None:
        again = data.draw(st.sampled_from(list(self.submissions.values())))
        assert self.run(self._enqueue(again)) == [EnqueueOutcome.KNOWN]

    @precondition(lambda self: self.oracle.letters)
    @rule(data=st.data())
    def replay(self, data: st.DataObject) -> None:
        """Run a dead prediction again, whole: a new one, and its letters are gone."""
        dead = self.oracle.predictions[data.draw(st.sampled_from(sorted(self.oracle.letters)))]
        id_ = PredictionId.parse(dead.id)
        letters = DeadLetters(self.server.redis, self.server.keys)
        found = self.run(letters.of_prediction(id_))
        assert len(found) == self.oracle.letters[dead.id]
        rows = [part.rows for part in dead.parts]
        expected, _, _ = self.oracle.enqueue(dead.lane, rows, "")
        if expected is EnqueueOutcome.FULL:
            with pytest.raises(LaneFull):
                self.run(letters.replay(id_, found, SPEC, retain_ms=drive.LONG_MS))
            return
        new = self.run(letters.replay(id_, found, SPEC, retain_ms=drive.LONG_MS))
        del self.oracle.letters[dead.id]
        made = Prediction(new.text, dead.lane, False, [])
        self.oracle.predictions[new.text] = made
        self._on_its_lane(made, rows)

    @rule(worker=workers, count=counts)
    def read(self, worker: str, count: int) -> None:
        deliveries = self.run(drive.read(self.consumers[worker], count))
        expected = self.oracle.read(worker, count)
        assert [(d.prediction, d.part) for d in deliveries] == expected
        assert {d.attempt for d in deliveries} <= {1}
        self.given[worker] += deliveries

    @precondition(lambda self: any(self.given.values()))
    @rule(data=st.data(), release=st.booleans())
    def renew_or_release(self, data: st.DataObject, release: bool) -> None:
        worker = data.draw(st.sampled_from([name for name in WORKERS if self.given[name]]))
        deliveries = list({d.lease: d for d in self.some(data, worker)}.values())
        consumer = self.consumers[worker]
        mine = {d.lease: self.oracle.mine(worker, d) for d in deliveries}
        if release:
            self.run(consumer.release(deliveries))
        else:
            lost = self.run(consumer.renew(deliveries))
            assert lost == {lease for lease, part in mine.items() if part is None}
        for part in mine.values():
            if part is not None:
                part.lapsed = release

    @precondition(lambda self: any(self.given.values()))
    @rule(data=st.data())
    def begin(self, data: st.DataObject) -> None:
        """Run some of what it was given, its own or no longer."""
        worker = data.draw(st.sampled_from([name for name in WORKERS if self.given[name]]))
        leases = {delivery.lease for delivery in self.some(data, worker)}
        told = " ".join(f"{lane.value}:{entry.decode()}" for lane, entry in leases)
        self.run(self._set_running(worker, told))
        self.oracle.running[worker] = leases

    async def _set_running(self, worker: str, told: str) -> None:
        # As `Running` does, whose connection the fake has no match for.
        await self.server.redis.execute_command("HSET", self.server.echo.running, worker, told)

    @rule(worker=workers, forgets=st.booleans())
    def vanish(self, worker: str, forgets: bool) -> None:
        """Die and forget, or freeze and remember."""
        self.run(drive.vanish(self.server, self.consumers[worker]))
        self.oracle.absent.add(worker)
        if forgets:
            self.given[worker] = []

    @precondition(lambda self: self.oracle.absent)
    @rule(data=st.data())
    def come_back(self, data: st.DataObject) -> None:
        worker = data.draw(st.sampled_from(sorted(self.oracle.absent)))
        self.run(self.consumers[worker].join())
        self.oracle.absent.remove(worker)

    @rule(worker=workers, count=counts)
    def reclaim(self, worker: str, count: int) -> None:
        eligible = self.oracle.reclaimable(worker)
        deliveries = self.run(drive.reclaim(self.consumers[worker], count))
        taken = {(d.prediction, d.part) for d in deliveries}
        assert len(taken) == len(deliveries) <= count
        assert taken <= eligible
        assert bool(taken) == bool(eligible)
        for delivery in deliveries:
            self.oracle.reclaim(worker, delivery)
            part = self.oracle.predictions[delivery.prediction].parts[delivery.part]
            assert (delivery.attempt, delivery.strikes) == (part.attempt, part.strikes)
        self.given[worker] += deliveries

    @precondition(lambda self: any(self.given.values()))
    @rule(
        data=st.data(),
        status=st.sampled_from([Status.SUCCEEDED, Status.FAILED, Status.EXPIRED]),
        dead=st.booleans(),
    )
    def settle(self, data: st.DataObject, status: Status, dead: bool) -> None:
        worker = data.draw(st.sampled_from([name for name in WORKERS if self.given[name]]))
        deliveries = self.some(data, worker)
        dead = dead and status is not Status.EXPIRED
        expected = [self.oracle.settle(d, status, dead=dead) for d in deliveries]
        reason = "it failed" if dead else ""
        told = [drive.settlement(d, status, dead=reason) for d in deliveries]
        assert self.run(self.consumers[worker].settle(told)) == expected
        for prediction in self.oracle.predictions.values():
            for part in prediction.parts:
                if part.entry == MOVED:
                    part.entry = self._entries(prediction.id, prediction.lane)[part.number]

    @precondition(lambda self: self.submissions)
    @rule(data=st.data(), status=st.sampled_from([Status.CANCELED, Status.EXPIRED]))
    def finish(self, data: st.DataObject, status: Status) -> None:
        one = data.draw(st.sampled_from(list(self.submissions.values())))
        expected = self.oracle.finish(one.id.text, status)
        assert self.run(drive.finish(self.server, one.id, status)) == expected

    @rule()
    def expire(self) -> None:
        swept = sweeps.expire_overdue(self.server.redis, self.server.echo)
        assert self.run(swept) == self.oracle.expire()

    @rule()
    def tidy(self) -> None:
        swept = sweeps.lapse_orphans(self.server.redis, self.server.echo, grace_ms=0)
        assert self.run(swept)[0] == self.oracle.lapse()

    @invariant()
    def redis_holds_what_it_should(self) -> None:
        oracle = self.oracle
        seen = self.run(drive.view(self.server, list(oracle.predictions)))
        for lane in Lane:
            assert list(seen.entries[lane].items()) == [
                (part.entry, (prediction.id, part.number)) for prediction, part in oracle.live(lane)
            ]
            assert seen.demand[lane] == oracle.demand(lane)
        assert seen.leases == oracle.leased()
        assert seen.deadlines == {p.id for p in oracle.predictions.values() if not p.ended}
        assert seen.counters == {name: n for name, n in oracle.counters.items() if n}
        assert seen.dead == oracle.letters
        for prediction in oracle.predictions.values():
            record = seen.records[prediction.id]
            assert record["st"].decode() == (prediction.ended or Status.STARTING)
            settled = {f"o{part.number}" for part in prediction.parts if part.settled}
            assert {name for name in record if name[0] == "o" and name != "of"} == settled
            if prediction.ended:
                told = ("st", "ft", "er")
                kept = {name: value for name, value in record.items() if name in told}
                if not prediction.wanted:
                    kept = {name: value for name, value in record.items() if name[0] not in "akh"}
                    kept.pop("fo", None)
                assert self.ended.setdefault(f"{prediction.id} {len(kept)}", kept) == kept
                assert ("er" in record) == prediction.cut


@pytest.fixture(autouse=True)
def few_join(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scripts, "MAX_JOINED", MAX_JOINED)


def run_machine(new_server: Callable[[], LaneServer]) -> None:
    machine = type("Machine", (LanesMachine,), {"new_server": staticmethod(new_server)})
    # A step is a dozen round trips, so a machine counts as several examples.
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=settings().max_examples // 2,
            stateful_step_count=30,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
        ),
    )


def test_the_lanes_keep_their_promises_on_the_real_server(redis_url: str) -> None:
    def new_server() -> LaneServer:
        return LaneServer(
            "real", lambda blocking: real_client(redis_url, blocking=blocking), Keys(new_prefix())
        )

    run_machine(new_server)


def test_the_lanes_keep_their_promises_on_the_fake() -> None:
    def new_server() -> LaneServer:
        shared = fakeredis.FakeServer()
        return LaneServer("fake", lambda _: fake_client(shared), Keys(new_prefix()))

    run_machine(new_server)
