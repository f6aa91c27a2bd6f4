"""Events run models, whatever their broker: memory, filesystem, Redis, RabbitMQ."""

import bz2
import json
import zlib
from typing import Any

from kombu import Exchange

from forebay.background.triggers.table import ExchangeType, Mode, ResultTable, Trigger
from forebay.lanes.keys import Keys
from tests.fixtures.answering import TOO_LONG_WORDS, answering
from tests.fixtures.brokers import Broker, body_of, output_of
from tests.fixtures.rabbitmq import rabbitmq
from tests.fixtures.servers import new_prefix
from tests.fixtures.triggering import Running, broker, running, taken, trigger, trigger_on
from tests.fixtures.waiting import eventually

__all__ = ["broker", "rabbitmq", "running", "trigger"]

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
TOO_LONG = "word " * 2 * TOO_LONG_WORDS


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
