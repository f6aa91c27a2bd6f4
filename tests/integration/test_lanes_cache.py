"""Conformance of the lanes, on the fake and on the real server: what was answered before."""

import msgspec

from forebay.contract.caching import CacheOptions, Entry, decode_entry, encode_entry
from forebay.contract.errors import ErrorInfo, ErrorKind
from forebay.contract.hits import Hits, encode_hits
from forebay.contract.messages import Reply, encode
from forebay.contract.prediction import PredictionId, Status
from forebay.contract.rows import Value
from forebay.lanes.cache import Cache, Count
from forebay.lanes.consumer import Settlement
from forebay.lanes.dead import DeadLetters
from forebay.lanes.lane import Submission
from forebay.lanes.predictions import Records
from forebay.lanes.scripts import EnqueueOutcome, SettleOutcome
from tests.fixtures.gateway import MODELS
from tests.fixtures.lanes import (
    LONG_MS,
    enqueue,
    finish,
    hash_of,
    join,
    join_with,
    read,
    settlement,
    submission,
    ttl_ms,
    view,
)
from tests.fixtures.servers import LaneServer

ENTRY = encode_entry(Entry(1, Value(b"1")))
ENTRY_BYTES = 190
"""What `settle.lua` counts beyond an entry's own bytes."""

CACHE = CacheOptions(enabled=True, redis_bytes=1_000_000, ttl_s=60)
A, B, C = (letter * 20 for letter in (b"a", b"b", b"c"))


def keep(done: Settlement, *kept: tuple[bytes, bytes]) -> Settlement:
    return msgspec.structs.replace(done, kept=kept)


async def cached(lanes: LaneServer) -> dict[bytes, bytes]:
    flat = await lanes.redis.execute_command("HGETALL", lanes.echo.cache)
    pairs = flat.items() if isinstance(flat, dict) else zip(flat[::2], flat[1::2], strict=True)
    return {key: value for key, value in pairs if key != b"bytes"}


async def ages(lanes: LaneServer) -> list[bytes]:
    return list(await lanes.redis.execute_command("ZRANGE", lanes.echo.cached, 0, -1))


async def test_a_result_and_its_entries_are_written_together(lanes: LaneServer) -> None:
    worker = await join_with(lanes, CACHE)
    await enqueue(lanes, submission(2), submission())
    first, second = await read(worker, 2)
    outcomes = await worker.settle(
        [keep(settlement(first), (A, ENTRY), (B, ENTRY)), settlement(second)]
    )
    assert outcomes == [SettleOutcome.ENDED] * 2
    assert await cached(lanes) == {A: ENTRY, B: ENTRY}
    assert sorted(await ages(lanes)) == [A, B]
    for key in (lanes.echo.cache, lanes.echo.cached):
        assert 0 < await ttl_ms(lanes.redis, key) <= 60_000
    standing = await Cache(lanes.redis, lanes.keys).standing("echo")
    assert (standing.entries, standing.kept) == (2, 2)
    assert standing.bytes == 2 * (len(ENTRY) + ENTRY_BYTES)


async def test_nothing_is_written_of_a_result_that_is_dropped(lanes: LaneServer) -> None:
    worker = await join_with(lanes, CACHE)
    late, gone = submission(), submission()
    await enqueue(lanes, late, gone)
    deliveries = await read(worker, 2)
    assert len(deliveries) == 2
    await finish(lanes, late.id)
    await lanes.redis.execute_command("DEL", lanes.echo.record(gone.id.text))
    outcomes = await worker.settle([keep(settlement(one), (A, ENTRY)) for one in deliveries])
    assert set(outcomes) <= {SettleOutcome.LATE, SettleOutcome.GONE}
    assert await cached(lanes) == {}
    assert await ttl_ms(lanes.redis, lanes.echo.cache) == -2


