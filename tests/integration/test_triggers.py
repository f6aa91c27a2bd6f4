"""Events of real brokers run models: memory, filesystem, Redis, RabbitMQ; a real lane, a worker."""

import asyncio
import bz2
import contextlib
import json
import subprocess
import sys
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from kombu import Exchange

from forebay.background.taking.place import Place
from forebay.background.taking.place import Taken as Held
from forebay.background.triggers.forgetting import KEPT_S
from forebay.background.triggers.service import Triggers
from forebay.background.triggers.table import ExchangeType, Mode, ResultTable, Trigger
from forebay.contract.errors import ErrorInfo, ErrorKind
from forebay.contract.messages import Reply
from forebay.contract.model import BackendName, BulkLimits, ModelSpec
from forebay.contract.prediction import Lane, Status
from forebay.contract.rows import Task
from forebay.gateway.inside import Inside
from forebay.gateway.versions import StoredVersions
from forebay.lanes.consumer import Delivery, Settlement
from forebay.lanes.keys import Keys
from forebay.local.server import free_port
from forebay.runtime.catalog import Catalog
from forebay.runtime.redis import connect
from forebay.runtime.settings import Settings
from forebay.storage.artifacts import ArtifactStore
from tests.fixtures.answering import TOO_LONG_WORDS, answering, settle
from tests.fixtures.brokers import Broker, body_of, broker_at, output_of
from tests.fixtures.fleet import fleet
from tests.fixtures.gateway import NO_ARTIFACTS
from tests.fixtures.rabbitmq import MAX_MESSAGE_SIZE, RabbitServer, rabbitmq
from tests.fixtures.relay import relay_to
from tests.fixtures.servers import TIMEOUT_S, Server, new_prefix
from tests.fixtures.shapes import SERVICE, Group
from tests.fixtures.stack import ROOT
from tests.fixtures.waiting import eventually
from tests.integration.test_readme import BLOCK

__all__ = ["rabbitmq"]

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
TOO_LONG = "word " * 2 * TOO_LONG_WORDS
CATALOG = Catalog(
    {
        "echo": ModelSpec(Task.ECHO, BackendName.ECHO, name="echo"),
        "minilm": ModelSpec(Task.EMBEDDING, BackendName.ONNX, source="package:none", name="minilm"),
        "narrow": ModelSpec(
            Task.ECHO, BackendName.ECHO, name="narrow", bulk=BulkLimits(max_rows=2)
        ),
    }
)

LEASE_S = 2.0
EVENTS = 60
PREFETCH = 20
TRIGGERS = """
[triggers.one]
broker = "$BROKER"
queue = "asked"
model = "echo"
prefetch = {prefetch}
options = {options}

[triggers.one.result]
queue = "told"
"""


Running = Callable[..., AbstractAsyncContextManager[None]]


@pytest.fixture(params=["memory", "filesystem", "redis", "rabbitmq"])
def broker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Broker]:
    """Each kind of broker in turn."""
    options: dict[str, Any] = {}
    match request.param:
        case "memory":
            url = "memory://"
        case "filesystem":
            url = "filesystem://"
            for name in ("queues", "control"):
                (tmp_path / name).mkdir()
            options = {
                "data_folder_in": str(tmp_path / "queues"),
                "data_folder_out": str(tmp_path / "queues"),
                "control_folder": str(tmp_path / "control"),
            }
        case "redis":
            url = request.getfixturevalue("redis_url")
            # The server is shared: this keeps to keys of its own.
            options = {"global_keyprefix": f"{new_prefix()}:"}
        case _:
            url = request.getfixturevalue("rabbitmq").url
    with broker_at(url, options) as made:
        yield made


@pytest.fixture
def trigger(broker: Broker) -> Trigger:
    """One on that broker, with queues of its own."""
    return trigger_on(broker)


def trigger_on(broker: Broker, **own: Any) -> Trigger:
    asked = f"asked-{new_prefix()}"
    trigger = Trigger(
        broker.url, asked, "echo", ResultTable(f"{asked}-told"), options=broker.options, name="one"
    )
    return msgspec.structs.replace(trigger, **own)


