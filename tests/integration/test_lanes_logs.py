"""Conformance of the lanes, on the fake and on the real server: what is said of predictions."""

import pytest

from forebay.contract.notices import Event, Notice
from forebay.contract.prediction import PredictionId, Status
from forebay.lanes.consumer import Delivery
from forebay.lanes.logs import Said, log
from forebay.lanes.predictions import Records
from forebay.lanes.scripts import LOGS_CUT, MAX_LOGS_BYTES, TellOutcome
from forebay.records import outbox
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
)
from tests.fixtures.servers import LaneServer

WANTED = Notice((Event.LOGS,), url="https://hooks.example/a").packed()
ENDS = Notice((Event.COMPLETED,), url="https://hooks.example/b").packed()


async def say(lanes: LaneServer, *said: tuple[Delivery, str]) -> list[TellOutcome]:
    lines = [Said(delivery, f"{line}\n".encode()) for delivery, line in said]
    return await log(lanes.redis, lanes.echo, lines)


async def logs_of(lanes: LaneServer, id_: PredictionId) -> str:
    """A prediction's logs, which both ways to read them must show alike."""
    records = Records(lanes.redis, lanes.keys)
    found = await records.prediction(id_)
    assert found is not None
    assert await records.logs(id_) == found.logs
    return found.logs


async def told(lanes: LaneServer) -> list[tuple[str, str]]:
    """What is in the outbox, and takes it out."""
    found = await outbox.written(lanes.redis, lanes.echo.outbox, most=100)
    await outbox.moved(lanes.redis, lanes.echo.outbox, [one.entry for one in found])
    return [(one.subject, one.event) for one in found]


async def test_lines_of_many_predictions_are_added_in_order_and_outlive_the_end(
    lanes: LaneServer,
) -> None:
    one, other, silent = submission(1, 1), submission(), submission()
    await enqueue(lanes, one, other, silent)
    worker = await join(lanes)
    first, second, others, silents = held = await read(worker, 4)
    assert (
        await say(lanes, (first, "a"), (second, "größer"), (others, "x")) == [TellOutcome.TOLD] * 3
    )
    assert await say(lanes, (first, "two\nlines")) == [TellOutcome.TOLD]
    assert await logs_of(lanes, one.id) == "a\ngrößer\ntwo\nlines\n"
    await worker.settle([settlement(delivery) for delivery in held])
    assert await logs_of(lanes, one.id) == "a\ngrößer\ntwo\nlines\n"
    assert await logs_of(lanes, other.id) == "x\n"
    assert await logs_of(lanes, silent.id) == ""
    assert b"lg" not in {
        *map(str.encode, await hash_of(lanes.redis, lanes.echo.record(silents.prediction)))
    }


async def test_nothing_is_added_by_who_has_lost_its_lease_nor_after_the_end(
    lanes: LaneServer,
) -> None:
    one, canceled = submission(), submission()
    await enqueue(lanes, one, canceled)
    worker, peer = await join(lanes), await join(lanes, "w2")
    late, ended = await read(worker, 2)
    await finish(lanes, canceled.id)
    assert await say(lanes, (late, "first"), (ended, "x")) == [TellOutcome.TOLD, TellOutcome.ENDED]
    await vanish(lanes, worker)
    (again,) = await reclaim(peer, 1)
    assert await say(lanes, (late, "late"), (again, "second")) == [
        TellOutcome.STALE,
        TellOutcome.TOLD,
    ]
    await peer.settle([settlement(again)])
    assert await say(lanes, (again, "after")) == [TellOutcome.ENDED]
    assert await logs_of(lanes, one.id) == "first\nsecond\n"
    assert await logs_of(lanes, canceled.id) == ""
    await lanes.redis.execute_command("DEL", lanes.echo.record(one.id.text))
    assert await say(lanes, (again, "gone")) == [TellOutcome.GONE]
    assert await Records(lanes.redis, lanes.keys).logs(one.id) == ""


