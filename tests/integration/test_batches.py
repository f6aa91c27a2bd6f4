"""Batches that are run, left, gone on with, cancelled and late."""

import struct
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from redis.asyncio import Redis

from forebay.contract.batches import Batch, BatchStatus, Usage
from forebay.contract.model import LaneLimits
from forebay.contract.prediction import Lane
from forebay.contract.rows import TextRow
from forebay.lanes.depth import depth
from forebay.lanes.keys import Keys
from forebay.records.batch_leases import FileIds, Held, LeaseLost, fields_of, free, take
from forebay.records.keys import batch_keys, webhook_keys
from forebay.records.outbox import Written, written
from forebay.runtime.catalog import Catalog
from forebay.runtime.process import is_gone, process_name
from forebay.runtime.redis import Commands, connect
from forebay.runtime.settings import Settings
from forebay.storage.segments import Segments
from tests.fixtures.answering import TOO_LONG_WORDS, answering, vector_of
from tests.fixtures.batching import Batched, batches_running, embedding, jsonl, line
from tests.fixtures.gateway import MODELS
from tests.fixtures.processes import other_process
from tests.fixtures.servers import TIMEOUT_S
from tests.fixtures.waiting import eventually


@pytest.fixture
def settings(redis_url: str, key_prefix: str, tmp_path: Path) -> Settings:
    return Settings(redis_url=redis_url, key_prefix=key_prefix, home=str(tmp_path))


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    async with connect(redis_url, timeout_s=TIMEOUT_S) as client:
        yield client


@pytest.fixture
def batched(settings: Settings, redis: Redis) -> Batched:
    return Batched(settings, redis)


def numbered(count: int) -> bytes:
    return jsonl(embedding(f"id {number}", f"text {number}") for number in range(count))


def ids(lines: list[dict[str, object]]) -> list[str]:
    return [str(one["custom_id"]) for one in lines]


async def waiting(redis: Redis, keys: Keys, model: str) -> int:
    """Rows in a model's bulk lane."""
    return (await depth(redis, keys.of(model), now_ms=0)).bulk


async def test_every_line_has_one_line_of_output_though_another_goes_on_with_the_batch(
    batched: Batched, settings: Settings, redis_url: str, keys: Keys
) -> None:
    made = await batched.make(numbered(1_500))
    async with answering(redis_url, keys, "minilm") as delivered:
        async with batches_running(settings):

            async def begun() -> bool:
                return (await batched.batches.get(made.id)).counts.completed > 0

            await eventually(begun, what="some lines are done")
        left = await batched.batches.get(made.id)
        async with batches_running(settings):
            done = await batched.ended(made)
    assert left.status in (BatchStatus.IN_PROGRESS, BatchStatus.FINALIZING, BatchStatus.COMPLETED)
    assert (done.status, done.error_file_id) == (BatchStatus.COMPLETED, None)
    assert done.counts == msgspec.structs.replace(done.counts, total=1_500, completed=1_500)
    assert sorted(ids(batched.output(done))) == sorted(f"id {number}" for number in range(1_500))
    ran = sum(len(one.computation.rows) for one in delivered if one.computation is not None)
    assert 1_500 <= ran <= 1_500 + left.counts.total - left.counts.completed
    assert len(delivered) < 1_500  # lines run together
    assert done.usage == Usage(input=4 * 1_500)  # what ran again is not paid for again
    assert batched.files.segments.names() == []
    assert {delivery.lane for delivery in delivered} == {Lane.BULK}


async def test_who_has_lost_a_batch_writes_nothing_of_it_any_more(batched: Batched) -> None:
    made = await batched.make(numbered(2))
    (old,) = await take(batched.batches, lease_s=0.0, most=1, who="old")
    chosen = FileIds(batched.files.new_id(), batched.files.new_id())
    await old.turn(BatchStatus.IN_PROGRESS, fields_of(total=2, files=chosen))

    async def lapsed() -> list[Held]:
        return await take(batched.batches, lease_s=60.0, most=1, who="new")

    (new,) = await eventually(lapsed, what="the lease is over")
    assert new.mark != old.mark
    segments = Segments(batched.files, chosen.out)
    segments.put(1, [b"of the old\n"])
    with pytest.raises(LeaseLost):
        await old.keep(completed=1, failed=0, usage=Usage(), out=1, err=None, lines=[0])
    with pytest.raises(LeaseLost):
        await old.turn(BatchStatus.FINALIZING)
    with pytest.raises(LeaseLost):
        await old.renew()
    segments.put(2, [b"of the new\n"])
    for _ in range(2):  # an answer that was lost is no reason to count twice
        await new.keep(completed=2, failed=0, usage=Usage(7, 2, 1), out=2, err=None, lines=[0, 1])
    found = await batched.batches.get(made.id)
    assert (found.counts.completed, found.usage) == (2, Usage(7, 2, 1))
    progress = await new.progress()
    assert (list(progress.out), list(progress.err)) == ([2], [])
    assert [progress.has(number) for number in range(3)] == [True, True, False]