@pytest.fixture
async def running(redis_url: str, key_prefix: str) -> AsyncIterator[Running]:
    """Runs triggers in this process until a block ends."""
    settings = Settings(redis_url=redis_url, key_prefix=key_prefix)
    inside = Inside(settings, CATALOG, versions=StoredVersions(ArtifactStore(NO_ARTIFACTS)))

    @contextlib.asynccontextmanager
    async def run(*triggers: Trigger, kept_s: float = KEPT_S) -> AsyncIterator[None]:
        made = Triggers(triggers, prefix=key_prefix, lease_s=LEASE_S, kept_s=kept_s)
        task = asyncio.create_task(made.run(inside))
        try:
            yield
            assert not task.done()
        finally:
            task.cancel()
            await asyncio.wait([task])

    async with inside.running():
        yield run


async def taken(take: Callable[..., Any], *words: Any) -> Any:
    """What a blocking call gives, while the loop goes on."""
    return await asyncio.to_thread(take, *words)


async def test_an_event_is_run_and_its_result_published(
    running: Running, broker: Broker, trigger: Trigger, redis_url: str, keys: Keys
) -> None:
    async with answering(redis_url, keys, "echo"), running(trigger):
        broker.tell(trigger.queue, {"value": {"a": 1}}, traceparent=TRACE, subject="it")
        broker.tell(trigger.queue, {"value": 2}, id_="2", binary=True)
        told = await taken(broker.results, trigger.result.queue, 2)
    first, second = sorted(told, key=lambda event: str(event.get_extension("causationid")))
    assert (output_of(first), output_of(second)) == ({"a": 1}, 2)
    assert first.get_type() == "dev.forebay.prediction.succeeded"
    assert (first.get_subject(), first.get_extension("traceparent")) == ("it", TRACE)
    assert first.get_id() != second.get_id()
    assert (broker.left(trigger.queue), broker.left(trigger.dead_letters)) == (0, 0)


async def test_exchanges_are_bound_and_results_may_be_binary(
    running: Running, broker: Broker, redis_url: str, keys: Keys
) -> None:
    name = new_prefix()
    trigger = trigger_on(
        broker,
        exchange=name,
        exchange_type=ExchangeType.TOPIC,
        routing_key="asked.*",
        input={"value": ["$data.words", "$type"]},
        result=ResultTable(
            f"{name}-told",
            exchange=f"{name}-results",
            exchange_type=ExchangeType.DIRECT,
            routing_key="told",
            mode=Mode.BINARY,
        ),
    )
    async with answering(redis_url, keys, "echo"), running(trigger):
        # It is bound before anything is taken from it.
        broker.tell(trigger.queue, {"words": "pool"}, id_="straight")
        await taken(broker.take, trigger.result.queue)
        broker.tell("asked.now", {"words": "river"}, exchange=Exchange(name, type="topic"))
        (message,) = await taken(broker.take, trigger.result.queue)
    assert message.content_type == "application/json"
    assert message.headers["ce-type"] == "dev.forebay.prediction.succeeded"
    assert json.loads(body_of(message))["output"] == ["river", "tests.asked"]


async def test_an_event_that_comes_twice_runs_once_and_its_results_are_the_same(
    running: Running, broker: Broker, trigger: Trigger, redis_url: str, keys: Keys
) -> None:
    async with answering(redis_url, keys, "echo") as delivered, running(trigger):
        for _ in range(2):
            broker.tell(trigger.queue, {"value": 1})
        first, second = await taken(broker.results, trigger.result.queue, 2)
    assert len(delivered) == 1
    assert first.get_id() == second.get_id()
    assert first.get_data() == second.get_data()


