"""Conformance of the lanes, on the fake and on the real server: what time does to them."""

import itertools
import time

import pytest
from redis.exceptions import ResponseError

from forebay.contract.errors import ErrorKind
from forebay.contract.prediction import Lane, Status
from forebay.lanes import sweeps
from forebay.lanes.predictions import Records
from forebay.lanes.scripts import SettleOutcome
from tests.fixtures.lanes import (
    LONG_MS,
    enqueue,
    join,
    read,
    reclaim,
    settlement,
    submission,
    vanish,
    view,
)
from tests.fixtures.servers import LaneServer
from tests.fixtures.waiting import eventually


async def tidy(lanes: LaneServer, *, grace_ms: int = 0) -> tuple[int, int]:
    return await sweeps.lapse_orphans(lanes.redis, lanes.echo, grace_ms=grace_ms)


async def letters(lanes: LaneServer) -> list[dict[str, bytes]]:
    entries = await lanes.redis.execute_command("XRANGE", lanes.echo.dead, "-", "+")
    return [
        {name.decode(): value for name, value in zip(flat[::2], flat[1::2], strict=True)}
        for _, flat in entries
    ]


async def test_models_that_were_ever_swept_come_after_those_of_the_catalog(
    lanes: LaneServer,
) -> None:
    async def models(*catalog: str) -> list[str]:
        return await sweeps.models_to_sweep(lanes.redis, lanes.keys, catalog)

    assert await models() == []
    assert await models("b", "a") == ["b", "a"]
    assert await models("c") == ["c", "a", "b"]
    assert await models() == ["a", "b", "c"]


async def test_overdue_predictions_expire_wherever_they_are(lanes: LaneServer) -> None:
    overdue = [submission(2, deadline_ms=-1), submission(3, 4, lane=Lane.BULK, deadline_ms=-1)]
    in_time = submission(8)
    await enqueue(lanes, *overdue, in_time)
    worker = await join(lanes)
    (leased,) = await read(worker, 1)
    assert leased.prediction == overdue[0].id.text
    assert await sweeps.expire_overdue(lanes.redis, lanes.echo) == 2
    seen = await view(lanes)
    assert seen.demand == {Lane.REALTIME: 8, Lane.BULK: 0}
    assert seen.queued == 1
    assert seen.leases == {}
    assert seen.deadlines == {in_time.id.text}
    assert seen.counters == {"expired": 2}
    for one in overdue:
        prediction = await Records(lanes.redis, lanes.keys).prediction(one.id)
        assert prediction is not None
        assert prediction.status is Status.EXPIRED
        assert prediction.error is not None
        assert prediction.error.kind is ErrorKind.DEADLINE_EXCEEDED
    assert await worker.settle([settlement(leased)]) == [SettleOutcome.LATE]
    assert await sweeps.expire_overdue(lanes.redis, lanes.echo) == 0


async def test_more_than_a_bite_is_expired_in_one_sweep(lanes: LaneServer) -> None:
    many = sweeps.BITE + 5
    await enqueue(lanes, *(submission(deadline_ms=-1) for _ in range(many)))
    assert await sweeps.expire_overdue(lanes.redis, lanes.echo) == many


async def test_a_sweep_takes_no_more_than_it_was_told_to(lanes: LaneServer) -> None:
    await enqueue(lanes, *(submission(deadline_ms=-1) for _ in range(2 * sweeps.BITE)))
    assert await sweeps.expire_overdue(lanes.redis, lanes.echo, most=1) == sweeps.BITE


async def test_a_deadline_without_a_record_is_forgotten(lanes: LaneServer) -> None:
    one = submission(deadline_ms=-1)
    await enqueue(lanes, one)
    await lanes.redis.execute_command("DEL", lanes.echo.record(one.id.text))
    assert await sweeps.expire_overdue(lanes.redis, lanes.echo) == 0
    assert (await view(lanes)).deadlines == set()


async def test_leases_of_a_vanished_worker_lapse_at_the_second_sweep_a_grace_later(
    lanes: LaneServer,
) -> None:
    await enqueue(lanes, submission(), submission(lane=Lane.BULK))
    gone = await join(lanes, "gone")
    held = await read(gone, 2)
    # Nobody is there to notice but the sweep.
    await vanish(lanes, gone)
    assert await tidy(lanes, grace_ms=LONG_MS) == (0, 0)
    assert await tidy(lanes, grace_ms=LONG_MS) == (0, 0)
    assert await lapsed(lanes) == 0
    await eventually(lambda: both_lapsed_by_a_sweep(lanes))
    # Lapsing twice does nothing, and nothing was thrown away.
    assert await tidy(lanes) == (0, 0)
    assert set((await view(lanes)).leases) == {d.entry for d in held}
    peer = await join(lanes, "peer")
    assert [d.attempt for d in await reclaim(peer, 10)] == [2, 2]


async def both_lapsed_by_a_sweep(lanes: LaneServer) -> bool:
    await tidy(lanes, grace_ms=20)
    return await lapsed(lanes) == 2


