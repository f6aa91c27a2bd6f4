"""Conformance of the lanes, on the fake and on the real server: dead letters."""

import asyncio
from typing import Any

import msgspec
import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from forebay.contract.errors import ForebayError, LaneFull, NotFound, Unavailable
from forebay.contract.messages import Computation, decode_computation, encode, encode_outputs
from forebay.contract.model import ModelSpec
from forebay.contract.notices import Event, Notice
from forebay.contract.prediction import Lane, PredictionId, Status
from forebay.contract.rows import Value, ValueRow
from forebay.lanes import scripts
from forebay.lanes.consumer import Consumer
from forebay.lanes.dead import PAGE, DeadLetters, Letter
from forebay.lanes.lane import Part, Submission
from forebay.lanes.predictions import Records
from forebay.lanes.scripts import SettleOutcome
from forebay.records import outbox
from forebay.runtime.redis import Commands
from forebay.runtime.settings import Settings
from tests.fixtures.gateway_end import echo_spec
from tests.fixtures.lanes import (
    LONG_MS,
    enqueue,
    finish,
    join,
    read,
    settlement,
    submission,
    ttl_ms,
    vanish,
    view,
)
from tests.fixtures.lanes import reclaim as take_over
from tests.fixtures.servers import LaneServer

REASON = "it killed its worker 4 times"


def numbered(*parts: int, **fields: Any) -> Submission:
    """A prediction whose rows are 0, 1, 2, … over all of its parts."""
    made: list[Part] = []
    first = 0
    for rows in parts:
        values = tuple(ValueRow(b"%d" % row) for row in range(first, first + rows))
        made.append(Part(rows, encode(Computation(values, 0, LONG_MS, first_row=first))))
        first += rows
    return msgspec.structs.replace(submission(**fields), parts=tuple(made))


async def die(
    lanes: LaneServer, worker: Consumer, one: Submission, *, part: int = 0, settled: int = 0
) -> None:
    """Enqueue a prediction, settle its first parts, and make a dead letter of one."""
    await enqueue(lanes, one)
    deliveries = await read(worker, len(one.parts))
    for delivery in deliveries[:settled]:
        assert await worker.settle([settlement(delivery)]) == [SettleOutcome.RECORDED]
    told = settlement(deliveries[part], Status.FAILED, dead=REASON)
    assert await worker.settle([told]) == [SettleOutcome.ENDED]


def letters_of(lanes: LaneServer) -> DeadLetters:
    return DeadLetters(lanes.redis, lanes.keys)


async def revive(
    lanes: LaneServer, id_: PredictionId, spec: ModelSpec | None = None
) -> PredictionId:
    """Replay a prediction."""
    letters = letters_of(lanes)
    found = await letters.of_prediction(id_)
    return await letters.replay(id_, found, spec or echo_spec(), retain_ms=50_000)


def values_of(message: bytes) -> list[ValueRow]:
    return [row for row in decode_computation(message).rows if isinstance(row, ValueRow)]


async def messages(lanes: LaneServer, lane: Lane) -> list[tuple[str, bytes]]:
    """What is on a lane: the computation and its message."""
    entries = await lanes.redis.execute_command("XRANGE", lanes.echo.lane(lane), "-", "+")
    return [(fields[1].decode(), fields[3]) for _, fields in entries]


async def test_a_letter_tells_what_an_operator_asks_first(lanes: LaneServer) -> None:
    one = submission(2, lane=Lane.BULK, input=b'{"value": 1}')
    await enqueue(lanes, one)
    gone = await join(lanes, "gone")
    (lost,) = await read(gone, 1)
    running = f"bulk:{lost.entry.decode()}"
    await lanes.redis.execute_command("HSET", lanes.echo.running, "gone", running)
    await vanish(lanes, gone)
    worker = await join(lanes)
    (delivery,) = await take_over(worker, 1)
    await worker.settle([settlement(delivery, Status.FAILED, dead=REASON)])

    (letter,) = await letters_of(lanes).newest("echo", most=10)
    assert (letter.prediction, letter.part, letter.lane) == (one.id.text, 0, "bulk")
    assert (letter.reason, letter.attempts, letter.strikes) == (REASON, 2, 1)
    assert letter.at_ms > 1_700_000_000_000
    assert "attempt 1, run by gone" in letter.history[0]
    assert letter.lacks == letter.why_not == ""
    contents = await letters_of(lanes).open(one.id, letter)
    assert contents.message == one.parts[0].message
    assert contents.parts == one.parts
    assert contents.input == b'{"value": 1}'
    assert len(one.parts[0].message) < letter.bytes < 1_000
    computation = contents.computation()
    assert computation is not None
    assert len(computation.rows) == 2


