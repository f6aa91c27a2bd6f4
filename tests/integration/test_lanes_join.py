"""Conformance of the lanes, on the fake and on the real server: who asks for what is under way."""

from typing import Any

import msgspec
import pytest

from forebay.contract.errors import NotFound
from forebay.contract.messages import decode_replies, encode_outputs
from forebay.contract.prediction import Lane, Status
from forebay.contract.rows import Value
from forebay.lanes import scripts, sweeps
from forebay.lanes.dead import DeadLetters
from forebay.lanes.lane import Submission
from forebay.lanes.predictions import Record, Records
from forebay.lanes.scripts import EnqueueOutcome, FinishOutcome, SettleOutcome
from tests.fixtures.lanes import (
    enqueue,
    finish,
    hash_of,
    join,
    read,
    reply_to,
    settlement,
    submission,
    ttl_ms,
    view,
)
from tests.fixtures.servers import LaneServer
from tests.fixtures.waiting import PATIENCE_S

ENQUEUED, JOINED, FULL = EnqueueOutcome.ENQUEUED, EnqueueOutcome.JOINED, EnqueueOutcome.FULL
SAME = b"the same"


def same(*rows: int, **fields: Any) -> Submission:
    return submission(*rows, identity=SAME, **fields)


async def record_of(lanes: LaneServer, one: Submission) -> Record:
    found = await Records(lanes.redis, lanes.keys).record(one.id)
    assert found is not None
    return found


async def status_of(lanes: LaneServer, one: Submission) -> Status:
    return (await record_of(lanes, one)).status


async def nothing_is_left(lanes: LaneServer) -> None:
    seen = await view(lanes)
    assert (seen.queued, seen.leases, seen.deadlines) == (0, {}, set())
    assert set(seen.demand.values()) == {0}
    assert await hash_of(lanes.redis, lanes.echo.leaders) == {}
    assert await lanes.redis.execute_command("KEYS", lanes.echo.joined + "*") == []


async def test_the_same_is_run_once_and_both_have_the_result(lanes: LaneServer) -> None:
    first, second = same(2), same(2, retain_ms=60_000)
    assert await enqueue(lanes, first) == [ENQUEUED]
    assert await enqueue(lanes, second) == [JOINED]
    seen = await view(lanes)
    assert (seen.queued, seen.demand[Lane.REALTIME]) == (1, 2)
    assert seen.deadlines == {first.id.text, second.id.text}
    worker = await join(lanes)
    (delivery,) = await read(worker, 10)
    assert await worker.settle([settlement(delivery)]) == [SettleOutcome.ENDED]
    one, other = await record_of(lanes, first), await record_of(lanes, second)
    assert one.status is other.status is Status.SUCCEEDED
    assert one.replies == other.replies == (reply_to(delivery),)
    assert other.leader == first.id.text
    assert (await view(lanes)).counters == {"joined": 1, "succeeded": 2}
    await nothing_is_left(lanes)


async def test_joining_again_changes_nothing(lanes: LaneServer) -> None:
    first, second = same(), same()
    assert await enqueue(lanes, first, second, second) == [ENQUEUED, JOINED, EnqueueOutcome.KNOWN]
    assert await enqueue(lanes, second, first) == [EnqueueOutcome.KNOWN] * 2
    assert (await view(lanes)).counters == {"joined": 1}


async def test_only_the_very_same_joins_and_only_while_it_is_under_way(lanes: LaneServer) -> None:
    first, other, unmarked = same(), submission(identity=b"other"), submission()
    assert await enqueue(lanes, first, other, unmarked) == [ENQUEUED] * 3
    worker = await join(lanes)
    await worker.settle([settlement(delivery) for delivery in await read(worker, 10)])
    later = same()
    assert await enqueue(lanes, later) == [ENQUEUED]
    await finish(lanes, later.id)
    await nothing_is_left(lanes)


async def test_each_gateway_is_told_of_its_own(lanes: LaneServer) -> None:
    channels = [lanes.keys.reply_channel(name) for name in ("g1", "g2")]
    first, second = (same(1, 1, reply_channel=channel) for channel in channels)
    await enqueue(lanes, first, second)
    worker = await join(lanes)
    deliveries = await read(worker, 2)
    async with lanes.client(blocking=True).pubsub() as pubsub:
        await pubsub.subscribe(channels[1])
        await pubsub.get_message(timeout=PATIENCE_S)
        await worker.settle([settlement(delivery) for delivery in deliveries])
        told: Any = await pubsub.get_message(timeout=PATIENCE_S)
        assert told is not None
    expected = [
        msgspec.structs.replace(reply_to(delivery), prediction=second.id.text)
        for delivery in deliveries
    ]
    assert list(decode_replies(told["data"])) == expected