async def test_who_wants_to_be_told_is_at_most_once_in_a_while(lanes: LaneServer) -> None:
    one, other, nobodys = submission(notice=WANTED), submission(notice=ENDS), submission()
    await enqueue(lanes, one, other, nobodys)
    worker = await join(lanes)
    held = mine, others, _ = await read(worker, 3)
    await say(lanes, *((delivery, "a") for delivery in held))
    assert await told(lanes) == [(one.id.text, "logs")]
    record = lanes.echo.record(one.id.text)
    await lanes.redis.execute_command("HINCRBY", record, "nl", LONG_MS)
    await say(lanes, (mine, "b"), (others, "b"))
    assert await told(lanes) == []
    await lanes.redis.execute_command("HINCRBY", record, "nl", -2 * LONG_MS)
    await say(lanes, (mine, "c"))
    assert await told(lanes) == [(one.id.text, "logs")]
    await worker.settle([settlement(delivery) for delivery in held])
    assert await told(lanes) == [(other.id.text, "completed")]


@pytest.mark.parametrize("length", [1, 999, 8_192])
async def test_of_logs_that_grow_too_long_the_oldest_lines_go(
    lanes: LaneServer, length: int
) -> None:
    one = submission()
    await enqueue(lanes, one)
    (mine,) = await read(await join(lanes), 1)
    lines = [f"{number:06} {'ä' * length}" for number in range(MAX_LOGS_BYTES // length // 2 + 40)]
    at = len(lines) // 2
    await say(lanes, (mine, "\n".join(lines[:at])))
    for line in lines[at : at + 20]:
        await say(lanes, (mine, line))
    await say(lanes, (mine, "\n".join(lines[at + 20 :])))
    logs = await logs_of(lanes, one.id)
    assert logs.startswith(LOGS_CUT)
    kept = logs.removeprefix(LOGS_CUT).splitlines()
    assert kept == lines[-len(kept) :]
    longest = len(f"{lines[0]}\n".encode())
    assert MAX_LOGS_BYTES - longest < len(logs.encode()) <= MAX_LOGS_BYTES


async def test_what_a_lost_worker_was_running_says_so_and_what_it_had_not_begun_does_not(
    lanes: LaneServer,
) -> None:
    several = [submission(notice=WANTED), submission(notice=ENDS), submission()]
    ran, waited, canceled = several
    await enqueue(lanes, *several)
    gone, worker, third = await join(lanes, "gone"), await join(lanes), await join(lanes, "w3")
    first, _, last = await read(gone, 3)
    running = " ".join(f"{one.lane.value}:{one.entry.decode()}" for one in (first, last))
    await lanes.redis.execute_command("HSET", lanes.echo.running, "gone", running)
    # As one that others had joined, which is run for them.
    await lanes.redis.execute_command("HSET", lanes.echo.record(canceled.id.text), "st", "canceled")
    await vanish(lanes, gone)
    again = {one.prediction: one for one in await reclaim(worker, 3)}
    assert len(again) == 3
    line = "(attempt 1 was lost with its worker)\n"
    assert await logs_of(lanes, ran.id) == line
    assert await Records(lanes.redis, lanes.keys).logs(waited.id) == ""
    assert await Records(lanes.redis, lanes.keys).logs(canceled.id) == ""
    assert await told(lanes) == [(ran.id.text, "logs")]
    # Of logs that are full the oldest lines go for it, too.
    mine = again[ran.id.text]
    await say(lanes, (mine, "\n".join(["x" * 99] * 700)))
    held = f"{mine.lane.value}:{mine.entry.decode()}"
    await lanes.redis.execute_command("HSET", lanes.echo.running, "w1", held)
    await vanish(lanes, worker)
    await reclaim(third, 3)
    logs = await logs_of(lanes, ran.id)
    assert logs.startswith(LOGS_CUT)
    assert logs.endswith("x\n(attempt 2 was lost with its worker)\n")
    assert len(logs) <= MAX_LOGS_BYTES


async def test_who_joined_is_shown_what_is_said_of_what_it_joined(lanes: LaneServer) -> None:
    first, second = submission(identity=b"same"), submission(identity=b"same")
    await enqueue(lanes, first)
    await enqueue(lanes, second)
    worker = await join(lanes)
    (mine,) = await read(worker, 1)
    await say(lanes, (mine, "a"))
    assert await logs_of(lanes, second.id) == "a\n"
    await worker.settle([settlement(mine)])
    assert await logs_of(lanes, second.id) == "a\n"
    found = await Records(lanes.redis, lanes.keys).prediction(second.id)
    assert found is not None
    assert found.status is Status.SUCCEEDED
