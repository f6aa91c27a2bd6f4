"""Conformance of the lanes, on the fake and on the real server: whose turn it is."""

from collections import Counter
from collections.abc import Sequence

import msgspec
import pytest

from forebay.contract.prediction import Lane, Status
from forebay.lanes import endings, sweeps
from forebay.lanes.consumer import Consumer, Delivery
from forebay.lanes.dead import DeadLetters
from forebay.lanes.depth import depth
from forebay.lanes.lane import Submission, caller_of
from forebay.lanes.scripts import EnqueueOutcome, FinishOutcome, SettleOutcome
from tests.fixtures.gateway_end import echo_spec
from tests.fixtures.lanes import (
    LONG_MS,
    enqueue,
    finish,
    hash_of,
    join,
    read,
    reclaim,
    settlement,
    submission,
    vanish,
    view,
)
from tests.fixtures.servers import LaneServer
from tests.fixtures.waiting import PATIENCE_S, eventually

READY = 16
"""Rows that are ready for one worker, in these tests."""

NOISY, QUIET = caller_of(b"Bearer noisy"), caller_of(b"Bearer quiet")

A_TURN = 32
"""Rows of a turn, of the smallest: a quantum over what a row costs beyond its bytes."""


async def one_worker(server: LaneServer, name: str = "w1", *, ahead: bool = True) -> Consumer:
    """A worker that has few rows ready. Where it knows of nobody that goes ahead, nobody does."""
    consumer = await join(server, name)
    if not ahead:
        for lane in Lane:
            await server.redis.execute_command("DEL", server.echo.ahead(lane))
    consumer.limits = msgspec.structs.replace(consumer.limits, ready_rows=READY)
    await consumer.beat()
    return consumer


async def enqueue_many(
    server: LaneServer, count: int, caller: str, *, lane: Lane = Lane.BULK, size: int = 0
) -> list[Submission]:
    """Predictions of one row, in calls of many."""
    made = [submission(lane=lane, caller=caller, size=size) for _ in range(count)]
    for first in range(0, count, 250):
        some = made[first : first + 250]
        told = await enqueue(server, *some, bounds=(1_000_000, 1_000_000))
        assert set(told) == {EnqueueOutcome.ENQUEUED}
    return made


async def waiting(server: LaneServer, lane: Lane = Lane.BULK) -> int:
    """Rows that wait on callers' lists, as they are counted."""
    return int((await hash_of(server.redis, server.echo.demand)).get(f"{lane.value}_waiting", 0))


async def work_off(worker: Consumer, lane: Lane, *, rows: int = 8) -> list[Delivery]:
    """Run all there is; returns it in the order in which it was leased."""
    order: list[Delivery] = []
    while some := await worker.read(lane, rows=rows):
        order += some
        assert set(await worker.settle([settlement(one) for one in some])) == {SettleOutcome.ENDED}
    return order


async def work_off_parts(worker: Consumer) -> list[Delivery]:
    """Likewise of bulk, where parts end no prediction but with the last."""
    order: list[Delivery] = []
    while some := await worker.read(Lane.BULK, rows=8):
        order += some
        await worker.settle([settlement(one) for one in some])
    return order


async def assert_empty(server: LaneServer) -> None:
    """Nothing is left of anybody, counted or not."""
    told = await depth(server.redis, server.echo, now_ms=0)
    assert (told.realtime, told.bulk) == (0, 0)
    for lane in Lane:
        assert await waiting(server, lane) == 0
        beside = [server.echo.turns(lane), server.echo.deficits(lane)]
        beside += [server.echo.waiting(lane, caller) for caller in ("", NOISY, QUIET)]
        assert [key for key in beside if await server.redis.execute_command("EXISTS", key)] == []
    seen = await view(server)
    assert (seen.queued, seen.leases, seen.deadlines) == (0, {}, set())


def by_caller(order: Sequence[Delivery], quiet: Sequence[Submission]) -> list[str]:
    """Whose each delivery is."""
    theirs = {one.id.text for one in quiet}
    return ["quiet" if one.prediction in theirs else "noisy" for one in order]


