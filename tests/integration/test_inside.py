"""A gateway without a socket, as batch files, Celery and brokers ask it."""

import asyncio
import json
from collections.abc import AsyncIterator

import pytest

from forebay.contract.errors import InvalidInput, NotFound, Unavailable
from forebay.contract.prediction import Lane, PredictionId, Status
from forebay.gateway.inside import Inside
from forebay.gateway.versions import StoredVersions
from forebay.lanes.keys import Keys
from forebay.lanes.lane import caller_of
from forebay.runtime.redis import Commands, connect
from forebay.runtime.settings import Settings
from forebay.storage.artifacts import ArtifactStore
from tests.fixtures.answering import TOO_LONG_WORDS, answering
from tests.fixtures.gateway import MODELS, NO_ARTIFACTS
from tests.fixtures.servers import TIMEOUT_S
from tests.fixtures.waiting import eventually

TOO_LONG = json.dumps({"text": "word " * 2 * TOO_LONG_WORDS}).encode()


@pytest.fixture
async def inside(redis_url: str, key_prefix: str) -> AsyncIterator[Inside]:
    settings = Settings(redis_url=redis_url, key_prefix=key_prefix)
    built = Inside(settings, MODELS, versions=StoredVersions(ArtifactStore(NO_ARTIFACTS)))
    async with built.running():
        yield built


async def test_an_input_comes_to_an_output_by_way_of_the_bulk_lane(
    inside: Inside, redis_url: str, keys: Keys
) -> None:
    async with answering(redis_url, keys, "echo") as delivered:
        told = await inside.predict("echo", b'{"value": {"a": [1, 2]}}', key="one")
    assert (told.status, json.loads(told.output)) == (Status.SUCCEEDED, {"a": [1, 2]})
    assert [delivery.lane for delivery in delivered] == [Lane.BULK]


async def test_what_waits_is_whose_it_is_asked_for(
    inside: Inside, redis_url: str, keys: Keys
) -> None:
    client = connect(redis_url, timeout_s=TIMEOUT_S)
    redis: Commands = client
    # As few are ready as there can be, and others wait.
    await redis.execute_command("HSET", keys.of("echo").demand, "ready", 0)
    calls = [
        asyncio.create_task(inside.predict("echo", b'{"value": %d}' % n, key=f"{n}", behalf="many"))
        for n in range(20)
    ]

    async def waits(behalf: str, rows: int) -> bool:
        own = keys.of("echo").waiting(Lane.BULK, caller_of(behalf.encode()))
        return bool(await redis.execute_command("XLEN", own) == rows)

    await eventually(lambda: waits("many", 12), what="all but what is ready waits")
    other = inside.predict("echo", b'{"value": "a few"}', key="other", behalf="few")
    calls.append(asyncio.create_task(other))
    await eventually(lambda: waits("few", 1), what="the other waits")
    body = b'{"version": "echo", "input": {"value": "a line"}}'
    asked = inside.answer("/v1/predictions", body, key="line 1", behalf="batch_1")
    line = asyncio.create_task(asked)
    await eventually(lambda: line.done() or waits("batch_1", 1), what="the batch's line waits")
    async with answering(redis_url, keys, "echo") as delivered:
        await asyncio.gather(*calls)
        answered = await line
        await eventually(lambda: len(delivered) == 22, what="all were run")
    assert answered.status == 201, answered.body
    assert not await redis.execute_command("EXISTS", keys.of("echo").turns(Lane.BULK))
    await client.aclose()


async def test_what_is_asked_for_twice_runs_once_and_is_told_twice(
    inside: Inside, redis_url: str, keys: Keys
) -> None:
    async with answering(redis_url, keys, "echo") as delivered:
        first, second = await asyncio.gather(
            inside.predict("echo", b'{"value": 1}', key="same"),
            inside.predict("echo", b'{"value": 1}', key="same"),
        )
        third = await inside.predict("echo", b'{"value": 1}', key="same")
    assert first == second == third
    assert len(delivered) == 1