async def test_letters_come_newest_first_over_any_number_of_pages(lanes: LaneServer) -> None:
    worker = await join(lanes, dead_letter_max=1_000)
    several = [submission() for _ in range(2 * PAGE + 3)]
    await enqueue(lanes, *several)
    for delivery in await read(worker, len(several)):
        await worker.settle([settlement(delivery, Status.FAILED, dead=REASON)])
    letters = letters_of(lanes)
    expected = [one.id.text for one in reversed(several)]
    assert [letter.prediction for letter in await letters.every("echo")] == expected
    for most in (1, PAGE, PAGE + 1, 500):
        newest = await letters.newest("echo", most=most)
        assert [letter.prediction for letter in newest] == expected[:most]
    (oldest,) = await letters.of_prediction(several[0].id)
    assert oldest.prediction == several[0].id.text
    assert await letters.every("nobody") == []
    with pytest.raises(NotFound, match="no dead letter"):
        await letters.of_prediction(PredictionId.new("echo"))


async def test_models_are_those_of_the_catalog_and_those_ever_swept(lanes: LaneServer) -> None:
    assert await letters_of(lanes).models([]) == []
    await lanes.redis.execute_command("SADD", lanes.keys.models, "gone")
    assert await letters_of(lanes).models(["echo"]) == ["echo", "gone"]


@pytest.mark.parametrize("lane", list(Lane))
async def test_a_replay_is_a_new_prediction_like_any_other(lanes: LaneServer, lane: Lane) -> None:
    worker = await join(lanes)
    one = numbered(2, lane=lane, input=b'{"value": [0, 1]}')
    await die(lanes, worker, one)
    other = submission(3, lane=lane, input=b"[]")
    await enqueue(lanes, other)
    new = await revive(lanes, one.id)
    assert new.text != one.id.text
    assert (new.model, new.shard) == (one.id.model, one.id.shard)

    seen = await view(lanes, [one.id.text, new.text, other.id.text])
    # The fields that an enqueued prediction has, and one more: the scripts keep in step.
    fresh, enqueued = seen.records[new.text], seen.records[other.id.text]
    assert set(fresh) - {"rt"} == set(enqueued)
    assert fresh["rt"].decode() == one.id.text
    assert (fresh["in"], fresh["tt"], fresh["rp"]) == (b'{"value": [0, 1]}', b"50000", b"")
    assert seen.records[one.id.text]["st"] == b"failed"
    assert seen.demand[lane] == 5
    assert seen.deadlines == {other.id.text, new.text}
    assert await lanes.redis.execute_command("XLEN", lanes.echo.dead) == 0
    limits = echo_spec().realtime if lane is Lane.REALTIME else echo_spec().bulk
    assert int(fresh["dl"]) - int(fresh["ct"]) == limits.deadline_s * 1000

    (_, _), (name, message) = await messages(lanes, lane)
    assert name == f"{new.text}.0"
    computation = decode_computation(message)
    assert computation.deadline_at_ms == int(fresh["dl"])
    assert computation.enqueued_at_ms == int(fresh["ct"])
    assert [row.json for row in values_of(message)] == [b"0", b"1"]

    first, second = await read(worker, 2)
    assert first.prediction == other.id.text
    assert second.attempt == 1
    assert await worker.settle([settlement(second)]) == [SettleOutcome.ENDED]
    prediction = await Records(lanes.redis, lanes.keys).prediction(new)
    assert prediction is not None
    assert (prediction.status, prediction.retry_of) == (Status.SUCCEEDED, one.id.text)
    assert prediction.input == {"value": [0, 1]}
    old = await Records(lanes.redis, lanes.keys).prediction(one.id)
    assert old is not None
    assert (old.status, old.retry_of) == (Status.FAILED, None)