async def test_what_is_no_event_or_no_input_is_a_dead_letter_and_the_rest_goes_on(
    running: Running, broker: Broker, redis_url: str, keys: Keys
) -> None:
    trigger = trigger_on(broker, max_bytes=1_000)
    async with answering(redis_url, keys, "echo"), running(trigger):
        broker.send(trigger.queue, b"not JSON", headers={"own": "kept"})
        broker.send(trigger.queue, b"x" * 2_000)
        bomb = zlib.compress(b"x" * 500_000)
        broker.send(trigger.queue, bomb, headers={"compression": "application/x-gzip"})
        packed = json.dumps({"value": "packed"}).encode()
        broker.send(
            trigger.queue,
            bz2.compress(packed),
            headers={
                **{f"ce-{name}": "packed" for name in ("id", "source", "type")},
                "ce-specversion": "1.0",
                "compression": "application/x-bz2",
            },
        )
        broker.tell(trigger.queue, {"words": "?"})
        broker.tell(trigger.queue, None)
        broker.tell(trigger.queue, {"value": 1}, id_="good")
        good = await taken(broker.results, trigger.result.queue, 2)
        dead = await taken(broker.take, trigger.dead_letters, 5)
    assert {str(one.get_extension("causationid")) for one in good} == {"good", "packed"}
    assert "packed" in map(output_of, good)
    reasons = {message.headers["x-forebay-reason"]: message for message in dead}
    assert len(reasons) == 5
    (no_event,) = (one for why, one in reasons.items() if "no specversion" in why)
    assert (body_of(no_event), no_event.headers["own"]) == (b"not JSON", "kept")
    assert no_event.headers["x-forebay-trigger"] == "one"
    for words in ("2,000 bytes", "more than 1,000 bytes", "words", "no data"):
        assert any(words in why for why in reasons), reasons
    assert broker.left(trigger.queue) == 0


async def test_a_dead_letter_that_a_broker_refuses_leaves_a_note_and_the_rest_goes_on(
    running: Running, rabbitmq: RabbitServer, redis_url: str, keys: Keys
) -> None:
    with broker_at(rabbitmq.url) as broker:
        trigger = trigger_on(broker)
        # It fits a frame of AMQP, and does not with what a dead letter says beside it.
        event = {"id": "7", "source": "/tests", "specversion": "1.0"}
        broker.send(
            trigger.queue,
            json.dumps(event).encode(),
            content_type="application/cloudevents+json",
            headers={"large": "x" * 130_950, "own": "kept"},
        )
        broker.tell(trigger.queue, {"value": 1}, id_="good")
        async with answering(redis_url, keys, "echo"), running(trigger):
            (told,) = await taken(broker.results, trigger.result.queue)
            (note,) = await taken(broker.take, trigger.dead_letters)
            assert output_of(told) == 1
            await eventually(lambda: broker.left(trigger.queue) == 0, what="it is done with")
    assert (body_of(note), note.headers["own"]) == (b"", "kept")
    assert "large" not in note.headers
    assert (note.headers["x-forebay-event"], note.headers["x-forebay-trigger"]) == (
        "/tests 7",
        "one",
    )
    assert "no type" in note.headers["x-forebay-reason"]
    assert "frame_too_large" in note.headers["x-forebay-refused"]
    assert note.headers["x-forebay-bytes"] == len(json.dumps(event))