async def test_a_failure_is_an_outcome_and_a_wrong_input_is_refused(
    inside: Inside, redis_url: str, keys: Keys
) -> None:
    async with answering(redis_url, keys, "minilm") as delivered:
        told = await inside.predict("minilm", TOO_LONG, key="long")
        with pytest.raises(InvalidInput):
            await inside.predict("minilm", b'{"words": "?"}', key="wrong")
        with pytest.raises(NotFound):
            await inside.predict("nobody", b"{}", key="none")
    assert (told.status, told.output) == (Status.FAILED, b"null")
    assert told.error is not None
    assert "too long" in told.error.message
    assert len(delivered) == 1


async def test_what_is_canceled_by_its_key_is_told_so(
    inside: Inside, redis_url: str, keys: Keys
) -> None:
    asked = asyncio.create_task(inside.predict("echo", b'{"value": 1}', key="gone"))
    await _enqueued(redis_url, keys, "echo", "gone")
    await inside.cancel("echo", "gone")
    assert (await asked).status is Status.CANCELED


async def test_what_takes_too_long_has_ended_when_it_is_told(inside: Inside) -> None:
    told = await inside.predict("echo", b'{"value": 1}', key="slow", within_s=0.05)
    assert told.status in (Status.CANCELED, Status.EXPIRED)


async def test_what_is_let_go_of_goes_on_and_is_there_for_the_next(
    inside: Inside, redis_url: str, keys: Keys, key_prefix: str
) -> None:
    asked = asyncio.create_task(inside.predict("echo", b'{"value": 1}', key="left"))
    await _enqueued(redis_url, keys, "echo", "left")
    inside.abandon()
    with pytest.raises(Unavailable):
        await asked
    next_ = Inside(Settings(redis_url=redis_url, key_prefix=key_prefix), MODELS)
    async with next_.running(), answering(redis_url, keys, "echo") as delivered:
        told = await next_.predict("echo", b'{"value": 1}', key="left")
    assert told.status is Status.SUCCEEDED
    assert len(delivered) == 1


async def test_what_is_forgotten_is_gone_and_may_be_forgotten_again(
    inside: Inside, redis_url: str, keys: Keys
) -> None:
    async with answering(redis_url, keys, "echo"):
        told = await inside.predict("echo", b'{"value": 1}', key="done")
    await inside.forget(told.id)
    await inside.forget(told.id)
    async with connect(redis_url, timeout_s=TIMEOUT_S) as redis:
        assert not await redis.exists(keys.of("echo").record(told.id))


async def test_a_dialect_answers_as_it_does_its_clients_and_once_for_each_key(
    inside: Inside, redis_url: str, keys: Keys
) -> None:
    body = json.dumps({"model": "minilm", "input": ["one", "two"]}).encode()
    async with answering(redis_url, keys, "minilm") as delivered:
        first = await inside.answer("/v1/embeddings", body, key="line 1")
        again = await inside.answer("/v1/embeddings", body, key="line 1")
        wrong = await inside.answer("/v1/embeddings", b'{"model": "minilm"}', key="line 2")
        nowhere = await inside.answer("/v1/nowhere", b"{}", key="line 3")
    assert first.status == again.status == 200
    assert first.body == again.body
    assert len(json.loads(first.body)["data"]) == 2
    assert first.headers["x-request-id"].startswith("req_")
    assert [delivery.lane for delivery in delivered] == [Lane.BULK]
    assert (wrong.status, nowhere.status) == (400, 404)
    assert "input" in json.loads(wrong.body)["error"]["message"]


async def _enqueued(url: str, keys: Keys, model: str, key: str) -> None:
    record = keys.of(model).record(PredictionId.derived(model, key).text)
    async with connect(url, timeout_s=TIMEOUT_S) as redis:

        async def there() -> bool:
            return bool(await redis.exists(record))

        await eventually(there, what="it is on its lane")