@pytest.mark.parametrize(("part", "settled"), [(0, 0), (2, 0), (1, 1), (3, 3), (2, 1)])
async def test_a_replay_of_a_prediction_in_parts_is_whole_whatever_had_settled(
    lanes: LaneServer, part: int, settled: int
) -> None:
    worker = await join(lanes)
    one = numbered(3, 1, 2, 4, lane=Lane.BULK)
    await die(lanes, worker, one, part=part, settled=settled)
    assert await lanes.redis.execute_command("EXISTS", lanes.echo.parts + one.id.text) == 0
    await lanes.redis.execute_command("DEL", lanes.echo.record(one.id.text))
    new = await revive(lanes, one.id)
    queued = await messages(lanes, Lane.BULK)
    assert [name for name, _ in queued] == [f"{new.text}.{number}" for number in range(4)]
    assert [row.json for _, message in queued for row in values_of(message)] == [
        b"%d" % row for row in range(10)
    ]
    assert [decode_computation(message).first_row for _, message in queued] == [0, 3, 4, 6]
    assert (await view(lanes)).demand[Lane.BULK] == 10
    deliveries = await read(worker, 4)
    assert await worker.settle([settlement(delivery) for delivery in deliveries]) == [1, 1, 1, 2]


async def test_parts_settled_in_the_very_call_that_makes_the_letter_are_in_it(
    lanes: LaneServer,
) -> None:
    worker = await join(lanes)
    one = numbered(1, 1, 1)
    await enqueue(lanes, one)
    first, second, third = await read(worker, 3)
    outputs = lanes.echo.outputs(one.id.text, 0, 1)
    spilled = msgspec.structs.replace(
        settlement(first, outputs=(), spilled=outputs), spilled=encode_outputs((Value(b"0"),))
    )
    told = [spilled, settlement(third), settlement(second, Status.FAILED, dead=REASON)]
    assert await worker.settle(told) == [1, 1, 2]
    (letter,) = await letters_of(lanes).of_prediction(one.id)
    assert (await letters_of(lanes).open(one.id, letter)).parts == one.parts


async def test_rows_of_settled_parts_are_kept_no_longer_than_they_may_be_needed(
    lanes: LaneServer,
) -> None:
    worker = await join(lanes)
    succeeds, canceled, alone = numbered(1, 1), numbered(1, 1), numbered(1)
    await enqueue(lanes, succeeds, canceled, alone)
    first, second, third, _, fifth = await read(worker, 5)
    await worker.settle([settlement(first), settlement(third), settlement(fifth)])
    kept = [lanes.echo.parts + one.id.text for one in (succeeds, canceled, alone)]
    for key in kept[:2]:
        assert 3_600_000 < await ttl_ms(lanes.redis, key) <= LONG_MS + 3_600_000
    await worker.settle([settlement(second)])
    await finish(lanes, canceled.id)
    exist = [await lanes.redis.execute_command("EXISTS", key) for key in kept]
    assert exist == [0, 0, 0]


async def test_a_replay_whose_answer_is_lost_is_neither_lost_nor_doubled(
    lanes: LaneServer,
) -> None:
    """The script runs, the answer doesn't come, and the call is repeated."""

    class Lossy:
        def __init__(self) -> None:
            self.calls = 0

        async def execute_command(self, *args: Any, **options: Any) -> Any:
            answer = await lanes.redis.execute_command(*args, **options)
            if args[0].startswith("EVAL"):
                self.calls += 1
                if self.calls == 1:
                    raise RedisConnectionError("the answer is lost")
            return answer

    worker = await join(lanes)
    one = numbered(1, 2)
    await die(lanes, worker, one)
    found = await letters_of(lanes).of_prediction(one.id)
    lossy = Lossy()
    new = await DeadLetters(lossy, lanes.keys).replay(one.id, found, echo_spec(), retain_ms=50_000)
    assert lossy.calls >= 2
    assert [name for name, _ in await messages(lanes, Lane.REALTIME)] == [
        f"{new.text}.0",
        f"{new.text}.1",
    ]
    assert (await view(lanes)).demand[Lane.REALTIME] == 3
    assert await lanes.redis.execute_command("XLEN", lanes.echo.dead) == 0


