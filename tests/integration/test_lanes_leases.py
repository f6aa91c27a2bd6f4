"""Conformance of the lanes, on the fake and on the real server: who owns what."""

import itertools
from typing import Any

import pytest

from forebay.contract.prediction import Lane, Status
from forebay.lanes.consumer import Consumer
from forebay.lanes.scripts import SettleOutcome
from forebay.runtime.redis import Commands
from tests.fixtures.lanes import (
    enqueue,
    finish,
    join,
    read,
    reclaim,
    settlement,
    submission,
    vanish,
    view,
)
from tests.fixtures.processes import other_process
from tests.fixtures.servers import LaneServer
from tests.fixtures.waiting import eventually

ENDED, STALE = SettleOutcome.ENDED, SettleOutcome.STALE


@pytest.mark.parametrize("lane", list(Lane))
async def test_a_vanished_workers_lease_goes_to_a_peer_as_the_second_attempt(
    lanes: LaneServer, lane: Lane
) -> None:
    one = submission(2, lane=lane)
    await enqueue(lanes, one)
    zombie, peer = await join(lanes, "zombie"), await join(lanes, "peer")
    (first,) = await read(zombie, 1)
    assert await reclaim(peer, 10) == []
    await vanish(lanes, zombie)
    (second,) = await reclaim(peer, 10)
    assert (first.attempt, second.attempt, second.lane) == (1, 2, lane)
    assert (second.prediction, second.part) == (first.prediction, first.part)
    assert second.computation == first.computation
    assert await reclaim(peer, 10) == []
    # Whatever the old owner still says is refused, before and after the new one has settled.
    before = await view(lanes, [one.id.text])
    assert await zombie.settle([settlement(first, Status.FAILED)]) == [STALE]
    after = await view(lanes, [one.id.text])
    assert (after.records, after.leases, after.demand) == (
        before.records,
        before.leases,
        before.demand,
    )
    assert await zombie.renew([first]) == {first.lease}
    assert await peer.settle([settlement(second)]) == [ENDED]
    assert await zombie.settle([settlement(first, Status.FAILED)]) == [STALE]
    assert (await view(lanes)).counters == {"succeeded": 1, "stale": 2}


async def test_each_takeover_counts_one_attempt_more(lanes: LaneServer) -> None:
    await enqueue(lanes, submission())
    workers = [await join(lanes, f"w{number}") for number in range(4)]
    deliveries = await read(workers[0], 1)
    for before, after in itertools.pairwise(workers):
        await vanish(lanes, before)
        deliveries += await reclaim(after, 1)
    assert [delivery.attempt for delivery in deliveries] == [1, 2, 3, 4]
    outcomes = [await workers[0].settle([settlement(d)]) for d in deliveries]
    assert outcomes == [[STALE], [STALE], [STALE], [ENDED]]


async def test_attempts_are_counted_for_each_part(lanes: LaneServer) -> None:
    one = submission(1, 1)
    await enqueue(lanes, one)
    gone, peer = await join(lanes, "gone"), await join(lanes, "peer")
    (first,) = await read(gone, 1)
    (second,) = await read(peer, 1)
    await vanish(lanes, gone)
    (again,) = await reclaim(peer, 10)
    assert (again.part, again.attempt, second.part, second.attempt) == (0, 2, 1, 1)
    outcomes = await peer.settle([settlement(second), settlement(first), settlement(again)])
    assert outcomes == [SettleOutcome.RECORDED, STALE, ENDED]


async def test_a_lease_that_lapsed_goes_to_a_peer_though_its_worker_is_present(
    lanes: LaneServer,
) -> None:
    await enqueue(lanes, submission())
    slow, peer = await join(lanes, "slow"), await join(lanes, "peer", lease_ms=30)
    (first,) = await read(slow, 1)
    (second,) = await eventually(lambda: reclaim(peer, 1))
    assert (second.entry, second.attempt) == (first.entry, 2)


async def test_a_renewed_lease_does_not_lapse(lanes: LaneServer) -> None:
    await enqueue(lanes, submission())
    owner = await join(lanes, "owner")
    (delivery,) = await read(owner, 1)
    await owner.release([delivery])
    assert await owner.renew([delivery]) == set()
    peer = await join(lanes, "peer")
    assert await reclaim(peer, 1) == []
    assert (await view(lanes)).leases[delivery.entry].attempts == 1