@pytest.mark.parametrize("lane", list(Lane))
async def test_a_caller_waits_for_what_is_ready_and_one_turn_of_a_noisy_one(
    lanes: LaneServer, lane: Lane
) -> None:
    """One that asks for more at once than may go ahead."""
    worker = await one_worker(lanes)
    await enqueue_many(lanes, 1_000, NOISY, lane=lane)
    quiet = await enqueue_many(lanes, 2 * READY, QUIET, lane=lane)
    assert len((await view(lanes)).entries[lane]) == 2 * READY
    assert await waiting(lanes, lane) == 1_000
    order = by_caller(await work_off(worker, lane), quiet)
    assert Counter(order) == {"noisy": 1_000, "quiet": 2 * READY}
    assert order[:READY] == ["quiet"] * READY
    last = len(order) - order[::-1].index("quiet")
    assert last - 2 * READY <= READY + A_TURN
    await assert_empty(lanes)


@pytest.mark.parametrize("lane", list(Lane))
async def test_who_asks_for_little_goes_ahead_even_of_what_is_ready(
    lanes: LaneServer, lane: Lane
) -> None:
    worker = await one_worker(lanes)
    await enqueue_many(lanes, 2 * READY, NOISY, lane=lane)
    (quiet,) = await enqueue_many(lanes, 1, QUIET, lane=lane)
    assert [one.prediction for one in await worker.read(lane, rows=0)] == [quiet.id.text]
    assert await worker.read(lane, rows=0) == []
    assert await worker.read(lane, rows=1) != []
    (again,) = await enqueue_many(lanes, 1, QUIET, lane=lane)
    first, *_ = await worker.read(lane, rows=1)
    assert first.prediction == again.id.text


async def test_who_has_something_waiting_does_not_go_ahead_of_it(lanes: LaneServer) -> None:
    worker = await one_worker(lanes)
    await enqueue_many(lanes, READY + 1, NOISY)
    # A prediction whose second part costs too much for one turn.
    large = submission(1, 40, lane=Lane.BULK, caller=QUIET)
    small = submission(lane=Lane.BULK, caller=QUIET)
    await enqueue(lanes, large, small)
    order = [(one.prediction, one.part) for one in await work_off_parts(worker)]
    theirs = [one for one in order if one[0] in (large.id.text, small.id.text)]
    assert theirs == [(large.id.text, 0), (large.id.text, 1), (small.id.text, 0)]
    assert theirs[0] == order[0]
    await assert_empty(lanes)


async def test_nobody_goes_ahead_with_more_than_a_turn_in_a_while(lanes: LaneServer) -> None:
    worker = await one_worker(lanes)
    await enqueue_many(lanes, 2 * READY, NOISY)
    # Two of these cost nearly a quantum.
    await enqueue_many(lanes, 10, QUIET, size=7_000)
    assert len(await worker.read(Lane.BULK, rows=0)) == 2
    await enqueue_many(lanes, 1, QUIET)
    assert await worker.read(Lane.BULK, rows=0) == []
    spent = f"{lanes.echo.spent(Lane.BULK)}*"

    async def forgotten() -> bool:
        return not await lanes.redis.execute_command("KEYS", spent)

    await eventually(forgotten, what="what was spent is forgotten")


async def test_what_went_ahead_is_leased_lost_and_taken_over_like_anything(
    lanes: LaneServer,
) -> None:
    lost, peer = await one_worker(lanes, "lost"), await one_worker(lanes, "peer")
    await enqueue_many(lanes, 3 * READY, NOISY)
    (quiet,) = await enqueue_many(lanes, 1, QUIET)
    (held,) = await lost.read(Lane.BULK, rows=0)
    assert await lost.renew([held]) == set()
    await vanish(lanes, lost)
    (taken,) = await reclaim(peer, 1)
    assert (taken.prediction, taken.attempt) == (quiet.id.text, 2)
    assert await lost.renew([held]) == {held.lease}
    assert await lost.settle([settlement(held)]) == [SettleOutcome.STALE]
    assert await peer.settle([settlement(taken)]) == [SettleOutcome.ENDED]
    await work_off(peer, Lane.BULK)
    await assert_empty(lanes)