async def test_of_many_who_replay_the_same_letter_one_does(lanes: LaneServer) -> None:
    worker = await join(lanes)
    one = submission()
    await die(lanes, worker, one)
    letters = letters_of(lanes)
    found = await letters.of_prediction(one.id)
    tries = await asyncio.gather(
        *(letters.replay(one.id, found, echo_spec(), retain_ms=1) for _ in range(5)),
        return_exceptions=True,
    )
    assert sum(isinstance(new, PredictionId) for new in tries) == 1
    assert sum(isinstance(error, NotFound) for error in tries) == 4
    assert (await view(lanes)).queued == 1


async def test_a_full_lane_refuses_a_replay_and_the_letter_stays(lanes: LaneServer) -> None:
    worker = await join(lanes)
    one, waiting = submission(3), submission(2)
    await die(lanes, worker, one)
    await enqueue(lanes, waiting)
    before = await view(lanes)
    with pytest.raises(LaneFull, match="no room for 3 more rows"):
        await revive(lanes, one.id, echo_spec(realtime_rows=4))
    assert await view(lanes) == before
    await revive(lanes, one.id, echo_spec(realtime_rows=5))
    assert (await view(lanes)).demand[Lane.REALTIME] == 5


async def test_who_was_to_be_told_of_a_dead_prediction_is_told_of_its_replay(
    lanes: LaneServer,
) -> None:
    notice = Notice((Event.START, Event.COMPLETED), url="https://hooks.example/a").packed()
    worker = await join(lanes)
    one, nobodys = submission(1, 1, notice=notice), submission()
    await die(lanes, worker, one, part=1)
    await die(lanes, worker, nobodys)
    await lanes.redis.execute_command("DEL", lanes.echo.record(one.id.text), lanes.echo.outbox)
    new = await revive(lanes, one.id)
    await revive(lanes, nobodys.id)
    for delivery in await read(worker, 3):
        await worker.settle([settlement(delivery)])
    found = await outbox.written(lanes.redis, lanes.echo.outbox, most=100)
    assert [(told.subject, told.event, told.notice) for told in found] == [
        (new.text, "start", notice),
        (new.text, "completed", notice),
    ]