@pytest.mark.parametrize("leader_first", [True, False])
async def test_who_leaves_takes_nothing_from_the_other(
    lanes: LaneServer, leader_first: bool
) -> None:
    first, second = same(2), same(2)
    await enqueue(lanes, first, second)
    gone, stays = (first, second) if leader_first else (second, first)
    assert await finish(lanes, gone.id) is FinishOutcome.ENDED
    assert await finish(lanes, gone.id) is FinishOutcome.LATE
    assert (await view(lanes)).demand[Lane.REALTIME] == 2
    worker = await join(lanes)
    (delivery,) = await read(worker, 10)
    assert await worker.settle([settlement(delivery)]) == [SettleOutcome.ENDED]
    assert await status_of(lanes, gone) is Status.CANCELED
    assert (await record_of(lanes, gone)).replies[0].status is Status.CANCELED
    assert (await record_of(lanes, stays)).replies == (reply_to(delivery),)
    assert (await view(lanes)).counters == {"joined": 1, "succeeded": 1, "canceled": 1}
    assert await ttl_ms(lanes.redis, lanes.echo.record(first.id.text)) > 0
    await nothing_is_left(lanes)
    assert await worker.settle([settlement(delivery)]) == [SettleOutcome.LATE]


@pytest.mark.parametrize("leader_first", [True, False])
async def test_the_last_one_out_takes_it_off_the_lane(
    lanes: LaneServer, leader_first: bool
) -> None:
    first, second = same(1, 2), same(1, 2)
    await enqueue(lanes, first, second)
    worker = await join(lanes)
    (delivery,) = await read(worker, 1)
    several = [first, second] if leader_first else [second, first]
    async with lanes.client(blocking=True).pubsub() as pubsub:
        await pubsub.subscribe(lanes.echo.endings)
        await pubsub.get_message(timeout=PATIENCE_S)
        await finish(lanes, several[0].id)
        assert await pubsub.get_message(timeout=0.05) is None
        await finish(lanes, several[1].id)
        told: Any = await pubsub.get_message(timeout=PATIENCE_S)
    assert f"realtime:{delivery.entry.decode()}" in told["data"].decode().split()
    await nothing_is_left(lanes)
    assert await worker.settle([settlement(delivery)]) == [SettleOutcome.LATE]
    assert await ttl_ms(lanes.redis, lanes.echo.record(first.id.text)) > 0


async def test_one_more_joins_what_goes_on_without_its_first(lanes: LaneServer) -> None:
    first, second, third = same(), same(), same()
    await enqueue(lanes, first, second)
    await finish(lanes, first.id)
    assert await enqueue(lanes, third) == [JOINED]
    await finish(lanes, second.id)
    worker = await join(lanes)
    await worker.settle([settlement(delivery) for delivery in await read(worker, 10)])
    told = [await status_of(lanes, one) for one in (first, second, third)]
    assert told == [Status.CANCELED, Status.CANCELED, Status.SUCCEEDED]
    await nothing_is_left(lanes)


async def test_somebody_who_waits_moves_what_waits_in_bulk(lanes: LaneServer) -> None:
    before = submission(3)
    patient, hasty = same(1, 2, lane=Lane.BULK), same(1, 2, deadline_ms=5_000)
    await enqueue(lanes, patient, before)
    await join(lanes)
    assert await enqueue(lanes, hasty) == [JOINED]
    seen = await view(lanes)
    assert seen.demand == {Lane.REALTIME: 6, Lane.BULK: 0}
    assert list(seen.entries[Lane.REALTIME].values()) == [
        (before.id.text, 0),
        (patient.id.text, 0),
        (patient.id.text, 1),
    ]
    moved = await record_of(lanes, patient)
    assert moved.lane is Lane.REALTIME
    assert (await record_of(lanes, hasty)).entries == moved.entries
    worker = await join(lanes)
    deliveries = await read(worker, 10)
    kept = patient.created_at_ms + patient.deadline_ms
    assert [d.computation.deadline_at_ms for d in deliveries[1:] if d.computation] == [kept] * 2
    await worker.settle([settlement(delivery) for delivery in deliveries])
    assert await status_of(lanes, patient) is await status_of(lanes, hasty) is Status.SUCCEEDED
    await nothing_is_left(lanes)