@pytest.mark.parametrize("leased", [False, True])
async def test_what_went_ahead_can_be_canceled(lanes: LaneServer, leased: bool) -> None:
    worker = await one_worker(lanes)
    await enqueue_many(lanes, 2 * READY, NOISY)
    (quiet,) = await enqueue_many(lanes, 1, QUIET)
    held = await worker.read(Lane.BULK, rows=0) if leased else []
    assert await finish(lanes, quiet.id) is FinishOutcome.ENDED
    assert await worker.read(Lane.BULK, rows=0) == []
    assert await worker.settle([settlement(one) for one in held]) == [SettleOutcome.LATE] * len(
        held
    )
    await work_off(worker, Lane.BULK)
    await assert_empty(lanes)


async def test_what_went_ahead_in_bulk_moves_to_realtime_for_who_waits(lanes: LaneServer) -> None:
    worker = await one_worker(lanes)
    await enqueue_many(lanes, 2 * READY, NOISY)
    leader = submission(1, 2, lane=Lane.BULK, caller=QUIET, identity=b"same")
    await enqueue(lanes, leader)
    follower = submission(1, 2, caller=QUIET, identity=b"same")
    assert await enqueue(lanes, follower) == [EnqueueOutcome.JOINED]
    assert await worker.read(Lane.BULK, rows=0) == []
    assert {one.prediction for one in await read(worker, 2)} == {leader.id.text}


async def test_where_no_worker_would_read_it_nothing_goes_ahead(lanes: LaneServer) -> None:
    """As where all workers are of a release that knows of no such stream."""
    worker = await one_worker(lanes, ahead=False)
    await enqueue_many(lanes, 2 * READY, NOISY)
    await enqueue_many(lanes, 1, QUIET)
    assert await waiting(lanes) == READY + 1
    await worker.join()
    await enqueue_many(lanes, 1, caller_of(b"Bearer other"))
    assert await waiting(lanes) == READY + 1


async def test_workers_are_told_who_went_ahead(lanes: LaneServer) -> None:
    await one_worker(lanes)
    await enqueue_many(lanes, 2 * READY, NOISY)
    async with lanes.client(blocking=True).pubsub() as pubsub:
        await pubsub.subscribe(lanes.echo.endings)
        await pubsub.get_message(timeout=PATIENCE_S)
        await enqueue_many(lanes, 1, QUIET)
        message = await pubsub.get_message(timeout=PATIENCE_S)
    assert message is not None
    assert endings.read(message["data"]) == (set(), {Lane.BULK})


async def test_what_costs_more_gets_fewer_turns(lanes: LaneServer) -> None:
    worker = await one_worker(lanes)
    await enqueue_many(lanes, READY, "")
    await enqueue_many(lanes, 200, NOISY, size=7_000)
    quiet = await enqueue_many(lanes, 600, QUIET)
    order = by_caller(await work_off(worker, Lane.BULK), quiet)[READY:]
    before = Counter(order[: len(order) - order[::-1].index("quiet")])
    # A row of 7,000 bytes costs some 13 of the shortest.
    assert 600 / 16 <= before["noisy"] <= 600 / 10
    await assert_empty(lanes)


async def test_callers_of_equal_cost_share_equally(lanes: LaneServer) -> None:
    worker = await one_worker(lanes, ahead=False)
    await enqueue_many(lanes, 400, NOISY)
    quiet = await enqueue_many(lanes, 200, QUIET)
    order = by_caller(await work_off(worker, Lane.BULK, rows=1), quiet)[READY:]
    for end in range(2 * A_TURN, 400, A_TURN):
        told = Counter(order[:end])
        assert abs(told["quiet"] - told["noisy"]) <= A_TURN
    await assert_empty(lanes)


async def test_each_caller_keeps_the_order_of_its_own(lanes: LaneServer) -> None:
    worker = await one_worker(lanes)
    noisy = await enqueue_many(lanes, 100, NOISY)
    quiet = await enqueue_many(lanes, 50, QUIET)
    order = [one.prediction for one in await work_off(worker, Lane.BULK)]
    for theirs in (noisy, quiet):
        ids = [one.id.text for one in theirs]
        assert [id_ for id_ in order if id_ in set(ids)] == ids


