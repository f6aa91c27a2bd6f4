"""Conformance of the lanes, on the fake and on the real server: how predictions end."""

import msgspec
import pytest

from forebay.contract.messages import encode_outputs
from forebay.contract.prediction import TERMINAL, Lane, PredictionId, Status
from forebay.contract.rows import Value
from forebay.lanes import scripts
from forebay.lanes.depth import counters
from forebay.lanes.lane import Part
from forebay.lanes.predictions import Records
from forebay.lanes.scripts import FinishOutcome, SettleOutcome
from tests.fixtures.lanes import (
    LONG_MS,
    enqueue,
    finish,
    join,
    read,
    reclaim,
    settlement,
    submission,
    ttl_ms,
    view,
)
from tests.fixtures.servers import LaneServer

ENDED, RECORDED, LATE = SettleOutcome.ENDED, SettleOutcome.RECORDED, SettleOutcome.LATE


async def status_of(lanes: LaneServer, id_: PredictionId) -> Status:
    record = await Records(lanes.redis, lanes.keys).record(id_)
    assert record is not None
    return record.status


async def test_a_result_ends_its_prediction_and_leaves_nothing_on_the_lane(
    lanes: LaneServer,
) -> None:
    one = submission(3, retain_ms=50_000, input=b"[1]")
    await enqueue(lanes, one)
    worker = await join(lanes)
    (delivery,) = await read(worker, 1)
    told = settlement(delivery, version="abc", started_at_ms=5, completed_at_ms=9)
    assert await worker.settle([told]) == [ENDED]
    seen = await view(lanes)
    assert (seen.queued, seen.leases, seen.deadlines) == (0, {}, set())
    assert seen.demand == {Lane.REALTIME: 0, Lane.BULK: 0}
    assert 40_000 < await ttl_ms(lanes.redis, lanes.echo.record(one.id.text)) <= 50_000
    prediction = await Records(lanes.redis, lanes.keys).prediction(one.id)
    assert prediction is not None
    assert prediction.status is Status.SUCCEEDED
    assert prediction.outputs == (Value(b"0"), Value(b"1"), Value(b"2"))
    assert (prediction.version, prediction.started_at_ms, prediction.input) == ("abc", 5, [1])
    assert prediction.completed_at_ms is not None
    assert prediction.completed_at_ms >= prediction.created_at_ms
    assert await counters(lanes.redis, lanes.echo) == {"succeeded": 1}


async def test_a_prediction_succeeds_with_its_last_part_and_keeps_their_order(
    lanes: LaneServer,
) -> None:
    one = submission(1, 2, 3)
    await enqueue(lanes, one)
    worker = await join(lanes)
    first, second, third = await read(worker, 3)
    assert await worker.settle([settlement(third), settlement(first)]) == [RECORDED, RECORDED]
    assert await status_of(lanes, one.id) is Status.STARTING
    assert (await view(lanes)).demand[Lane.REALTIME] == 2
    assert await ttl_ms(lanes.redis, lanes.echo.record(one.id.text)) == -1
    assert await worker.settle([settlement(second)]) == [ENDED]
    prediction = await Records(lanes.redis, lanes.keys).prediction(one.id)
    assert prediction is not None
    assert [output.json for output in prediction.outputs if isinstance(output, Value)] == [
        *(b"0",),
        *(b"0", b"1"),
        *(b"0", b"1", b"2"),
    ]


async def test_a_failing_part_ends_all_and_takes_the_others_off_the_lane(
    lanes: LaneServer,
) -> None:
    one, other = submission(1, 2, 4, 8), submission(16)
    await enqueue(lanes, one, other)
    worker = await join(lanes)
    first, second, third = await read(worker, 3)
    assert await worker.settle([settlement(first)]) == [RECORDED]
    assert await worker.settle([settlement(second, Status.FAILED)]) == [ENDED]
    seen = await view(lanes)
    assert list(seen.entries[Lane.REALTIME].values()) == [(other.id.text, 0)]
    assert seen.leases == {}
    assert seen.demand[Lane.REALTIME] == 16
    assert await worker.renew([third]) == {third.lease}
    assert await worker.settle([settlement(third)]) == [LATE]
    assert (await view(lanes)).demand[Lane.REALTIME] == 16
    assert await status_of(lanes, one.id) is Status.FAILED
    prediction = await Records(lanes.redis, lanes.keys).prediction(one.id)
    assert prediction is not None
    assert prediction.error is not None
    assert prediction.outputs == ()


