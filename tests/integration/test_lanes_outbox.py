"""Conformance of the lanes, on the fake and on the real server: who is told of what."""

import pytest

from forebay.contract.generation import Chunk
from forebay.contract.messages import Reply, encode
from forebay.contract.notices import Event, Notice, unpacked
from forebay.contract.prediction import PredictionId, Status
from forebay.contract.rows import Value
from forebay.lanes import events, scripts
from forebay.lanes.events import Told
from forebay.lanes.lane import Submission
from forebay.lanes.scripts import EnqueueOutcome, FinishOutcome
from forebay.records import outbox
from tests.fixtures.lanes import (
    LONG_MS,
    enqueue,
    finish,
    join,
    read,
    reclaim,
    settlement,
    submission,
    vanish,
)
from tests.fixtures.servers import LaneServer
from tests.fixtures.waiting import PATIENCE_S

ALL = Notice(tuple(Event), url="https://hooks.example/a")
END = Notice((Event.COMPLETED,), url="https://hooks.example/b")


async def told(lanes: LaneServer) -> list[tuple[str, str]]:
    """What is in the outbox, and takes it out."""
    found = await outbox.written(lanes.redis, lanes.echo.outbox, most=100)
    await outbox.moved(lanes.redis, lanes.echo.outbox, [one.entry for one in found])
    assert all(unpacked(one.notice) in (ALL, END) for one in found)
    return [(one.subject, one.event) for one in found]


async def test_each_event_is_written_in_the_step_that_makes_it_happen(lanes: LaneServer) -> None:
    channel = lanes.client(blocking=True).pubsub()
    await channel.subscribe(lanes.echo.outbox)
    assert await channel.get_message(timeout=PATIENCE_S) is not None
    one, other = submission(notice=ALL.packed()), submission(notice=END.packed())
    nobodys = submission()
    assert await enqueue(lanes, one, other, nobodys) == [EnqueueOutcome.ENQUEUED] * 3
    assert await channel.get_message(timeout=PATIENCE_S) is not None
    assert await told(lanes) == [(one.id.text, "start")]
    assert await enqueue(lanes, one) == [EnqueueOutcome.KNOWN]
    assert await told(lanes) == []

    worker = await join(lanes)
    held = await read(worker, 3)
    await worker.settle([settlement(delivery) for delivery in held])
    assert await channel.get_message(timeout=PATIENCE_S) is not None
    ends = [(one.id.text, "output"), (one.id.text, "completed"), (other.id.text, "completed")]
    assert await told(lanes) == ends
    await worker.settle([settlement(delivery) for delivery in held])
    assert await told(lanes) == []


async def test_a_failure_has_no_output_and_a_prediction_in_parts_one_end(
    lanes: LaneServer,
) -> None:
    one, parts = submission(notice=ALL.packed()), submission(1, 1, notice=ALL.packed())
    await enqueue(lanes, one, parts)
    await told(lanes)
    worker = await join(lanes)
    failed, first, second = await read(worker, 3)
    await worker.settle([settlement(failed, Status.FAILED), settlement(first)])
    assert await told(lanes) == [(one.id.text, "completed")]
    await worker.settle([settlement(second)])
    assert await told(lanes) == [(parts.id.text, "output"), (parts.id.text, "completed")]


async def test_who_has_lost_its_lease_tells_nobody(lanes: LaneServer) -> None:
    one = submission(notice=END.packed())
    await enqueue(lanes, one)
    worker, peer = await join(lanes), await join(lanes, "w2")
    (late,) = await read(worker, 1)
    await vanish(lanes, worker)
    (again,) = await reclaim(peer, 1)
    await worker.settle([settlement(late)])
    assert await told(lanes) == []
    await peer.settle([settlement(again)])
    assert await told(lanes) == [(one.id.text, "completed")]


@pytest.mark.parametrize("status", [Status.CANCELED, Status.EXPIRED])
async def test_an_end_by_authority_is_told_once(lanes: LaneServer, status: Status) -> None:
    one, nobodys = submission(notice=ALL.packed()), submission()
    await enqueue(lanes, one, nobodys)
    await told(lanes)
    assert await finish(lanes, one.id, status) is FinishOutcome.ENDED
    assert await finish(lanes, one.id, status) is FinishOutcome.LATE
    assert await finish(lanes, nobodys.id, status) is FinishOutcome.ENDED
    assert await told(lanes) == [(one.id.text, "completed")]