async def test_a_batch_of_a_killed_process_is_taken_before_its_lease_is_over(
    batched: Batched, settings: Settings, redis_url: str, keys: Keys
) -> None:
    made = await batched.make(numbered(1))
    patient = msgspec.structs.replace(settings, lease_s=3_600.0)
    with other_process() as (who, kill):
        (dead,) = await take(batched.batches, lease_s=3_600.0, most=1, who=who)
        assert await free(batched.batches, is_gone) == 0
        async with answering(redis_url, keys, "minilm"), batches_running(patient):
            kill()
            done = await batched.ended(made)
    assert done.status is BatchStatus.COMPLETED
    with pytest.raises(LeaseLost):
        await dead.renew()


async def test_what_is_held_by_others_is_not_given_back(batched: Batched) -> None:
    await batched.make(numbered(1))
    with other_process() as (who, kill):
        (dead,) = await take(batched.batches, lease_s=3_600.0, most=1, who=who)
        kill()
        await eventually(lambda: is_gone(who), what="the process has ended")
    assert await free(batched.batches, is_gone) == 1
    (held,) = await take(batched.batches, lease_s=3_600.0, most=1, who=process_name())
    assert await free(batched.batches, is_gone) == 0
    with pytest.raises(LeaseLost):
        await dead.renew()
    await dead.release()  # who finds it ended once more gives back nothing
    assert await take(batched.batches, lease_s=3_600.0, most=1, who=process_name()) == []
    assert (await held.renew())[0] is BatchStatus.VALIDATING


async def test_lines_at_fault_are_told_as_errors_and_the_rest_goes_on(
    batched: Batched, settings: Settings, redis_url: str, keys: Keys
) -> None:
    content = jsonl(
        [
            embedding("streamed", "one", stream=True),
            embedding("behind", "one", background=True),
            embedding("long", "word " * 2 * TOO_LONG_WORDS),
            line("unknown", {"model": "nobody", "input": "one"}),
            line("wrong", {"model": "minilm"}),
            embedding("fine", "one"),
        ]
    )
    made = await batched.make(content)
    async with answering(redis_url, keys, "minilm"), batches_running(settings):
        done = await batched.ended(made)
    assert ids(batched.output(done)) == ["fine"]
    told = {one["custom_id"]: one["response"] for one in batched.errors(done)}
    assert {name: one["status_code"] for name, one in told.items()} == {
        "streamed": 400, "behind": 400, "long": 400, "unknown": 404, "wrong": 400,
    }  # fmt: skip
    assert "can't be streamed" in told["streamed"]["body"]["error"]["message"]
    assert "can't be streamed" in told["behind"]["body"]["error"]["message"]


async def test_lines_that_run_together_get_their_own_outputs_and_their_own_errors(
    batched: Batched, settings: Settings, redis_url: str, keys: Keys
) -> None:
    def text(number: int) -> str:
        return "word " * 2 * TOO_LONG_WORDS if number in (0, 17, 250) else f"text {number}"

    lines = [embedding(f"id {number}", text(number)) for number in range(400)]
    lines[30]["body"]["input"] = ["first", "second"]
    made = await batched.make(jsonl(lines))
    async with answering(redis_url, keys, "minilm") as delivered, batches_running(settings):
        done = await batched.ended(made)
    assert any(one.computation and len(one.computation.rows) > 4 for one in delivered)
    assert (done.counts.completed, done.counts.failed) == (397, 3)
    answers = {one["custom_id"]: one["response"]["body"]["data"] for one in batched.output(done)}
    assert len(answers) == 397
    for number in range(400):
        given = ["first", "second"] if number == 30 else [text(number)]
        if f"id {number}" in answers:
            told = answers[f"id {number}"]
            vectors = [struct.pack("<8f", *one["embedding"]) for one in told]
            assert vectors == [vector_of(TextRow(one)) for one in given]
    errors = {one["custom_id"]: one["response"] for one in batched.errors(done)}
    assert {name: one["status_code"] for name, one in errors.items()} == dict.fromkeys(
        ("id 0", "id 17", "id 250"), 400
    )
    told = {one["body"]["error"]["message"] for one in errors.values()}
    assert told == {"Row 0: too long for the model."}