async def test_a_released_lease_goes_to_a_peer_at_once(lanes: LaneServer) -> None:
    await enqueue(lanes, submission(), submission(lane=Lane.BULK), submission())
    owner, peer = await join(lanes, "owner"), await join(lanes, "peer")
    released, bulk = await read(owner, 1), (await read(owner, 2))[1:]
    kept = (await view(lanes)).leases.keys() - {d.entry for d in released + bulk}
    await owner.release(released + bulk)
    taken = await reclaim(peer, 10)
    assert {d.entry for d in taken} == {d.entry for d in released + bulk}
    assert [d.attempt for d in taken] == [2, 2]
    assert {e for e, lease in (await view(lanes)).leases.items() if lease.worker == "owner"} == kept


async def test_renewing_tells_which_leases_are_lost_and_keeps_the_others(
    lanes: LaneServer,
) -> None:
    several = [submission() for _ in range(3)] + [submission(lane=Lane.BULK) for _ in range(2)]
    await enqueue(lanes, *several)
    owner, peer = await join(lanes, "owner"), await join(lanes, "peer")
    deliveries = await read(owner, 5)
    taken, settled, ended = deliveries[0], deliveries[1], deliveries[3]
    await owner.release([taken])
    assert [d.entry for d in await reclaim(peer, 9)] == [taken.entry]
    await owner.settle([settlement(settled)])
    await finish(lanes, several[3].id)
    assert await owner.renew(deliveries) == {taken.lease, settled.lease, ended.lease}
    leases = (await view(lanes)).leases
    assert {entry: lease.worker for entry, lease in leases.items()} == {
        taken.entry: "peer",
        deliveries[2].entry: "owner",
        deliveries[4].entry: "owner",
    }
    assert await owner.renew([]) == set()


async def test_reclaiming_takes_no_more_than_asked(lanes: LaneServer) -> None:
    await enqueue(lanes, *(submission(lane=lane) for lane in Lane for _ in range(3)))
    gone, peer = await join(lanes, "gone"), await join(lanes, "peer")
    assert len(await read(gone, 6)) == 6
    await vanish(lanes, gone)
    sizes = [len(await reclaim(peer, 4)), len(await reclaim(peer, 4)), len(await reclaim(peer, 4))]
    assert sizes == [4, 2, 0]


async def test_leases_of_several_vanished_workers_are_found(lanes: LaneServer) -> None:
    await enqueue(lanes, *(submission() for _ in range(4)))
    gone = [await join(lanes, f"gone{number}") for number in range(4)]
    for worker in gone:
        assert len(await read(worker, 1)) == 1
        await vanish(lanes, worker)
    peer = await join(lanes, "peer")
    assert len(await reclaim(peer, 3)) == 3
    assert len(await reclaim(peer, 3)) == 1


class Hours:
    """A clock that stands still until it is told to go on."""

    def __init__(self) -> None:
        self.at_s = 1_000.0

    def __call__(self) -> float:
        return self.at_s


LEASE_MS, PRESENCE_MS = 15_000, 3_000


async def beat_for(worker: Consumer, hours: Hours, seconds: float) -> None:
    """Let so much time pass, in which the worker beats as often as it has to."""
    until = hours.at_s + seconds
    while hours.at_s < until:
        hours.at_s = min(hours.at_s + PRESENCE_MS / 3000, until)
        await worker.beat()


async def silent_leases(lanes: LaneServer) -> None:
    """One lease of a worker that is gone, and one of a worker that is there and forgot it."""
    await enqueue(lanes, submission(), submission(lane=Lane.BULK))
    gone, slow = await join(lanes, "gone"), await join(lanes, "slow")
    await read(gone, 1)
    (forgotten,) = await read(slow, 1)
    await vanish(lanes, gone)
    await slow._set_idle([forgotten], 2 * LEASE_MS)


@pytest.mark.parametrize("short_by_ms", [LEASE_MS, LEASE_MS / 2, LEASE_MS / 10, 1])
async def test_a_worker_that_has_just_connected_judges_nobody_for_a_whole_lease(
    lanes: LaneServer, short_by_ms: float
) -> None:
    """After a pause of the server everybody's presence has expired at once."""
    await silent_leases(lanes)
    hours = Hours()
    times = {"lease_ms": LEASE_MS, "presence_ms": PRESENCE_MS}
    newcomer = await join(lanes, "new", **times, steady=False, now=hours)
    await beat_for(newcomer, hours, (LEASE_MS - short_by_ms) / 1000)
    assert await reclaim(newcomer, 9) == []
    await beat_for(newcomer, hours, short_by_ms / 1000)
    assert len(await reclaim(newcomer, 9)) == 2


