"""Conformance of the lanes, on the fake and on the real server: onto a lane and off it again."""

import asyncio

import msgspec
import pytest

from forebay.contract.messages import decode_computation
from forebay.contract.prediction import Lane, Status
from forebay.lanes import scripts
from forebay.lanes.depth import depth
from forebay.lanes.lane import Part, Submission
from forebay.lanes.predictions import Records
from forebay.lanes.scripts import EnqueueOutcome
from tests.fixtures.lanes import (
    LONG_MS,
    enqueue,
    finish,
    hash_of,
    join,
    read,
    settlement,
    submission,
    ttl_ms,
    vanish,
    view,
)
from tests.fixtures.servers import LaneServer
from tests.fixtures.waiting import eventually

ENQUEUED, KNOWN, FULL = EnqueueOutcome.ENQUEUED, EnqueueOutcome.KNOWN, EnqueueOutcome.FULL


async def test_a_prediction_is_recorded_and_each_part_gets_an_entry(lanes: LaneServer) -> None:
    one = submission(2, 3, lane=Lane.BULK, input=b'{"text": "a"}')
    assert await enqueue(lanes, one) == [ENQUEUED]
    seen = await view(lanes)
    assert list(seen.entries[Lane.BULK].values()) == [(one.id.text, 0), (one.id.text, 1)]
    assert seen.entries[Lane.REALTIME] == {}
    assert seen.demand == {Lane.REALTIME: 0, Lane.BULK: 5}
    assert seen.deadlines == {one.id.text}
    record = await Records(lanes.redis, lanes.keys).record(one.id)
    assert record is not None
    assert (record.status, record.lane, record.parts) == (Status.STARTING, Lane.BULK, 2)
    assert record.deadline_at_ms - record.created_at_ms == LONG_MS
    assert [entry.encode() for entry in record.entries] == list(seen.entries[Lane.BULK])
    assert (record.replies, record.completed_at_ms, record.input) == ((), None, b'{"text": "a"}')


async def test_a_record_lives_for_ever_until_its_prediction_has_ended(lanes: LaneServer) -> None:
    one = submission(retain_ms=50_000)
    await enqueue(lanes, one)
    assert await ttl_ms(lanes.redis, lanes.echo.record(one.id.text)) == -1
    await finish(lanes, one.id)
    assert 40_000 < await ttl_ms(lanes.redis, lanes.echo.record(one.id.text)) <= 50_000


async def test_who_enqueues_it_again_is_told_as_well(lanes: LaneServer) -> None:
    one = submission(reply_channel="first")
    again = msgspec.structs.replace(one, reply_channel="second")
    key = lanes.echo.record(one.id.text)
    await enqueue(lanes, one)
    assert await enqueue(lanes, again) == [KNOWN]
    assert (await hash_of(lanes.redis, key))["rp"] == b"first second"
    # A lane that has become full since makes no difference, nor does one that wants no word.
    assert await enqueue(lanes, one, bounds=(0, 0)) == [KNOWN]
    assert await enqueue(lanes, msgspec.structs.replace(one, reply_channel="")) == [KNOWN]
    assert (await hash_of(lanes.redis, key))["rp"] == b"second first"
    await finish(lanes, one.id)
    assert await enqueue(lanes, again) == [KNOWN]
    assert (await hash_of(lanes.redis, key))["rp"] == b"second first"


async def test_enqueueing_again_changes_nothing(lanes: LaneServer) -> None:
    one, other = submission(2), submission(1)
    assert await enqueue(lanes, one) == [ENQUEUED]
    before = await view(lanes, [one.id.text])
    assert await enqueue(lanes, one) == [KNOWN]
    assert await view(lanes, [one.id.text]) == before
    assert await enqueue(lanes, one, other, other) == [KNOWN, ENQUEUED, KNOWN]
    assert (await view(lanes)).queued == 2


async def test_a_prediction_that_has_ended_is_known_too(lanes: LaneServer) -> None:
    one = submission()
    await enqueue(lanes, one)
    await finish(lanes, one.id)
    assert await enqueue(lanes, one) == [KNOWN]
    assert (await view(lanes)).queued == 0


@pytest.mark.parametrize("lane", list(Lane))
async def test_a_full_lane_refuses_whole_predictions_and_keeps_nothing_of_them(
    lanes: LaneServer, lane: Lane
) -> None:
    bounds = (10, 1_000) if lane is Lane.REALTIME else (1_000, 10)
    first = submission(4, 4, lane=lane)
    too_big = submission(1, 2, lane=lane)
    fits = submission(2, lane=lane)
    too_late = submission(1, lane=lane)
    outcomes = await enqueue(lanes, first, too_big, fits, too_late, bounds=bounds)
    assert outcomes == [ENQUEUED, FULL, ENQUEUED, FULL]
    seen = await view(lanes, [too_big.id.text, too_late.id.text])
    assert seen.demand[lane] == 10
    assert {id_ for id_, _ in seen.entries[lane].values()} == {first.id.text, fits.id.text}
    assert seen.deadlines == {first.id.text, fits.id.text}
    assert seen.records == {too_big.id.text: {}, too_late.id.text: {}}
    # Known predictions are told so even when there is no room for more.
    assert await enqueue(lanes, first, too_big, bounds=bounds) == [KNOWN, FULL]