async def test_a_result_that_a_broker_refuses_is_a_dead_letter_and_the_rest_goes_on(
    running: Running, rabbitmq: RabbitServer, redis_url: str, keys: Keys
) -> None:
    with broker_at(rabbitmq.url) as broker:
        trigger = trigger_on(broker, input={"value": ["$data"] * 4})
        broker.tell(trigger.queue, "x" * (MAX_MESSAGE_SIZE // 3), id_="large")
        broker.tell(trigger.queue, "small", id_="small")
        async with answering(redis_url, keys, "echo"), running(trigger):
            (told,) = await taken(broker.results, trigger.result.queue)
            (letter,) = await taken(broker.take, trigger.dead_letters)
            await eventually(lambda: broker.left(trigger.queue) == 0, what="it is done with")
    assert output_of(told) == ["small"] * 4
    assert json.loads(body_of(letter))["id"] == "large"
    assert "larger than" in letter.headers["x-forebay-reason"]


async def test_what_is_too_much_for_headers_of_a_result_is_a_dead_letter(
    running: Running, broker: Broker, redis_url: str, keys: Keys
) -> None:
    asked = f"asked-{new_prefix()}"
    trigger = trigger_on(broker, queue=asked, result=ResultTable(f"{asked}-told", mode=Mode.BINARY))
    async with answering(redis_url, keys, "echo") as delivered, running(trigger):
        broker.tell(trigger.queue, {"value": 1}, subject="x" * 200_000)
        broker.tell(trigger.queue, {"value": 2}, id_="good", subject="x")
        (message,) = await taken(broker.take, trigger.result.queue)
        (letter,) = await taken(broker.take, trigger.dead_letters)
    assert message.headers["ce-subject"] == "x"
    assert "subject" in letter.headers["x-forebay-reason"]
    assert len(delivered) == 1


async def test_a_prediction_that_fails_is_told_of_as_one(
    running: Running, broker: Broker, redis_url: str, keys: Keys
) -> None:
    trigger = trigger_on(broker, model="minilm", input={"text": "$data"}, retries=3)
    async with answering(redis_url, keys, "minilm") as delivered, running(trigger):
        broker.tell(trigger.queue, TOO_LONG, datacontenttype="text/plain")
        (told,) = await taken(broker.results, trigger.result.queue)
    assert told.get_type() == "dev.forebay.prediction.failed"
    data: Any = told.get_data()
    assert (data["output"], data["error"]["kind"]) == (None, "too_long")
    assert len(delivered) == 1, "what was refused is not made anew"


async def test_results_that_nobody_wants_are_dropped_and_their_events_acknowledged(
    running: Running, broker: Broker, redis_url: str, keys: Keys
) -> None:
    trigger = trigger_on(broker, prefetch=1, result=ResultTable(exchange=new_prefix()))
    async with answering(redis_url, keys, "echo") as delivered, running(trigger):
        for number in range(2):
            broker.tell(trigger.queue, {"value": number}, id_=str(number))
        await eventually(lambda: len(delivered) == 2, what="the second is run, too")
    if broker.url != "memory://":
        assert broker.left("ae.undeliver") == 0


async def test_queues_of_others_are_not_made_but_waited_for(
    running: Running,
    rabbitmq: RabbitServer,
    redis_url: str,
    keys: Keys,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with broker_at(rabbitmq.url) as broker:
        trigger = trigger_on(broker, declare=False)
        async with answering(redis_url, keys, "echo"), running(trigger):
            await eventually(
                lambda: "NOT_FOUND" in caplog.text, what="it is told that there is none"
            )
            for queue in (trigger.dead_letters, trigger.result.queue):
                assert broker.left(queue) == 0, "now it is there"
            broker.tell(trigger.queue, {"value": 1})
            (told,) = await taken(broker.results, trigger.result.queue)
    assert output_of(told) == 1


@pytest.fixture
def redis_broker(redis_url: str) -> Iterator[Broker]:
    with broker_at(redis_url, {"global_keyprefix": f"{new_prefix()}:"}) as made:
        yield made


async def test_what_failed_is_made_anew_as_often_as_the_trigger_says(
    running: Running, redis_broker: Broker, redis_url: str, keys: Keys
) -> None:
    trigger = trigger_on(redis_broker, retries=2)
    seen: list[str] = []

    def answer(delivery: Delivery) -> Settlement:
        made = settle(delivery)
        assert delivery.computation is not None
        value = str(delivery.computation.rows[0])
        seen.append(value)
        if "bad" in value or seen.count(value) < 3:
            return msgspec.structs.replace(made, reply=failed(made.reply))
        return made

    async with answering(redis_url, keys, "echo", answer=answer), running(trigger):
        redis_broker.tell(trigger.queue, {"value": "good"}, id_="good")
        redis_broker.tell(trigger.queue, {"value": "bad"}, id_="bad")
        told = await taken(redis_broker.results, trigger.result.queue, 2)
    types = {str(one.get_extension("causationid")): one.get_type() for one in told}
    assert types == {
        "good": "dev.forebay.prediction.succeeded",
        "bad": "dev.forebay.prediction.failed",
    }
    assert len(seen) == 6


def failed(reply: Reply) -> Reply:
    error = ErrorInfo(ErrorKind.BACKEND_FAILED, "The model raised.", 0)
    return msgspec.structs.replace(reply, status=Status.FAILED, outputs=(), error=error)


async def test_a_full_lane_is_waited_for(
    running: Running, redis_broker: Broker, redis_url: str, keys: Keys
) -> None:
    trigger = trigger_on(redis_broker, model="narrow")
    async with running(trigger):
        for number in range(6):
            redis_broker.tell(trigger.queue, {"value": number}, id_=str(number))
        await eventually(lambda: redis_broker.left(trigger.queue) == 0, what="all are taken")
        async with answering(redis_url, keys, "narrow"):
            told = await taken(redis_broker.results, trigger.result.queue, 6)
    assert sorted(map(output_of, told)) == list(range(6))
    assert redis_broker.left(trigger.dead_letters) == 0


async def test_an_outcome_is_kept_for_who_sends_twice_and_then_deleted(
    running: Running, redis_broker: Broker, redis_url: str, keys: Keys
) -> None:
    trigger = trigger_on(redis_broker)
    async with connect(redis_url, timeout_s=TIMEOUT_S) as redis:

        async def kept() -> bool:
            return bool(await redis.keys(f"{keys.prefix}:*record:*"))

        async def gone() -> bool:
            return not await kept()

        async with answering(redis_url, keys, "echo") as delivered:
            for kept_s in (KEPT_S, 0):
                async with running(trigger, kept_s=kept_s):
                    redis_broker.tell(trigger.queue, {"value": 1})
                    await taken(redis_broker.results, trigger.result.queue)
                    await eventually(kept if kept_s else gone, what=f"after {kept_s} s")
    assert len(delivered) == 1


async def test_what_is_laid_on_a_list_and_is_no_message_is_a_dead_letter(
    running: Running, redis_broker: Broker, redis_url: str, keys: Keys
) -> None:
    trigger = trigger_on(redis_broker)
    prefix = redis_broker.options["global_keyprefix"]
    async with answering(redis_url, keys, "echo"), running(trigger):
        odd = (b"not JSON", b"[]", b'{"body": 4}', b'{"body": "?", "properties": null}', b"\xff")
        async with connect(redis_url, timeout_s=TIMEOUT_S) as redis:
            await redis.lpush(f"{prefix}{trigger.queue}", *odd)
        redis_broker.tell(trigger.queue, {"value": 1})
        (told,) = await taken(redis_broker.results, trigger.result.queue)
        dead = await taken(redis_broker.take, trigger.dead_letters, len(odd))
    assert output_of(told) == 1
    assert {body_of(message) for message in dead} == set(odd)
    assert all("no message" in message.headers["x-forebay-reason"] for message in dead)


async def test_a_redis_may_be_one_that_sentinels_name(
    running: Running, redis_url: str, keys: Keys, tmp_path: Path
) -> None:
    group = Group(tmp_path)
    try:
        await asyncio.to_thread(group.start)
        url = ";".join(f"sentinel://127.0.0.1:{one.port}/0" for one in group.sentinels)
        with broker_at(url, {"master_name": SERVICE}) as broker:
            trigger = trigger_on(broker)
            async with answering(redis_url, keys, "echo"), running(trigger):
                broker.tell(trigger.queue, {"value": 1})
                (told,) = await taken(broker.results, trigger.result.queue)
    finally:
        group.kill()
    assert output_of(told) == 1


async def test_what_others_have_taken_over_is_let_go_and_the_rest_goes_on(
    running: Running,
    redis_broker: Broker,
    redis_url: str,
    key_prefix: str,
    keys: Keys,
    caplog: pytest.LogCaptureFixture,
) -> None:
    trigger = trigger_on(redis_broker)
    base = f"{redis_broker.options['global_keyprefix']}{key_prefix}:{{trigger {trigger.queue}}}"
    redis_broker.tell(trigger.queue, {"value": 1}, id_="one")
    async with running(trigger), connect(redis_url, timeout_s=TIMEOUT_S) as redis:
        await under_way(redis_url, keys)
        other = Place(redis, base, taker="other", lease_s=600)

        async def taken_over() -> list[Held]:
            # As if it had not been heard of for a whole lease.
            takers: Any = await redis.zrange(f"{base}:takers", 0, -1)
            for taker in takers:
                await redis.zadd(f"{base}:takers", {taker: 0})
            return await other.reclaim(most=9)

        (over,) = await eventually(taken_over, what="its lease has ended")
        await eventually(lambda: "taken over" in caplog.text, what="it lets go")
        await other.give_back(f"{redis_broker.options['global_keyprefix']}{trigger.queue}")
        async with answering(redis_url, keys, "echo") as delivered:
            (told,) = await taken(redis_broker.results, trigger.result.queue)
    assert over.queue == trigger.queue
    assert output_of(told) == 1
    assert len(delivered) == 1


async def test_no_more_is_taken_than_may_be_under_way(
    running: Running, broker: Broker, redis_url: str, keys: Keys
) -> None:
    trigger = trigger_on(broker, prefetch=3)
    for number in range(8):
        broker.tell(trigger.queue, {"value": number}, id_=str(number))
    async with running(trigger):
        await eventually(lambda: broker.left(trigger.queue) == 5, what="three are taken")
        async with answering(redis_url, keys, "echo"):
            told = await taken(broker.results, trigger.result.queue, 8)
    assert sorted(map(output_of, told)) == list(range(8))


async def test_what_is_under_way_goes_back_when_the_process_stops(
    running: Running, broker: Broker, redis_url: str, keys: Keys
) -> None:
    if broker.url == "memory://":
        return  # ends with its process
    trigger = trigger_on(broker)
    broker.tell(trigger.queue, {"value": 1})
    async with running(trigger):
        await eventually(lambda: broker.left(trigger.queue) == 0, what="it is taken")
    await eventually(lambda: broker.left(trigger.queue) == 1, what="it is back")
    async with answering(redis_url, keys, "echo"), running(trigger):
        (told,) = await taken(broker.results, trigger.result.queue)
    assert output_of(told) == 1


async def test_a_trigger_whose_broker_is_away_holds_up_nobody_and_is_told_of(
    running: Running,
    redis_broker: Broker,
    redis_url: str,
    keys: Keys,
    caplog: pytest.LogCaptureFixture,
) -> None:
    good = trigger_on(redis_broker)
    away = [
        msgspec.structs.replace(good, broker=f"{scheme}://127.0.0.1:{free_port()}//", options={})
        for scheme in ("amqp", "redis")
    ]
    async with answering(redis_url, keys, "echo"), running(*away, good):
        redis_broker.tell(good.queue, {"value": 1})
        assert output_of((await taken(redis_broker.results, good.result.queue))[0]) == 1
        await eventually(lambda: caplog.text.count("interrupted") >= len(away), what="the log")


async def test_a_redis_that_was_killed_is_taken_up_again_with_what_was_under_way(
    running: Running, durable_server: Server, redis_url: str, keys: Keys
) -> None:
    with broker_at(durable_server.url) as broker:
        trigger = trigger_on(broker)
        broker.tell(trigger.queue, {"value": 1}, id_="before")
        async with running(trigger):
            await eventually(lambda: broker.left(trigger.queue) == 0, what="it is taken")
            await under_way(redis_url, keys)
            durable_server.restart()
            with broker_at(durable_server.url) as again:
                again.tell(trigger.queue, {"value": 2}, id_="after")
                async with answering(redis_url, keys, "echo") as delivered:
                    told = await taken(again.results, trigger.result.queue, 2)
    assert sorted(map(output_of, told)) == [1, 2]
    assert len(delivered) == 2


async def test_a_rabbitmq_that_was_killed_is_taken_up_again_with_what_was_under_way(
    running: Running, rabbitmq: RabbitServer, redis_url: str, keys: Keys
) -> None:
    with broker_at(rabbitmq.url) as broker:
        trigger = trigger_on(broker)
        for number in range(5):
            broker.tell(trigger.queue, {"value": number}, id_=str(number))
    async with running(trigger):
        await under_way(redis_url, keys, 5)
        rabbitmq.kill()
        await asyncio.to_thread(rabbitmq.start)
        async with answering(redis_url, keys, "echo") as delivered:
            with broker_at(rabbitmq.url) as again:
                results: dict[str, Any] = {}
                await asyncio.to_thread(add_results, again, results, 5, trigger.result.queue)
    assert sorted(map(output_of, results.values())) == list(range(5))
    assert len(delivered) == 5


async def test_a_lost_connection_is_taken_up_again_with_what_was_under_way(
    running: Running, rabbitmq: RabbitServer, redis_url: str, keys: Keys
) -> None:
    async with relay_to(rabbitmq.port) as relay:
        with broker_at(rabbitmq.url) as broker:
            url = rabbitmq.url.replace(str(rabbitmq.port), str(relay.port))
            trigger = msgspec.structs.replace(trigger_on(broker), broker=url)
            broker.tell(trigger.queue, {"value": 1}, id_="before")
            async with running(trigger):
                await under_way(redis_url, keys)
                relay.cut()
                broker.tell(trigger.queue, {"value": 2}, id_="after")
                await eventually(lambda: relay.connections > 1, what="it connects again")
                async with answering(redis_url, keys, "echo") as delivered:
                    told = await taken(broker.results, trigger.result.queue, 2)
    assert sorted(map(output_of, told)) == [1, 2]
    assert len(delivered) == 2


@pytest.mark.parametrize("kind", ["redis", "rabbitmq"])
async def test_a_killed_background_loses_no_event_and_runs_none_twice(
    kind: str,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    redis_url: str,
    key_prefix: str,
    keys: Keys,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    prefix = f"{new_prefix()}:"
    told = {"global_keyprefix": prefix} if kind == "redis" else {}
    url = redis_url if kind == "redis" else request.getfixturevalue("rabbitmq").url
    options = ", ".join(f"{name} = {value!r}".replace("'", '"') for name, value in told.items())
    triggers = tmp_path / "triggers.toml"
    triggers.write_text(TRIGGERS.format(prefetch=PREFETCH, options=f"{{ {options} }}"), "utf-8")
    monkeypatch.setenv("BROKER", url)
    with (
        broker_at(url, told) as broker,
        fleet(
            tmp_path,
            redis_url=redis_url,
            key_prefix=key_prefix,
            triggers_file=str(triggers),
            # On Redis what a killed one had is taken over after this time, by RabbitMQ at once.
            lease_s="2",
        ) as processes,
    ):
        for number in range(EVENTS):
            broker.tell("asked", {"value": number}, id_=str(number))
        first = processes.start("background")
        await under_way(redis_url, keys, PREFETCH)
        processes.end(first, kill=True)
        second = processes.start("background")
        results: dict[str, Any] = {}
        async with answering(redis_url, keys, "echo") as delivered:
            await asyncio.to_thread(add_results, broker, results, EVENTS // 4)
            processes.end(second, kill=True)  # while results are published
            processes.start("background")
            await asyncio.to_thread(add_results, broker, results, EVENTS)
            processes.stop()
        values = [str(delivery.computation) for delivery in delivered]
    assert len(values) == EVENTS
    assert len(results) == EVENTS
    assert sorted(map(output_of, results.values())) == list(range(EVENTS))
    assert "Traceback" not in processes.said


async def test_what_the_page_shows_runs(
    tmp_path: Path, private_server: Server, redis_url: str, key_prefix: str, keys: Keys
) -> None:
    page = (ROOT / "docs" / "triggers.md").read_text("utf-8")
    blocks = dict(BLOCK.findall(page))
    example = ROOT / "docs" / "examples" / "triggers.toml"
    assert blocks["toml"] in example.read_text("utf-8")
    check = f"{sys.executable} -m forebay.cli triggers check --triggers-file {example}"
    assert "forebay triggers check --triggers-file docs/examples/triggers.toml" in blocks["sh"]
    models = (ROOT / "models.toml").read_text("utf-8")
    with (
        pytest.MonkeyPatch.context() as patch,
        fleet(
            tmp_path,
            models,
            redis_url=redis_url,
            key_prefix=key_prefix,
            triggers_file=str(example),
        ) as processes,
    ):
        patch.setenv("DOCUMENTS_BROKER", private_server.url)
        processes.start("background")
        async with answering(redis_url, keys, "echo"):
            for command in (check.split(), [sys.executable, "-c", blocks["python"]]):
                process = await asyncio.create_subprocess_exec(
                    *command, cwd=ROOT, stdout=subprocess.PIPE
                )
                printed, _ = await process.communicate()
                assert process.returncode == 0
        processes.stop()
    assert printed.decode() == "dev.forebay.prediction.succeeded A river.\n"
    assert "Traceback" not in processes.said


def add_results(broker: Broker, results: dict[str, Any], count: int, queue: str = "told") -> None:
    """Add results by their ids until there are so many: some may come twice."""
    while len(results) < count:
        for result in broker.results(queue):
            results[result.get_id()] = result


async def under_way(url: str, keys: Keys, count: int = 1) -> None:
    """Wait until so many predictions are on the lane."""
    lane = keys.of("echo").lane(Lane.BULK)
    async with connect(url, timeout_s=TIMEOUT_S) as redis:

        async def there() -> bool:
            return int(await redis.xlen(lane)) >= count

        await eventually(there, what="they are on their lane")