@pytest.mark.parametrize("short_by_ms", [LEASE_MS, LEASE_MS / 2, LEASE_MS / 10, 1])
async def test_a_worker_that_was_out_of_reach_judges_nobody_for_a_whole_lease(
    lanes: LaneServer, short_by_ms: float
) -> None:
    await silent_leases(lanes)
    hours = Hours()
    times = {"lease_ms": LEASE_MS, "presence_ms": PRESENCE_MS}
    worker = await join(lanes, "w1", **times, steady=False, now=hours)
    await beat_for(worker, hours, 10 * LEASE_MS / 1000)
    assert worker.steady
    hours.at_s += (PRESENCE_MS + 1) / 1000
    await worker.beat()
    await beat_for(worker, hours, (LEASE_MS - short_by_ms) / 1000)
    assert await reclaim(worker, 9) == []
    await beat_for(worker, hours, short_by_ms / 1000)
    assert len(await reclaim(worker, 9)) == 2


async def test_a_worker_whose_own_presence_has_lapsed_judges_nobody(lanes: LaneServer) -> None:
    """It has not beaten yet since the server was back, or asked before that and is answered now."""
    await silent_leases(lanes)
    worker = await join(lanes, "w1", lease_ms=LEASE_MS)
    await vanish(lanes, worker)
    assert worker.steady
    assert await reclaim(worker, 9) == []
    await worker.beat()
    assert len(await reclaim(worker, 9)) == 2


async def test_a_worker_that_beats_just_in_time_stays_steady(lanes: LaneServer) -> None:
    hours = Hours()
    worker = await join(lanes, "w1", presence_ms=PRESENCE_MS, now=hours)
    for _ in range(3):
        hours.at_s += PRESENCE_MS / 1000
        await worker.beat()
        assert worker.steady


async def test_even_a_newcomer_takes_over_what_was_let_go(lanes: LaneServer) -> None:
    await enqueue(lanes, submission(), submission(lane=Lane.BULK))
    owner, newcomer = await join(lanes, "owner"), await join(lanes, "new", steady=False)
    held = await read(owner, 2)
    assert await reclaim(newcomer, 2) == []
    await owner.release(held)
    assert {d.entry for d in await reclaim(newcomer, 2)} == {d.entry for d in held}


async def test_even_a_newcomer_takes_over_from_a_process_that_was_killed_on_its_machine(
    lanes: LaneServer,
) -> None:
    await enqueue(lanes, *(submission(lane=lane) for lane in Lane for _ in range(2)))
    with other_process() as (name, kill):
        killed, newcomer = await join(lanes, name), await join(lanes, "new", steady=False)
        stranger = await join(lanes, "host-1-1-0123456789ab")
        assert len(await read(killed, 2) + await read(stranger, 1)) == 3
        assert await reclaim(newcomer, 10) == []
        kill()
        taken = await eventually(lambda: reclaim(newcomer, 10))
    assert [(d.lane, d.attempt) for d in taken] == [(Lane.REALTIME, 2), (Lane.REALTIME, 2)]


async def test_leaving_removes_a_consumer_that_holds_nothing(lanes: LaneServer) -> None:
    worker = await join(lanes)
    await enqueue(lanes, submission())
    await worker.settle([settlement(delivery) for delivery in await read(worker, 1)])
    await worker.leave()
    assert await consumers(lanes) == []
    assert await lanes.redis.execute_command("ZCARD", lanes.echo.workers) == 0


async def test_leaving_keeps_what_is_still_held_for_a_peer(lanes: LaneServer) -> None:
    await enqueue(lanes, submission(), submission(lane=Lane.BULK))
    worker, peer = await join(lanes, "w1"), await join(lanes, "w2")
    assert len(await read(worker, 2)) == 2
    await worker.leave()
    assert len(await reclaim(peer, 10)) == 2


class Interloper:
    """Leases one entry for a worker just before it passes on the command of that number."""

    def __init__(self, redis: Commands, worker: Consumer, *, before: int) -> None:
        self._redis = redis
        self._worker = worker
        self._left = before

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        if self._left == 0:
            await read(self._worker, 1)
        self._left -= 1
        return await self._redis.execute_command(*args, **options)


@pytest.mark.parametrize("before", range(5))
@pytest.mark.parametrize("lane", list(Lane))
async def test_leaving_throws_away_no_lease_that_comes_at_the_last_moment(
    lanes: LaneServer, lane: Lane, before: int
) -> None:
    """A blocking read that was given up may still be answered by the server."""
    await enqueue(lanes, submission(lane=lane))
    worker, peer = await join(lanes, "w1"), await join(lanes, "w2")
    worker._redis = Interloper(lanes.redis, worker, before=before)
    await worker.leave()
    assert len(await reclaim(peer, 10) + await read(peer, 10)) == 1


async def consumers(lanes: LaneServer) -> list[str]:
    names = []
    for lane in Lane:
        for about in await lanes.redis.execute_command(
            "XINFO", "CONSUMERS", lanes.echo.lane(lane), "workers"
        ):
            told = dict(zip(about[::2], about[1::2], strict=True))
            names.append(told[b"name"].decode())
    return names