async def test_those_that_joined_are_told_of_as_well(lanes: LaneServer) -> None:
    leader, follower, silent = (
        submission(identity=b"same", notice=notice) for notice in (b"", ALL.packed(), b"")
    )
    assert await enqueue(lanes, leader, follower, silent) == [
        EnqueueOutcome.ENQUEUED,
        EnqueueOutcome.JOINED,
        EnqueueOutcome.JOINED,
    ]
    assert await told(lanes) == [(follower.id.text, "start")]
    worker = await join(lanes)
    (held,) = await read(worker, 1)
    await worker.settle([settlement(held)])
    assert await told(lanes) == [(follower.id.text, "output"), (follower.id.text, "completed")]


async def test_what_the_cache_has_answered_is_told_of_from_start_to_end(lanes: LaneServer) -> None:
    id_ = PredictionId.new("echo")
    reply = Reply(id_.text, Status.SUCCEEDED, completed_at_ms=5, outputs=(Value(b"1"),))
    one = Submission(
        id_,
        submission().lane,
        (),
        created_at_ms=5,
        deadline_ms=LONG_MS,
        retain_ms=LONG_MS,
        hits=encode(reply),
        notice=ALL.packed(),
    )
    await enqueue(lanes, one)
    await enqueue(lanes, one)
    assert await told(lanes) == [(id_.text, event) for event in ("start", "output", "completed")]


async def test_outputs_are_told_of_now_and_then_and_as_a_whole_in_the_end(
    lanes: LaneServer,
) -> None:
    one, other = submission(notice=ALL.packed()), submission(notice=END.packed())
    await enqueue(lanes, one, other)
    await told(lanes)
    worker = await join(lanes)
    held = await read(worker, 2)

    async def tell(sequence: int) -> None:
        chunks = [
            Told(delivery, (Chunk(delivery.prediction, 0, sequence, "word", (1,)),))
            for delivery in held
        ]
        await events.tell(lanes.redis, lanes.echo, chunks, version="v", run_ms=LONG_MS)

    await tell(1)
    (output,) = await outbox.written(lanes.redis, lanes.echo.outbox, most=100)
    assert (output.subject, output.event, output.sequence) == (one.id.text, "output", "1")
    await told(lanes)
    # The last was long ago, as far as the record knows.
    await lanes.redis.execute_command("HSET", lanes.echo.record(one.id.text), "nt", 1)
    await tell(2)
    (output,) = await outbox.written(lanes.redis, lanes.echo.outbox, most=100)
    assert output.sequence == "2"
    await told(lanes)
    far_ms = 10**14
    await lanes.redis.execute_command("HSET", lanes.echo.record(one.id.text), "nt", far_ms)
    await tell(3)
    assert await told(lanes) == []
    await worker.settle([settlement(delivery) for delivery in held])
    ends = [(one.id.text, "output"), (one.id.text, "completed"), (other.id.text, "completed")]
    assert await told(lanes) == ends


async def test_a_full_outbox_loses_nothing_and_takes_no_more(
    lanes: LaneServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scripts, "MAX_WRITTEN", 2)
    under_way = [submission(notice=ALL.packed()) for _ in range(2)]
    assert await enqueue(lanes, *under_way) == [EnqueueOutcome.ENQUEUED] * 2
    refused, nobodys = submission(notice=END.packed()), submission()
    joins = submission(identity=b"same"), submission(identity=b"same", notice=END.packed())
    assert await enqueue(lanes, refused, nobodys, *joins, under_way[0]) == [
        EnqueueOutcome.UNTOLD,
        EnqueueOutcome.ENQUEUED,
        EnqueueOutcome.ENQUEUED,
        EnqueueOutcome.UNTOLD,
        EnqueueOutcome.KNOWN,
    ]
    worker = await join(lanes)
    held = await read(worker, 10)
    assert len(held) == 4
    await worker.settle([settlement(delivery) for delivery in held])
    subjects = [one.id.text for one in under_way]
    assert sorted(await told(lanes)) == sorted(
        (subject, event) for subject in subjects for event in ("start", "output", "completed")
    )
    assert await enqueue(lanes, refused) == [EnqueueOutcome.ENQUEUED]
