"""Events of a Redis run models: its lists, its outages, and what is retried or kept."""

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest

from forebay.background.taking.place import Place
from forebay.background.taking.place import Taken as Held
from forebay.background.triggers.forgetting import KEPT_S
from forebay.contract.errors import ErrorInfo, ErrorKind
from forebay.contract.messages import Reply
from forebay.contract.prediction import Status
from forebay.lanes.consumer import Delivery, Settlement
from forebay.lanes.keys import Keys
from forebay.local.server import free_port
from forebay.runtime.redis import connect
from tests.fixtures.answering import answering, settle
from tests.fixtures.brokers import Broker, body_of, broker_at, output_of
from tests.fixtures.servers import TIMEOUT_S, Server
from tests.fixtures.shapes import SERVICE, Group
from tests.fixtures.triggering import (
    Running,
    redis_broker,
    running,
    taken,
    trigger_on,
    under_way,
)
from tests.fixtures.waiting import eventually

__all__ = ["redis_broker", "running"]


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