async def test_settling_once_more_counts_nothing_twice(lanes: LaneServer) -> None:
    worker = await join_with(lanes, CACHE)
    await enqueue(lanes, submission())
    (delivery,) = await read(worker, 1)
    done = [keep(settlement(delivery), (A, ENTRY))]
    assert await worker.settle(done) == [SettleOutcome.ENDED]
    assert await worker.settle(done) == [SettleOutcome.LATE]
    standing = await Cache(lanes.redis, lanes.keys).standing("echo")
    assert (standing.entries, standing.kept) == (1, 1)


async def age(lanes: LaneServer, ms: int) -> None:
    """Make all entries older: ages are in milliseconds, of which a test may take less."""
    for key in await ages(lanes):
        await lanes.redis.execute_command("ZINCRBY", lanes.echo.cached, -ms, key)


async def settle_one(lanes: LaneServer, cache: CacheOptions, *kept: tuple[bytes, bytes]) -> None:
    worker = await join_with(lanes, cache)
    await enqueue(lanes, submission())
    (delivery,) = await read(worker, 1)
    assert await worker.settle([keep(settlement(delivery), *kept)]) == [SettleOutcome.ENDED]


async def test_the_oldest_make_room_for_what_comes(lanes: LaneServer) -> None:
    room = CacheOptions(
        enabled=True, redis_bytes=2 * (len(ENTRY) + ENTRY_BYTES), max_entry_bytes=10
    )
    for key in (C, A, B):
        await settle_one(lanes, room, (key, ENTRY))
        await age(lanes, 10)
    assert set(await cached(lanes)) == {A, B}
    standing = await Cache(lanes.redis, lanes.keys).standing("echo")
    assert (standing.entries, standing.evicted) == (2, 1)
    assert standing.bytes == room.redis_bytes


async def test_an_entry_written_anew_takes_its_place_once(lanes: LaneServer) -> None:
    newer = encode_entry(Entry(2, Value(b"22")))
    await settle_one(lanes, CACHE, (A, ENTRY))
    await settle_one(lanes, CACHE, (A, newer))
    assert await cached(lanes) == {A: newer}
    standing = await Cache(lanes.redis, lanes.keys).standing("echo")
    assert (standing.entries, standing.bytes) == (1, len(newer) + ENTRY_BYTES)


async def test_what_is_too_old_to_answer_goes_when_something_comes(lanes: LaneServer) -> None:
    await settle_one(lanes, CACHE, (A, ENTRY))
    await age(lanes, CACHE.ttl_ms)
    await settle_one(lanes, CACHE, (B, ENTRY))
    assert set(await cached(lanes)) == set(await ages(lanes)) == {B}


async def test_a_half_that_the_server_has_evicted_takes_the_other_with_it(
    lanes: LaneServer,
) -> None:
    for key in (lanes.echo.cache, lanes.echo.cached):
        await settle_one(lanes, CACHE, (A, ENTRY))
        await lanes.redis.execute_command("DEL", key)
        await settle_one(lanes, CACHE, (B, ENTRY))
        assert set(await cached(lanes)) == set(await ages(lanes)) == {B}
        standing = await Cache(lanes.redis, lanes.keys).standing("echo")
        assert standing.bytes == len(ENTRY) + ENTRY_BYTES


async def test_clearing_empties_it_and_is_seen_by_who_counts(lanes: LaneServer) -> None:
    cache = Cache(lanes.redis, lanes.keys)
    assert await cache.count("echo", Count(near=2, missed=1)) == 0
    await settle_one(lanes, CACHE, (A, ENTRY))
    assert await cache.clear("echo") == 1
    assert await cached(lanes) == {}
    assert await cache.count("echo", Count(far=3)) == 1
    standing = await cache.standing("echo")
    assert (standing.near, standing.far, standing.missed) == (2, 3, 1)
    assert (standing.entries, standing.bytes) == (0, 0)


def answered(id_: PredictionId) -> Submission:
    reply = Reply(
        prediction=id_.text,
        status=Status.SUCCEEDED,
        completed_at_ms=5,
        outputs=(Value(b"1"), Value(b"2")),
        version="abcdef012345",
        started_at_ms=5,
    )
    return Submission(
        id_,
        submission().lane,
        (),
        created_at_ms=5,
        deadline_ms=LONG_MS,
        retain_ms=60_000,
        input=b'{"text": "x"}',
        hits=encode(reply),
    )