@pytest.mark.parametrize("rows", [[2], [1, 1]])
async def test_nobody_waits_for_bulk_that_a_worker_has(lanes: LaneServer, rows: list[int]) -> None:
    patient, hasty, third = same(*rows, lane=Lane.BULK), same(*rows), same(*rows)
    await enqueue(lanes, patient)
    worker = await join(lanes)
    await read(worker, 1)
    assert await enqueue(lanes, hasty) == [ENQUEUED]
    assert (await view(lanes)).demand == {Lane.REALTIME: 2, Lane.BULK: 2}
    assert await enqueue(lanes, third) == [JOINED]
    assert (await record_of(lanes, third)).leader == hasty.id.text


async def test_who_is_patient_joins_what_a_worker_has(lanes: LaneServer) -> None:
    first, second = same(lane=Lane.BULK), same(lane=Lane.BULK)
    await enqueue(lanes, first)
    worker = await join(lanes)
    deliveries = await read(worker, 1)
    assert await enqueue(lanes, second) == [JOINED]
    await worker.settle([settlement(delivery) for delivery in deliveries])
    assert await status_of(lanes, second) is Status.SUCCEEDED
    await nothing_is_left(lanes)


async def test_what_is_settled_in_part_is_not_joined(lanes: LaneServer) -> None:
    first, second = same(1, 1), same(1, 1)
    await enqueue(lanes, first)
    worker = await join(lanes)
    await worker.settle([settlement((await read(worker, 1))[0])])
    assert await enqueue(lanes, second) == [ENQUEUED]


async def test_who_is_patient_joins_who_waits(lanes: LaneServer) -> None:
    hasty, patient = same(), same(lane=Lane.BULK)
    assert await enqueue(lanes, hasty, patient) == [ENQUEUED, JOINED]
    assert (await view(lanes)).demand == {Lane.REALTIME: 1, Lane.BULK: 0}


async def test_a_full_lane_takes_who_adds_no_work_and_moves_none_there(lanes: LaneServer) -> None:
    full = (2, 10)
    first, patient = same(2), submission(2, lane=Lane.BULK, identity=b"bulk")
    await enqueue(lanes, first, patient, bounds=full)
    assert await enqueue(lanes, same(2), bounds=full) == [JOINED]
    assert await enqueue(lanes, submission(2, identity=b"bulk"), bounds=full) == [FULL]
    assert (await view(lanes)).demand == {Lane.REALTIME: 2, Lane.BULK: 2}


async def test_a_failure_is_everybodys(lanes: LaneServer) -> None:
    first, second = same(1, 1), same(1, 1)
    await enqueue(lanes, first, second)
    worker = await join(lanes)
    deliveries = await read(worker, 2)
    await worker.settle([settlement(deliveries[1], Status.FAILED, dead="it broke")])
    for one in (first, second):
        record = await record_of(lanes, one)
        assert record.status is Status.FAILED
        assert record.replies == (reply_to(deliveries[1], Status.FAILED),)
    assert (await view(lanes)).counters == {"joined": 1, "failed": 2, "dead": 1}
    letters = DeadLetters(lanes.redis, lanes.keys)
    (letter,) = await letters.of_prediction(second.id)
    assert (letter.prediction, letter.joined) == (first.id.text, (second.id.text,))
    with pytest.raises(NotFound):
        await letters.of_prediction(same().id)
    await nothing_is_left(lanes)


async def test_it_runs_until_the_latest_deadline(lanes: LaneServer) -> None:
    first, second = same(2, deadline_ms=-1), same(2)
    await enqueue(lanes, first, second)
    worker = await join(lanes)
    (delivery,) = await read(worker, 1)
    assert await worker.settle([settlement(delivery, Status.EXPIRED)]) == [SettleOutcome.AGAIN]
    assert await sweeps.expire_overdue(lanes.redis, lanes.echo) == 1
    assert (await view(lanes)).demand[Lane.REALTIME] == 2
    (again,) = await read(worker, 1)
    assert (again.prediction, again.attempt) == (first.id.text, 1)
    assert again.computation is not None
    assert again.computation.deadline_at_ms == second.created_at_ms + second.deadline_ms
    assert await worker.settle([settlement(again)]) == [SettleOutcome.ENDED]
    assert await status_of(lanes, first) is Status.EXPIRED
    assert await status_of(lanes, second) is Status.SUCCEEDED
    await nothing_is_left(lanes)


