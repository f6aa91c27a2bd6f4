"""Events of a real RabbitMQ run models: what it refuses, its outages, queues of others."""

import asyncio
import json
from typing import Any

import msgspec
import pytest
from kombu import Exchange, Queue

from forebay.lanes.keys import Keys
from tests.fixtures.answering import answering
from tests.fixtures.brokers import body_of, broker_at, output_of
from tests.fixtures.rabbitmq import (
    MAX_MESSAGE_SIZE,
    RabbitServer,
    narrow_rabbitmq,
    rabbitmq,
)
from tests.fixtures.relay import relay_to
from tests.fixtures.servers import new_prefix
from tests.fixtures.triggering import (
    Running,
    add_results,
    running,
    taken,
    trigger_on,
    under_way,
)
from tests.fixtures.waiting import eventually

__all__ = ["narrow_rabbitmq", "rabbitmq", "running"]


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


async def test_what_a_broker_takes_no_note_of_is_rejected_to_where_its_queue_says(
    running: Running,
    narrow_rabbitmq: RabbitServer,
    redis_url: str,
    keys: Keys,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with broker_at(narrow_rabbitmq.url) as broker:
        trigger = trigger_on(broker, declare=False)
        rejected = f"{trigger.queue}-rejected"
        leads = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": rejected}
        Queue(trigger.queue, queue_arguments=leads)(broker.channel).declare()
        for queue in (rejected, trigger.dead_letters, trigger.result.queue):
            assert broker.left(queue) == 0, "now it is there"
        exchange = Exchange(new_prefix(), type="fanout")(broker.channel)
        exchange.declare()
        broker.channel.queue_bind(trigger.queue, exchange.name)
        # They fit a frame, and do not with what even a note says beside them.
        own = {f"own-{number:02}": "x" * 190 for number in range(40)}
        broker.send("", b"no event", headers=own, exchange=exchange)
        broker.tell("", {"value": 1}, id_="good", exchange=exchange)
        async with answering(redis_url, keys, "echo"), running(trigger):
            (told,) = await taken(broker.results, trigger.result.queue)
            (poison,) = await taken(broker.take, rejected)
        assert broker.left(trigger.dead_letters) == 0
    assert output_of(told) == 1
    assert body_of(poison) == b"no event"
    assert {name: poison.headers[name] for name in own} == own
    assert poison.headers["x-death"][0]["reason"] == "rejected"
    assert caplog.text.count("a message is dropped: not even a note is taken") == 1


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