async def test_the_parts_of_one_prediction_wait_too_and_all_come(lanes: LaneServer) -> None:
    worker = await one_worker(lanes)
    one = submission(*[4] * 20, lane=Lane.BULK, caller=NOISY)
    await enqueue(lanes, one)
    assert await waiting(lanes) == 80 - READY
    seen = (await view(lanes, [one.id.text])).records[one.id.text]
    assert [pair.split(b":")[1] for pair in seen["en"].split()] == [b"4"] * 20
    assert [delivery.part for delivery in await work_off_parts(worker)] == list(range(20))
    assert (await view(lanes)).counters == {"succeeded": 1}
    await assert_empty(lanes)


@pytest.mark.parametrize("status", [Status.CANCELED, Status.EXPIRED])
async def test_what_waits_can_be_ended(lanes: LaneServer, status: Status) -> None:
    worker = await one_worker(lanes, ahead=False)
    await enqueue_many(lanes, READY, NOISY)
    ended = submission(1, 2, lane=Lane.BULK, caller=QUIET)
    (kept,) = await enqueue_many(lanes, 1, NOISY)
    await enqueue(lanes, ended)
    assert await waiting(lanes) == 4
    assert await finish(lanes, ended.id, status) is FinishOutcome.ENDED
    assert await finish(lanes, ended.id, status) is FinishOutcome.LATE
    assert await waiting(lanes) == 1
    order = [one.prediction for one in await work_off(worker, Lane.BULK)]
    assert kept.id.text in order
    assert ended.id.text not in order
    await assert_empty(lanes)


async def test_what_waits_expires_without_a_worker(lanes: LaneServer) -> None:
    worker = await one_worker(lanes)
    await enqueue_many(lanes, READY, NOISY)
    overdue = submission(3, lane=Lane.BULK, caller=QUIET, deadline_ms=-1)
    await enqueue(lanes, overdue)
    assert await sweeps.expire_overdue(lanes.redis, lanes.echo) == 1
    assert await waiting(lanes) == 0
    await work_off(worker, Lane.BULK)
    await assert_empty(lanes)


async def test_where_all_that_is_ready_is_canceled_what_waits_comes_forward(
    lanes: LaneServer,
) -> None:
    await one_worker(lanes)
    ready = await enqueue_many(lanes, READY, NOISY)
    await enqueue_many(lanes, 5, NOISY)
    quiet = await enqueue_many(lanes, 5, QUIET)
    for one in ready:
        await finish(lanes, one.id)
    seen = await view(lanes)
    assert {one.id.text for one in quiet} <= {id_ for id_, _ in seen.entries[Lane.BULK].values()}
    assert await waiting(lanes) == 0


async def test_where_a_part_fails_the_parts_that_wait_go(lanes: LaneServer) -> None:
    worker = await one_worker(lanes)
    one = submission(*[READY] * 4, lane=Lane.BULK, caller=NOISY)
    await enqueue(lanes, one)
    (first,) = await read(worker, 1)
    assert await waiting(lanes) > 0
    assert await worker.settle([settlement(first, Status.FAILED)]) == [SettleOutcome.ENDED]
    await assert_empty(lanes)


async def test_a_dead_letter_has_the_parts_that_waited(lanes: LaneServer) -> None:
    worker = await one_worker(lanes)
    one = submission(*[READY] * 4, lane=Lane.BULK, caller=NOISY)
    await enqueue(lanes, one)
    (first,) = await read(worker, 1)
    assert await waiting(lanes) > 0
    await worker.settle([settlement(first, Status.FAILED, dead="It broke.")])
    letters = DeadLetters(lanes.redis, lanes.keys)
    found = await letters.of_prediction(one.id)
    assert (await letters.open(one.id, found[0])).parts == one.parts
    new = await letters.replay(one.id, found, echo_spec(), retain_ms=LONG_MS)
    order = await work_off_parts(worker)
    assert [(part.prediction, part.part) for part in order] == [(new.text, n) for n in range(4)]
    await assert_empty(lanes)


async def test_what_waits_in_bulk_moves_to_realtime_for_who_waits(lanes: LaneServer) -> None:
    worker = await one_worker(lanes)
    await enqueue_many(lanes, READY, NOISY)
    leader = submission(1, 2, lane=Lane.BULK, caller=NOISY, identity=b"same")
    await enqueue(lanes, leader)
    assert await waiting(lanes) == 3
    follower = submission(1, 2, caller=QUIET, identity=b"same")
    assert await enqueue(lanes, follower) == [EnqueueOutcome.JOINED]
    assert (await waiting(lanes), await waiting(lanes, Lane.REALTIME)) == (0, 0)
    assert {one.prediction for one in await read(worker, 2)} == {leader.id.text}