async def test_a_file_at_fault_fails_the_batch_and_no_other(
    batched: Batched, settings: Settings, redis_url: str, keys: Keys
) -> None:
    wrong = await batched.make(numbered(1) + b"{\n" + numbered(1))
    right = await batched.make(numbered(1))
    async with answering(redis_url, keys, "minilm") as delivered, batches_running(settings):
        failed, done = await batched.ended(wrong), await batched.ended(right)
    assert (failed.status, done.status) == (BatchStatus.FAILED, BatchStatus.COMPLETED)
    assert [(fault.line, fault.code) for fault in failed.faults] == [
        (2, "invalid_json_line"),
        (3, "duplicate_custom_id"),
    ]
    assert (failed.output_file_id, failed.error_file_id) == (None, None)
    assert len(delivered) == 1


async def test_a_cancelled_batch_lets_go_of_its_lanes_and_keeps_what_is_done(
    batched: Batched, settings: Settings, redis: Redis, redis_url: str, keys: Keys
) -> None:
    nobody_runs = [line(f"left {at}", {"model": "narrow", "input": "x"}) for at in range(300)]
    made = await batched.make(numbered(50) + jsonl(nobody_runs))

    async def standing() -> bool:
        done = (await batched.batches.get(made.id)).counts.completed
        return done == 50 and await waiting(redis, keys, "narrow") > 0

    async with answering(redis_url, keys, "minilm"), batches_running(settings):
        await eventually(standing, what="what can run has run")
        assert await batched.batches.cancel(made.id) is BatchStatus.IN_PROGRESS
        done = await batched.ended(made)

        async def empty() -> bool:
            return not await waiting(redis, keys, "narrow")

        await eventually(empty, what="the lane is empty")
    assert (done.status, done.counts.completed, done.counts.failed) == ("cancelled", 50, 0)
    assert sorted(ids(batched.output(done))) == sorted(f"id {number}" for number in range(50))
    assert done.error_file_id is None


async def test_what_is_not_done_in_the_window_is_told_as_expired(
    batched: Batched, settings: Settings, redis: Redis, keys: Keys
) -> None:
    made = await batched.make(numbered(300))
    client: Commands = redis
    await client.execute_command("HSET", batch_keys(keys).batch(made.id), "ex", 1)
    async with batches_running(settings):
        done = await batched.ended(made)
    assert done.status is BatchStatus.EXPIRED
    assert (done.counts.total, done.counts.completed, done.counts.failed) == (300, 0, 300)
    told = batched.errors(done)
    assert sorted(ids(told)) == sorted(f"id {number}" for number in range(300))
    assert {(one["response"], one["error"]["code"]) for one in told} == {(None, "batch_expired")}


async def test_a_lane_that_is_full_is_asked_again(
    batched: Batched, settings: Settings, redis: Redis, redis_url: str, keys: Keys
) -> None:
    spec = msgspec.structs.replace(MODELS.models["minilm"], bulk=LaneLimits(max_rows=4))
    made = await batched.make(numbered(12))
    async with batches_running(settings, catalog=Catalog({"minilm": spec})):

        async def full() -> bool:
            return await waiting(redis, keys, "minilm") == 4

        await eventually(full, what="the lane is full")
        async with answering(redis_url, keys, "minilm"):
            done = await batched.ended(made)
    assert done.counts == msgspec.structs.replace(done.counts, total=12, completed=12, failed=0)


async def test_the_ends_of_batches_are_in_the_outbox(
    batched: Batched, settings: Settings, redis: Redis, redis_url: str, keys: Keys
) -> None:
    done, failed = await batched.make(numbered(1)), await batched.make(b"{\n")
    async with answering(redis_url, keys, "minilm"), batches_running(settings):

        async def both() -> list[Written] | None:
            found = await written(redis, webhook_keys(keys).outbox, most=10)
            return found if len(found) == 2 else None

        told = await eventually(both, what="both are told of")
    assert {(one.subject, one.event) for one in told} == {
        (done.id, "batch.completed"),
        (failed.id, "batch.failed"),
    }


async def test_who_wants_to_know_is_told_of_an_end_even_by_another_process(
    batched: Batched, settings: Settings, redis_url: str, keys: Keys
) -> None:
    made = await batched.make(numbered(1))
    told: list[Batch] = []

    async def breaks(batch: Batch) -> None:
        told.append(batch)
        raise OSError("the outbox is out of reach")

    async def notes(batch: Batch) -> None:
        told.append(batch)

    hasty = msgspec.structs.replace(settings, lease_s=0.5)
    async with answering(redis_url, keys, "minilm"):
        async with batches_running(hasty, ended=breaks):
            await eventually(lambda: told, what="it is told once")
        async with batches_running(hasty, ended=notes):
            await eventually(lambda: len(told) > 1 and told[-1], what="it is told again")
    assert {(batch.id, batch.status) for batch in told} == {(made.id, BatchStatus.COMPLETED)}