async def test_one_lane_being_full_does_not_close_the_other(lanes: LaneServer) -> None:
    bounds = (1, 1)
    assert await enqueue(
        lanes,
        submission(lane=Lane.BULK),
        submission(lane=Lane.BULK),
        submission(lane=Lane.REALTIME),
        bounds=bounds,
    ) == [ENQUEUED, FULL, ENQUEUED]


async def test_a_full_lane_has_room_again_once_something_ends(lanes: LaneServer) -> None:
    one, two = submission(), submission()
    assert await enqueue(lanes, one, two, bounds=(1, 1)) == [ENQUEUED, FULL]
    await finish(lanes, one.id)
    assert await enqueue(lanes, two, bounds=(1, 1)) == [ENQUEUED]


async def test_leased_rows_still_count_against_the_bound(lanes: LaneServer) -> None:
    await enqueue(lanes, submission())
    worker = await join(lanes)
    assert len(await read(worker, 10)) == 1
    assert await enqueue(lanes, submission(), bounds=(1, 1)) == [FULL]


async def test_realtime_is_read_before_bulk_and_each_in_its_order(lanes: LaneServer) -> None:
    bulk = [submission(lane=Lane.BULK) for _ in range(3)]
    realtime = [submission() for _ in range(3)]
    await enqueue(lanes, *bulk, *realtime)
    worker = await join(lanes)
    order = [(one.id.text, Lane.REALTIME) for one in realtime]
    order += [(one.id.text, Lane.BULK) for one in bulk]
    first, rest = await read(worker, 4), await read(worker, 4)
    assert [(d.prediction, d.lane) for d in first] == order[:4]
    assert [(d.prediction, d.lane) for d in rest] == order[4:]
    assert await read(worker, 4) == []


async def test_a_delivery_holds_what_was_enqueued_and_is_the_first_attempt(
    lanes: LaneServer,
) -> None:
    one = submission(2, 3)
    await enqueue(lanes, one)
    worker = await join(lanes)
    deliveries = await read(worker, 10)
    assert [(d.prediction, d.part, d.attempt) for d in deliveries] == [
        (one.id.text, 0, 1),
        (one.id.text, 1, 1),
    ]
    assert [d.computation for d in deliveries] == [
        decode_computation(part.message) for part in one.parts
    ]
    leases = (await view(lanes)).leases
    assert {entry: lease.worker for entry, lease in leases.items()} == {
        d.entry: "w1" for d in deliveries
    }


async def test_two_workers_never_get_the_same_entry(lanes: LaneServer) -> None:
    await enqueue(lanes, *(submission() for _ in range(6)))
    first, second = await join(lanes, "w1"), await join(lanes, "w2")
    taken = [await read(first, 2), await read(second, 3), await read(first, 9)]
    assert [len(deliveries) for deliveries in taken] == [2, 3, 1]
    assert len({d.entry for deliveries in taken for d in deliveries}) == 6


async def test_what_came_before_any_worker_is_read_by_the_first(lanes: LaneServer) -> None:
    await enqueue(lanes, submission(), submission(lane=Lane.BULK))
    worker = await join(lanes)
    await worker.join()
    assert len(await read(worker, 10)) == 2


@pytest.mark.parametrize("lane", list(Lane))
async def test_waiting_gives_what_is_there_on_that_lane(lanes: LaneServer, lane: Lane) -> None:
    several = [submission(lane=lane) for _ in range(3)]
    await enqueue(lanes, *several, submission(lane=next(o for o in Lane if o is not lane)))
    worker = await join(lanes)
    first = await worker.wait(lane, most=2, block_ms=1_000)
    rest = await worker.wait(lane, most=2, block_ms=1_000)
    assert [(d.prediction, d.lane) for d in first + rest] == [(o.id.text, lane) for o in several]
    assert await worker.wait(lane, most=2, block_ms=1) == []


@pytest.mark.parametrize(("rows", "room", "entries"), [(1, 64, 64), (4, 64, 16), (256, 64, 1)])
async def test_reading_takes_about_as_many_rows_as_there_is_room_for(
    lanes: LaneServer, rows: int, room: int, entries: int
) -> None:
    await enqueue(lanes, *(submission(rows) for _ in range(70)), bounds=(100_000, 0))
    worker = await join(lanes)
    assert len(await worker.read(Lane.REALTIME, rows=room)) == entries
    await vanish(lanes, worker)
    peer = await join(lanes, "peer")
    assert len(await peer.reclaim(Lane.REALTIME, rows=room)) == entries


async def test_bytes_of_another_release_are_delivered_without_a_computation(
    lanes: LaneServer,
) -> None:
    parts = (Part(2, b"\x81\xa1v\x02"), Part(1, b"\x81\xa1p\xa1\xff"))
    strange = msgspec.structs.replace(submission(), parts=parts)
    await enqueue(lanes, strange)
    worker = await join(lanes)
    assert [(d.part, d.computation) for d in await read(worker, 10)] == [(0, None), (1, None)]