async def test_it_expires_for_all_whose_time_is_over(lanes: LaneServer) -> None:
    first, second = same(deadline_ms=-1), same(deadline_ms=-1)
    await enqueue(lanes, first, second)
    worker = await join(lanes)
    (delivery,) = await read(worker, 1)
    assert await worker.settle([settlement(delivery, Status.EXPIRED)]) == [SettleOutcome.ENDED]
    assert await status_of(lanes, first) is await status_of(lanes, second) is Status.EXPIRED
    await nothing_is_left(lanes)


@pytest.mark.parametrize("status", [Status.EXPIRED, Status.SUCCEEDED])
async def test_who_had_it_before_it_got_more_time_has_no_say_any_more(
    lanes: LaneServer, status: Status
) -> None:
    first, second = same(deadline_ms=-1), same()
    await enqueue(lanes, first, second)
    slow, worker = await join(lanes, "slow"), await join(lanes)
    (delivery,) = await read(slow, 1)
    await slow.settle([settlement(delivery, Status.EXPIRED)])
    assert await slow.settle([settlement(delivery, status)]) == [SettleOutcome.STALE]
    (again,) = await read(worker, 1)
    assert await slow.settle([settlement(delivery, status)]) == [SettleOutcome.STALE]
    assert await status_of(lanes, second) is Status.STARTING
    assert await worker.settle([settlement(again)]) == [SettleOutcome.ENDED]
    assert await status_of(lanes, second) is Status.SUCCEEDED
    await nothing_is_left(lanes)


async def test_those_who_leave_are_forgotten(lanes: LaneServer) -> None:
    first = same()
    await enqueue(lanes, first)
    for _ in range(5):
        gone, stays = same(), same()
        await enqueue(lanes, gone, stays)
        await finish(lanes, gone.id)
    joined = await lanes.redis.execute_command("LLEN", lanes.echo.joined + first.id.text)
    assert joined == 5


async def test_no_more_join_than_may_end_at_once(
    lanes: LaneServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scripts, "MAX_JOINED", 2)
    several = [same() for _ in range(5)]
    assert await enqueue(lanes, *several) == [ENQUEUED, JOINED, JOINED, ENQUEUED, JOINED]
    worker = await join(lanes)
    await worker.settle([settlement(delivery) for delivery in await read(worker, 10)])
    assert {await status_of(lanes, one) for one in several} == {Status.SUCCEEDED}
    await nothing_is_left(lanes)


async def test_outputs_beside_the_record_are_kept_as_long_as_anybody_may_ask(
    lanes: LaneServer,
) -> None:
    first, second = same(retain_ms=1_000), same(retain_ms=500_000_000)
    await enqueue(lanes, first, second)
    worker = await join(lanes)
    (delivery,) = await read(worker, 1)
    key = lanes.echo.outputs(delivery.prediction, 0, delivery.attempt)
    outputs = (Value(b"1"),)
    await worker.settle(
        [
            msgspec.structs.replace(
                settlement(delivery, outputs=(), spilled=key), spilled=encode_outputs(outputs)
            )
        ]
    )
    assert await ttl_ms(lanes.redis, key) > 500_000_000
    assert await ttl_ms(lanes.redis, lanes.echo.record(first.id.text)) > 499_000_000
    records = Records(lanes.redis, lanes.keys)
    prediction = await records.prediction(second.id)
    assert prediction is not None
    assert (prediction.status, prediction.outputs) == (Status.SUCCEEDED, outputs)


async def test_who_joined_is_told_where_what_it_joined_stands(lanes: LaneServer) -> None:
    await enqueue(lanes, submission(7), same(2), submission(5))
    second = same(2)
    await enqueue(lanes, second)
    records = Records(lanes.redis, lanes.keys)
    prediction = await records.prediction(second.id)
    assert prediction is not None
    assert prediction.place is not None
    assert (prediction.status, prediction.place.rows_ahead) == (Status.STARTING, 7)
    worker = await join(lanes)
    await read(worker, 2)
    prediction = await records.prediction(second.id)
    assert prediction is not None
    assert prediction.status is Status.PROCESSING