async def test_a_result_told_twice_is_dropped_and_counted(lanes: LaneServer) -> None:
    one = submission(1, 1)
    await enqueue(lanes, one)
    worker = await join(lanes)
    first, second = await read(worker, 2)
    again = settlement(first, outputs=(Value(b"other"),))
    assert await worker.settle([settlement(first), again]) == [RECORDED, LATE]
    assert (await view(lanes)).demand[Lane.REALTIME] == 1
    assert await worker.settle([settlement(second), settlement(second)]) == [ENDED, LATE]
    prediction = await Records(lanes.redis, lanes.keys).prediction(one.id)
    assert prediction is not None
    assert prediction.outputs == (Value(b"0"), Value(b"0"))
    assert await counters(lanes.redis, lanes.echo) == {"succeeded": 1, "late": 2}


async def test_a_late_result_is_dropped_and_counted(lanes: LaneServer) -> None:
    one = submission(4)
    await enqueue(lanes, one)
    worker = await join(lanes)
    (delivery,) = await read(worker, 1)
    assert await finish(lanes, one.id, Status.EXPIRED) is FinishOutcome.ENDED
    before = await view(lanes, [one.id.text])
    assert await worker.settle([settlement(delivery)]) == [LATE]
    after = await view(lanes, [one.id.text])
    assert after.records == before.records
    assert after.demand == before.demand == {Lane.REALTIME: 0, Lane.BULK: 0}
    assert after.counters == {"expired": 1, "late": 1}


async def test_a_result_whose_record_is_gone_is_dropped_and_its_lease_released(
    lanes: LaneServer,
) -> None:
    one = submission()
    await enqueue(lanes, one)
    worker, peer = await join(lanes, "w1"), await join(lanes, "w2")
    await worker.release(await read(worker, 1))
    await lanes.redis.execute_command("DEL", lanes.echo.record(one.id.text))
    (again,) = await reclaim(peer, 1)
    assert again.attempt == 2
    assert await peer.settle([settlement(again)]) == [SettleOutcome.GONE]
    seen = await view(lanes, [one.id.text])
    assert (seen.queued, seen.leases) == (0, {})
    assert seen.records == {one.id.text: {}}
    assert seen.counters == {"late": 1}


async def test_demand_is_exact_even_if_the_worker_could_not_count_the_rows(
    lanes: LaneServer,
) -> None:
    one = submission()
    unreadable = Part(rows=7, message=b"from another release")
    await enqueue(lanes, msgspec.structs.replace(one, parts=(*one.parts, unreadable)))
    worker = await join(lanes)
    first, second = await read(worker, 2)
    assert second.computation is None
    assert await worker.settle([settlement(first)]) == [RECORDED]
    assert (await view(lanes)).demand[Lane.REALTIME] == 7
    assert await worker.settle([settlement(second, Status.FAILED, dead="unreadable")]) == [ENDED]
    assert (await view(lanes)).demand[Lane.REALTIME] == 0


@pytest.mark.parametrize("status", sorted(TERMINAL))
@pytest.mark.parametrize("leased", [False, True])
async def test_a_finish_ends_what_has_not_ended(
    lanes: LaneServer, status: Status, leased: bool
) -> None:
    one, other = submission(1, 2, retain_ms=50_000), submission(4)
    await enqueue(lanes, one, other)
    worker = await join(lanes)
    if leased:
        (first, *_) = await read(worker, 2)
        assert await worker.settle([settlement(first)]) == [RECORDED]
    assert await finish(lanes, one.id, status) is FinishOutcome.ENDED
    seen = await view(lanes)
    assert [id_ for id_, _ in seen.entries[Lane.REALTIME].values()] == [other.id.text]
    assert seen.leases == {}
    assert seen.demand[Lane.REALTIME] == 4
    assert seen.deadlines == {other.id.text}
    assert seen.counters == {status.value: 1}
    assert await status_of(lanes, one.id) is status
    assert 40_000 < await ttl_ms(lanes.redis, lanes.echo.record(one.id.text)) <= 50_000