async def lapsed(lanes: LaneServer) -> int:
    """Leases idle for as long as a lease lasts."""
    count = 0
    for lane in Lane:
        count += len(
            await lanes.redis.execute_command(
                "XPENDING", lanes.echo.lane(lane), "workers", "IDLE", LONG_MS, "-", "+", 100
            )
        )
    return count


async def test_a_worker_back_between_two_sweeps_keeps_its_leases(lanes: LaneServer) -> None:
    await enqueue(lanes, submission())
    worker = await join(lanes)
    await read(worker, 1)
    await vanish(lanes, worker)
    assert await tidy(lanes, grace_ms=50) == (0, 0)
    first_sweep = time.monotonic()
    await worker.beat()
    assert await tidy(lanes, grace_ms=50) == (0, 0)
    await eventually(lambda: time.monotonic() - first_sweep > 0.06)
    # Absent once more, and for the first time as far as the sweep is concerned.
    await vanish(lanes, worker)
    assert await tidy(lanes, grace_ms=50) == (0, 0)
    assert await lapsed(lanes) == 0


async def test_an_idle_consumer_of_a_vanished_worker_is_removed(lanes: LaneServer) -> None:
    gone, there = await join(lanes, "gone"), await join(lanes, "there")
    for worker, lane in itertools.product((gone, there), Lane):
        assert await worker.wait(lane, most=1, block_ms=1) == []
    await vanish(lanes, gone)
    assert await tidy(lanes) == (0, 2)
    for lane in Lane:
        (left,) = await lanes.redis.execute_command(
            "XINFO", "CONSUMERS", lanes.echo.lane(lane), "workers"
        )
        assert b"there" in left
    assert await lanes.redis.execute_command("HLEN", lanes.echo.absences) == 0


async def test_a_consumer_that_holds_entries_is_never_removed(lanes: LaneServer) -> None:
    await enqueue(lanes, submission(), submission())
    gone = await join(lanes, "gone")
    held = await read(gone, 2)
    await vanish(lanes, gone)
    for _ in range(3):
        await tidy(lanes)
    assert set((await view(lanes)).leases) == {delivery.entry for delivery in held}


async def test_tidying_lanes_that_nobody_has_used_does_nothing(lanes: LaneServer) -> None:
    assert await tidy(lanes) == (0, 0)
    await enqueue(lanes, submission())
    assert await tidy(lanes) == (0, 0)


async def test_a_dead_letter_keeps_its_reason_and_payload(lanes: LaneServer) -> None:
    one = submission(2, 3, lane=Lane.BULK)
    await enqueue(lanes, one)
    worker = await join(lanes)
    _, second = await read(worker, 2)
    told = settlement(second, Status.FAILED, dead="it killed its worker 3 times")
    assert await worker.settle([told]) == [SettleOutcome.ENDED]
    (letter,) = await letters(lanes)
    assert int(letter.pop("at")) > 0
    assert letter == {
        "c": f"{one.id.text}.1".encode(),
        "reason": b"it killed its worker 3 times",
        "attempts": b"1",
        "lane": b"bulk",
        "strikes": b"0",
        "history": b"",
        "m": one.parts[1].message,
        "rows": b"2:%d 3:%d" % tuple(len(part.message) for part in one.parts),
        "rest": one.parts[0].message,
        "in": b"",
        "before": b"0",
    }
    assert (await view(lanes)).counters == {"failed": 1, "dead": 1}


async def test_a_result_that_is_dropped_leaves_no_dead_letter(lanes: LaneServer) -> None:
    one = submission()
    await enqueue(lanes, one)
    worker = await join(lanes)
    (delivery,) = await read(worker, 1)
    await worker.settle([settlement(delivery)])
    await worker.settle([settlement(delivery, Status.FAILED, dead="late")])
    assert await letters(lanes) == []


async def test_dead_letters_past_their_retention_are_dropped(lanes: LaneServer) -> None:
    for id_ in ("1-0", "2-0"):
        await lanes.redis.execute_command("XADD", lanes.echo.dead, id_, "reason", "long ago")
    await lanes.redis.execute_command("XADD", lanes.echo.dead, "*", "reason", "now")
    drop = sweeps.drop_old_dead_letters
    assert await drop(lanes.redis, lanes.echo, older_than_ms=LONG_MS) == 2
    assert [letter["reason"] for letter in await letters(lanes)] == [b"now"]
    # A retention longer than the age of time itself drops nothing.
    assert await drop(lanes.redis, lanes.echo, older_than_ms=10**15) == 0


async def test_what_the_server_refuses_comes_out_as_the_server_said_it(lanes: LaneServer) -> None:
    await lanes.redis.execute_command("SET", lanes.echo.dead, "no stream")
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        await sweeps.drop_old_dead_letters(lanes.redis, lanes.echo, older_than_ms=LONG_MS)


async def test_the_number_of_dead_letters_is_bounded(lanes: LaneServer) -> None:
    """Redis trims whole nodes of about a hundred, so the bound is approximate."""
    await enqueue(lanes, *(submission() for _ in range(400)))
    worker = await join(lanes, dead_letter_max=10)
    await worker.settle(
        [settlement(d, Status.FAILED, dead="again") for d in await read(worker, 400)]
    )
    assert 10 <= len(await letters(lanes)) <= 10 + 100