async def test_what_moves_to_a_full_realtime_lane_waits_there(lanes: LaneServer) -> None:
    worker = await one_worker(lanes)
    for lane in Lane:
        await enqueue_many(lanes, READY, NOISY, lane=lane)
    leader = submission(lane=Lane.BULK, caller=NOISY, identity=b"same")
    await enqueue(lanes, leader)
    follower = submission(caller=QUIET, identity=b"same")
    assert await enqueue(lanes, follower) == [EnqueueOutcome.JOINED]
    assert (await waiting(lanes), await waiting(lanes, Lane.REALTIME)) == (0, 1)
    await finish(lanes, follower.id)
    for lane in Lane:
        await work_off(worker, lane)
    records = (await view(lanes, [leader.id.text])).records
    assert records[leader.id.text]["st"] == b"succeeded"
    await assert_empty(lanes)


async def test_others_wait_while_a_worker_is_lost_and_all_of_it_ends(lanes: LaneServer) -> None:
    lost, peer = await one_worker(lanes, "lost"), await one_worker(lanes, "peer")
    await enqueue_many(lanes, 100, NOISY)
    held = await lost.read(Lane.BULK, rows=3 * READY)
    assert len(held) >= 2 * READY
    quiet = await enqueue_many(lanes, 10, QUIET)
    await vanish(lanes, lost)
    theirs = await work_off(peer, Lane.BULK)
    assert {one.id.text for one in quiet} <= {one.prediction for one in theirs}
    while some := await peer.reclaim(Lane.BULK, rows=READY):
        await peer.settle([settlement(one) for one in some])
    assert (await view(lanes)).counters == {"succeeded": 110}
    await assert_empty(lanes)


async def test_a_worker_that_settles_brings_forward_what_others_may_wait_for(
    lanes: LaneServer,
) -> None:
    """Another worker may block on an empty lane, and then reads nothing that could bring it."""
    worker = await one_worker(lanes)
    await enqueue_many(lanes, 3 * READY, NOISY)
    held = await worker.wait(Lane.BULK, most=READY, block_ms=1)
    assert len(held) == READY
    await worker.settle([settlement(one) for one in held])
    assert len((await view(lanes)).entries[Lane.BULK]) == READY


async def test_an_enqueue_brings_forward_what_an_older_worker_has_left(lanes: LaneServer) -> None:
    worker = await one_worker(lanes, ahead=False)
    await enqueue_many(lanes, 3 * READY, NOISY)
    held = await worker.wait(Lane.BULK, most=READY, block_ms=1)
    # As a settle of an older release: nothing comes forward.
    keys = lanes.echo.lane(Lane.BULK)
    await lanes.redis.execute_command("XACK", keys, "workers", *[one.entry for one in held])
    await lanes.redis.execute_command("XDEL", keys, *[one.entry for one in held])
    await lanes.redis.execute_command("HINCRBY", lanes.echo.demand, "bulk", -READY)
    await enqueue_many(lanes, 1, QUIET)
    assert len((await view(lanes)).entries[Lane.BULK]) == READY


async def test_lists_that_somebody_has_deleted_hold_nobody_up(lanes: LaneServer) -> None:
    worker = await one_worker(lanes)
    await enqueue_many(lanes, 2 * READY, NOISY)
    own = lanes.echo.waiting(Lane.BULK, NOISY)
    for key in (lanes.echo.turns(Lane.BULK), lanes.echo.deficits(Lane.BULK), own):
        await lanes.redis.execute_command("DEL", key)
    await work_off(worker, Lane.BULK)
    assert await waiting(lanes) == 0
    (one,) = await enqueue_many(lanes, 1, QUIET)
    assert [delivery.prediction for delivery in await read(worker, 1)] == [one.id.text]


async def test_where_there_is_room_nothing_is_written_beside_the_lane(lanes: LaneServer) -> None:
    await one_worker(lanes)
    await enqueue_many(lanes, READY, NOISY)
    seen = await hash_of(lanes.redis, lanes.echo.demand)
    assert "bulk_waiting" not in seen
    await enqueue_many(lanes, 1, NOISY)
    assert await waiting(lanes) == 1