async def test_a_prediction_that_was_answered_before_is_recorded_as_it_ends(
    lanes: LaneServer,
) -> None:
    one = answered(PredictionId.new("echo"))
    assert await enqueue(lanes, one, submission()) == [EnqueueOutcome.ENQUEUED] * 2
    assert await enqueue(lanes, one) == [EnqueueOutcome.KNOWN]
    told = await Records(lanes.redis, lanes.keys).prediction(one.id)
    assert told is not None
    assert (told.status, told.outputs) == (Status.SUCCEEDED, (Value(b"1"), Value(b"2")))
    assert (told.input, told.version, told.completed_at_ms) == ({"text": "x"}, "abcdef012345", 5)
    assert 0 < await ttl_ms(lanes.redis, lanes.echo.record(one.id.text)) <= 60_000
    seen = await view(lanes)
    assert (seen.queued, seen.counters) == (1, {"succeeded": 1})
    assert one.id.text not in seen.deadlines


def partly(*, identity: bytes = b"") -> Submission:
    hits = Hits(3, (1,), (Value(b"kept"),))
    return msgspec.structs.replace(submission(2, identity=identity), hits=encode_hits(hits))


async def test_a_record_has_hits_and_what_ran_in_order(lanes: LaneServer) -> None:
    worker = await join(lanes)
    one = partly(identity=b"same")
    other = msgspec.structs.replace(
        submission(2, identity=b"same"),
        hits=encode_hits(Hits(3, (2,), (Value(b"own"),))),
    )
    assert await enqueue(lanes, one, other) == [EnqueueOutcome.ENQUEUED, EnqueueOutcome.JOINED]
    (delivery,) = await read(worker, 5)
    await worker.settle([settlement(delivery)])
    records = Records(lanes.redis, lanes.keys)
    first, second = await records.prediction(one.id), await records.prediction(other.id)
    assert first is not None
    assert second is not None
    assert first.outputs == (Value(b"0"), Value(b"kept"), Value(b"1"))
    assert second.outputs == (Value(b"0"), Value(b"1"), Value(b"own"))


async def test_a_record_names_the_row_of_the_request(lanes: LaneServer) -> None:
    worker = await join(lanes)
    one = partly()
    await enqueue(lanes, one)
    (delivery,) = await read(worker, 1)
    error = ErrorInfo(ErrorKind.TOO_LONG, "Row 1: too long.", 1)
    await worker.settle([settlement(delivery, Status.FAILED, error=error)])
    told = await Records(lanes.redis, lanes.keys).prediction(one.id)
    assert told is not None
    assert told.error is not None
    assert (told.error.row, told.error.message) == (2, "Row 2: too long.")


async def test_a_replayed_dead_letter_has_its_hits(lanes: LaneServer) -> None:
    worker = await join(lanes)
    one = partly()
    await enqueue(lanes, one)
    (delivery,) = await read(worker, 1)
    await worker.settle([settlement(delivery, Status.FAILED, dead="it crashed")])
    letters = DeadLetters(lanes.redis, lanes.keys)
    new = await letters.replay(
        one.id, await letters.of_prediction(one.id), MODELS.models["echo"], retain_ms=LONG_MS
    )
    (again,) = await read(worker, 1)
    await worker.settle([settlement(again)])
    told = await Records(lanes.redis, lanes.keys).prediction(new)
    assert told is not None
    assert told.outputs == (Value(b"0"), Value(b"kept"), Value(b"1"))


async def test_entries_are_read_as_they_were_written(lanes: LaneServer) -> None:
    await settle_one(lanes, CACHE, (A, ENTRY))
    found = await lanes.redis.execute_command("HMGET", lanes.echo.cache, A, B)
    assert found == [ENTRY, None]
    assert decode_entry(found[0]) == Entry(1, Value(b"1"))
    assert (await hash_of(lanes.redis, lanes.echo.counters))["cache_kept"] == b"1"