@pytest.mark.parametrize("first", sorted(TERMINAL))
async def test_the_first_terminal_status_wins(lanes: LaneServer, first: Status) -> None:
    one = submission()
    await enqueue(lanes, one)
    worker = await join(lanes)
    (delivery,) = await read(worker, 1)
    await worker.settle([settlement(delivery, first)])
    before = await view(lanes, [one.id.text])
    for status in TERMINAL:
        assert await finish(lanes, one.id, status) is FinishOutcome.LATE
        assert await worker.settle([settlement(delivery, status)]) == [LATE]
    after = await view(lanes, [one.id.text])
    assert after.records == before.records
    assert after.counters == {first.value: 1, "late": len(TERMINAL)}


async def test_finishing_what_does_not_exist_only_forgets_its_deadline(lanes: LaneServer) -> None:
    one = submission()
    await enqueue(lanes, one)
    await lanes.redis.execute_command("DEL", lanes.echo.record(one.id.text))
    assert await finish(lanes, one.id) is FinishOutcome.GONE
    seen = await view(lanes, [one.id.text])
    assert (seen.deadlines, seen.counters, seen.records) == (set(), {}, {one.id.text: {}})


async def test_outputs_beside_the_record_outlive_it(lanes: LaneServer) -> None:
    one = submission(1, 1, retain_ms=LONG_MS)
    await enqueue(lanes, one)
    worker = await join(lanes)
    first, second = await read(worker, 2)
    key = lanes.echo.outputs(one.id.text, 0, 1)
    big = (Value(b"big"),)
    spilled = msgspec.structs.replace(
        settlement(first, outputs=(), spilled=key), spilled=encode_outputs(big)
    )
    assert await worker.settle([spilled, settlement(second)]) == [RECORDED, ENDED]
    # The record may live until its deadline, and then for its retention.
    left_ms, hour_ms = await ttl_ms(lanes.redis, key), 3_600_000
    assert 2 * LONG_MS + hour_ms - 60_000 < left_ms <= 2 * LONG_MS + hour_ms
    records = Records(lanes.redis, lanes.keys)
    prediction = await records.prediction(one.id)
    assert prediction is not None
    assert prediction.outputs == (*big, Value(b"0"))
    await lanes.redis.execute_command("DEL", key)
    with pytest.raises(LookupError, match="are gone"):
        await records.prediction(one.id)


async def test_outputs_of_a_dropped_result_do_not_stay(lanes: LaneServer) -> None:
    one = submission()
    await enqueue(lanes, one)
    worker = await join(lanes)
    (delivery,) = await read(worker, 1)
    await finish(lanes, one.id)
    key = lanes.echo.outputs(one.id.text, 0, 1)
    late = msgspec.structs.replace(settlement(delivery, outputs=(), spilled=key), spilled=b"\x90")
    assert await worker.settle([late]) == [LATE]
    assert await ttl_ms(lanes.redis, key) == -2


async def test_scripts_the_server_has_forgotten_are_sent_again(lanes: LaneServer) -> None:
    worker = await join(lanes)
    one = submission()
    for _ in range(2):
        await lanes.redis.execute_command("SCRIPT", "FLUSH")
        await enqueue(lanes, one)
    await lanes.redis.execute_command("SCRIPT", "FLUSH")
    (delivery,) = await read(worker, 1)
    await lanes.redis.execute_command("SCRIPT", "FLUSH")
    assert await worker.settle([settlement(delivery)]) == [ENDED]
    assert (await view(lanes)).queued == 0


async def test_many_predictions_are_finished_in_one_call(lanes: LaneServer) -> None:
    several = [submission(2) for _ in range(3)]
    await enqueue(lanes, *several)
    await finish(lanes, several[1].id)
    args: list[str | bytes | int] = []
    for one in several:
        args += (one.id.text, "expired", b"\x80")
    outcomes = await scripts.finish(
        lanes.redis,
        lanes.echo,
        records=[lanes.echo.record(one.id.text) for one in several],
        args=args,
    )
    assert outcomes == [FinishOutcome.ENDED, FinishOutcome.LATE, FinishOutcome.ENDED]
    assert (await view(lanes)).demand[Lane.REALTIME] == 0