async def test_a_replay_of_which_nobody_can_be_told_is_refused_and_the_letter_stays(
    lanes: LaneServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    notice = Notice((Event.COMPLETED,), url="https://hooks.example/a").packed()
    worker = await join(lanes)
    one, nobodys = submission(notice=notice), submission()
    await die(lanes, worker, one)
    await die(lanes, worker, nobodys)
    monkeypatch.setattr(scripts, "MAX_WRITTEN", 1)
    with pytest.raises(Unavailable, match="See that a background is running"):
        await revive(lanes, one.id)
    assert await messages(lanes, Lane.REALTIME) == []
    await revive(lanes, nobodys.id)
    await lanes.redis.execute_command("DEL", lanes.echo.outbox)
    await revive(lanes, one.id)
    assert len(await messages(lanes, Lane.REALTIME)) == 2


async def test_a_server_that_refuses_to_write_keeps_the_letter(
    lanes: LaneServer,
) -> None:
    worker = await join(lanes)
    one = submission()
    await die(lanes, worker, one)
    await lanes.redis.execute_command("DEL", lanes.echo.demand)
    await lanes.redis.execute_command("SET", lanes.echo.demand, "no hash")
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        await revive(lanes, one.id)
    assert len(await letters_of(lanes).of_prediction(one.id)) == 1
    assert await messages(lanes, Lane.REALTIME) == []


async def test_a_message_of_another_release_is_refused_and_the_letter_stays(
    lanes: LaneServer,
) -> None:
    worker = await join(lanes)
    message = encode(Computation((ValueRow(b"1"),), 0, LONG_MS, wire=99))
    one = msgspec.structs.replace(submission(), parts=(Part(1, message),))
    garbled = msgspec.structs.replace(submission(), parts=(Part(1, b"\xc1"),))
    await die(lanes, worker, one)
    await die(lanes, worker, garbled)
    for id_, said in ((one.id, "another release wrote its rows"), (garbled.id, "can't be read")):
        with pytest.raises(ForebayError, match=said):
            await revive(lanes, id_)
        (letter,) = await letters_of(lanes).of_prediction(id_)
        contents = await letters_of(lanes).open(id_, letter)
        with pytest.raises(ForebayError, match=said):
            contents.computation()


async def test_a_field_that_a_newer_release_has_added_is_replayed_with_the_rest(
    lanes: LaneServer,
) -> None:
    worker = await join(lanes)
    known = msgspec.msgpack.decode(submission().parts[0].message)
    message = msgspec.msgpack.encode({**known, "new": "kept"})
    one = msgspec.structs.replace(submission(), parts=(Part(1, message),))
    await die(lanes, worker, one)
    await revive(lanes, one.id)
    ((_, replayed),) = await messages(lanes, Lane.REALTIME)
    fields = msgspec.msgpack.decode(replayed)
    assert fields["new"] == "kept"
    assert fields["e"] > known["e"]


async def test_a_letter_without_all_of_its_prediction_says_so(lanes: LaneServer) -> None:
    worker = await join(lanes)
    one = numbered(1, 1)
    await enqueue(lanes, one)
    first, second = await read(worker, 2)
    await worker.settle([settlement(first)])
    await lanes.redis.execute_command("DEL", lanes.echo.parts + one.id.text)
    await worker.settle([settlement(second, Status.FAILED, dead=REASON)])
    (letter,) = await letters_of(lanes).of_prediction(one.id)
    assert letter.lacks == "gone"
    contents = await letters_of(lanes).open(one.id, letter)
    assert (contents.message, contents.parts) == (one.parts[1].message, ())
    with pytest.raises(ForebayError, match="part of it was gone already"):
        await revive(lanes, one.id)


async def test_a_letter_that_is_no_letter_is_told_all_the_same(lanes: LaneServer) -> None:
    await lanes.redis.execute_command("XADD", lanes.echo.dead, "*", "at", "x" * 20, "b", b"\xff")
    (letter,) = await letters_of(lanes).every("echo")
    assert (letter.prediction, letter.at_ms, letter.lacks) == ("", 0, "release")
    assert "another release" in letter.why_not
    assert await letters_of(lanes).drop("echo", [letter]) == 1


async def test_all_letters_of_a_prediction_leave_with_its_replay(lanes: LaneServer) -> None:
    """A release that lets a prediction go on after a part has died makes several."""
    worker = await join(lanes)
    one = numbered(1, 2)
    await enqueue(lanes, one)
    for delivery in await read(worker, 2):
        await worker.settle([settlement(delivery, Status.SUCCEEDED, dead=REASON)])
    found = await letters_of(lanes).of_prediction(one.id)
    assert [letter.part for letter in found] == [1, 0]
    await revive(lanes, one.id)
    assert await lanes.redis.execute_command("XLEN", lanes.echo.dead) == 0
    assert (await view(lanes)).demand[Lane.REALTIME] == 3


async def test_dropped_letters_are_gone_and_only_those(lanes: LaneServer) -> None:
    worker = await join(lanes)
    several = [submission() for _ in range(3)]
    for one in several:
        await die(lanes, worker, one)
    letters = letters_of(lanes)
    found = await letters.of_prediction(several[1].id)
    assert await letters.drop("echo", found) == 1
    assert await letters.drop("echo", found) == 0
    left = [letter.prediction for letter in await letters.every("echo")]
    assert left == [several[2].id.text, several[0].id.text]
    with pytest.raises(NotFound, match="meanwhile"):
        await letters.open(several[1].id, found[0])


def of_size(size: int, *, input: bytes = b"") -> Submission:
    """A prediction of one row of so many bytes."""
    message = encode(Computation((ValueRow(b"1" * size),), 0, LONG_MS))
    return msgspec.structs.replace(submission(input=input), parts=(Part(1, message),))


async def taken(lanes: LaneServer) -> tuple[list[Letter], int]:
    found = await letters_of(lanes).every("echo")
    return found, sum(letter.bytes for letter in found)


async def test_the_bytes_of_dead_letters_are_bounded_and_the_oldest_go_first(
    lanes: LaneServer,
) -> None:
    worker = await join(lanes, dead_letter_max_bytes=10_000)
    small = [of_size(100) for _ in range(60)]
    for one in small:
        await die(lanes, worker, one)
    found, held = await taken(lanes)
    assert 9_500 < held <= 10_000
    newest = [one.id.text for one in reversed(small)]
    assert [letter.prediction for letter in found] == newest[: len(found)]
    # A large one takes the room of several.
    before = len(found)
    await die(lanes, worker, of_size(2_000))
    found, held = await taken(lanes)
    assert held <= 10_000
    assert len(found) < before - 5
    # What is taken out of the middle, and what is trimmed, leaves nothing wrong for ever.
    letters = letters_of(lanes)
    assert await letters.drop("echo", found[1:-1]) == len(found) - 2
    for one in (of_size(2_000) for _ in range(10)):
        await die(lanes, worker, one)
    found, held = await taken(lanes)
    assert 8_000 < held <= 10_000
    await lanes.redis.execute_command("XTRIM", lanes.echo.dead, "MAXLEN", 0)
    await die(lanes, worker, of_size(100))
    assert len((await taken(lanes))[0]) == 1


async def test_a_letter_takes_a_quarter_of_the_bytes_at_most_and_says_what_it_lacks(
    lanes: LaneServer,
) -> None:
    worker = await join(lanes, dead_letter_max_bytes=20_000)
    fits, with_input, too_large = of_size(4_000), of_size(3_000, input=b"1" * 3_000), of_size(5_000)
    for one in (fits, with_input, too_large):
        await die(lanes, worker, one)
    letters = letters_of(lanes)
    third, second, first = await letters.every("echo")
    assert [first.lacks, second.lacks, third.lacks] == ["", "large", "large"]
    assert all(letter.bytes <= 5_000 for letter in (first, second, third))
    # The rows that died can be looked at where they fit.
    assert (await letters.open(with_input.id, second)).message == with_input.parts[0].message
    assert (await letters.open(too_large.id, third)).message is None
    with pytest.raises(ForebayError, match="too large to be kept whole"):
        await revive(lanes, with_input.id)


async def test_a_redis_that_goes_away_in_a_replay_leaves_it_open_what_became_of_it(
    real_lanes: LaneServer,
) -> None:
    class Gone:
        def __init__(self, redis: Commands) -> None:
            self._redis = redis

        async def execute_command(self, *args: Any, **options: Any) -> Any:
            if args[0].startswith("EVAL"):
                raise RedisConnectionError("gone")
            return await self._redis.execute_command(*args, **options)

    worker = await join(real_lanes)
    one = submission()
    await die(real_lanes, worker, one)
    found = await letters_of(real_lanes).of_prediction(one.id)
    gone = DeadLetters(Gone(real_lanes.redis), real_lanes.keys)
    with pytest.raises(Unavailable, match="If its dead letter is still there it was not"):
        await gone.replay(one.id, found, echo_spec(), retain_ms=1)
    assert len(await letters_of(real_lanes).of_prediction(one.id)) == 1


def test_the_bound_by_default_holds_the_largest_request_by_default() -> None:
    """A body, and as much again of rows."""
    settings = Settings()
    assert settings.dead_letter_max_bytes / 4 > 2 * settings.max_body_bytes