async def test_depth_tells_rows_by_lane_and_workers_present(lanes: LaneServer) -> None:
    await enqueue(lanes, submission(2, 3), submission(7, lane=Lane.BULK))
    await join(lanes, "w1")
    gone = await join(lanes, "w2", presence_ms=1)
    now_ms = gone._clock.now_ms()
    told = await depth(lanes.redis, lanes.echo, now_ms=now_ms + 1_000)
    assert (told.realtime, told.bulk, told.replicas) == (5, 7, 1)


async def test_a_prediction_is_processing_while_a_worker_has_it(lanes: LaneServer) -> None:
    one = submission(1, 1, input=b'{"text": "a"}')
    records = Records(lanes.redis, lanes.keys)
    assert await records.prediction(one.id) is None
    await enqueue(lanes, one)
    before = await records.prediction(one.id)
    assert before is not None
    assert (before.status, before.input) == (Status.STARTING, {"text": "a"})
    worker = await join(lanes)
    await read(worker, 1)
    during = await records.prediction(one.id)
    assert during is not None
    assert during.status is Status.PROCESSING


async def test_a_worker_that_waits_is_woken_by_an_enqueue(real_lanes: LaneServer) -> None:
    """On the real server only: the fake never blocks."""
    worker = await join(real_lanes)
    waiting = asyncio.create_task(worker.wait(Lane.REALTIME, most=10, block_ms=8_000))

    async def blocked() -> bool:
        told = await real_lanes.redis.execute_command("INFO", "clients")
        return b"blocked_clients:1" in told

    await eventually(blocked)
    one = submission()
    await enqueue(real_lanes, one)
    assert [d.prediction for d in await waiting] == [one.id.text]


async def told(
    lanes: LaneServer, one: Submission, *, most: int, elastic: bool = False
) -> scripts.Enqueued:
    """What becomes of a submission, and when there is room if there is none."""
    (enqueued,) = await scripts.enqueue(
        lanes.redis,
        lanes.echo,
        records=[lanes.echo.record(one.id.text)],
        bounds=(most, most),
        elastic=elastic,
        args=one.args(),
    )
    return enqueued


async def test_a_full_lane_says_when_it_has_room_if_its_workers_are_known(
    lanes: LaneServer,
) -> None:
    await told(lanes, submission(80), most=100)
    await told(lanes, submission(50, lane=Lane.BULK), most=100)
    assert await told(lanes, submission(40), most=100) == (FULL, None)
    fast, slow = await join(lanes, "fast"), await join(lanes, "slow")
    await fast.beat(rate=30)
    await slow.beat(rate=10)
    assert await told(lanes, submission(40), most=100) == (FULL, 500)
    # What is in bulk comes after what is in realtime.
    assert await told(lanes, submission(60, lane=Lane.BULK), most=100) == (FULL, 2_250)
    await slow.leave()
    await fast.beat(rate=30)
    assert await told(lanes, submission(40), most=100) == (FULL, 667)


async def test_an_elastic_lane_takes_what_is_worked_off_before_the_deadline(
    lanes: LaneServer,
) -> None:
    worker = await join(lanes)
    assert await told(lanes, submission(101), most=100, elastic=True) == (FULL, None)
    await worker.beat(rate=50)
    assert await told(lanes, submission(150, deadline_ms=4_000), most=100, elastic=True) == (
        ENQUEUED,
        None,
    )
    assert await told(lanes, submission(51, deadline_ms=4_000), most=100, elastic=True) == (
        FULL,
        20,
    )
    assert (await told(lanes, submission(51, deadline_ms=5_000), most=100, elastic=True))[0] is (
        ENQUEUED
    )
    bulk = submission(101, lane=Lane.BULK, deadline_ms=60_000)
    assert (await told(lanes, bulk, most=100, elastic=True))[0] is FULL


async def test_a_prediction_that_waits_knows_its_place(lanes: LaneServer) -> None:
    records = Records(lanes.redis, lanes.keys)
    several = [submission(2, 3), submission(4), submission(1), submission(7, lane=Lane.BULK)]
    await enqueue(lanes, *several[:2])
    await enqueue(lanes, *several[2:])

    async def place(number: int) -> tuple[int, float | None] | None:
        prediction = await records.prediction(several[number].id)
        assert prediction is not None
        found = prediction.place
        return None if found is None else (found.rows_ahead, found.wait_s)

    assert [await place(n) for n in range(4)] == [(0, None), (5, None), (9, None), (10, None)]
    worker = await join(lanes)
    await worker.beat(rate=5)
    assert await place(3) == (10, 2.0)
    first = await read(worker, 2)
    assert [await place(n) for n in range(4)] == [None, (5, 1.0), (9, 1.8), (10, 2.0)]
    await worker.settle([settlement(delivery) for delivery in first])
    assert [await place(n) for n in range(4)] == [None, (0, 0.0), (4, 0.8), (5, 1.0)]
    await finish(lanes, several[1].id)
    assert await place(2) == (0, 0.0)
