"""Conformance of the lanes, on the fake and on the real server: what gateways are told."""

from typing import Any

from redis.asyncio.client import PubSub

from forebay.contract.messages import Reply, decode_replies
from forebay.contract.prediction import Status
from tests.fixtures.lanes import enqueue, finish, join, read, reply_to, settlement, submission
from tests.fixtures.servers import LaneServer
from tests.fixtures.waiting import PATIENCE_S


async def subscribed(lanes: LaneServer, channel: str) -> PubSub:
    pubsub = lanes.client(blocking=True).pubsub()
    await pubsub.subscribe(channel)
    assert await pubsub.get_message(timeout=PATIENCE_S) is not None
    return pubsub


async def published(pubsub: PubSub) -> tuple[Reply, ...]:
    told: Any = await pubsub.get_message(timeout=PATIENCE_S)
    assert told is not None
    assert told["type"] == "message"
    return decode_replies(told["data"])


async def test_results_of_one_call_reach_each_gateway_in_one_message(lanes: LaneServer) -> None:
    here, there = (lanes.keys.reply_channel(name) for name in ("g1", "g2"))
    ours = [submission(1, 1, reply_channel=here), submission(reply_channel=here)]
    theirs, nobodys = submission(reply_channel=there), submission()
    await enqueue(lanes, *ours, theirs, nobodys)
    worker = await join(lanes)
    deliveries = await read(worker, 10)
    first, second = await subscribed(lanes, here), await subscribed(lanes, there)
    await worker.settle([settlement(delivery) for delivery in deliveries])
    assert await published(first) == tuple(reply_to(d) for d in deliveries[:3])
    assert await published(second) == (reply_to(deliveries[3]),)
    for pubsub in (first, second):
        await pubsub.aclose()  # type: ignore[no-untyped-call]


async def test_only_what_counted_is_published(lanes: LaneServer) -> None:
    channel = lanes.keys.reply_channel("g1")
    one, two = submission(reply_channel=channel), submission(reply_channel=channel)
    await enqueue(lanes, one, two)
    worker = await join(lanes)
    first, second = await read(worker, 2)
    pubsub = await subscribed(lanes, channel)
    await finish(lanes, one.id, Status.CANCELED)
    (canceled,) = await published(pubsub)
    assert (canceled.prediction, canceled.status) == (one.id.text, Status.CANCELED)
    await worker.settle([settlement(first), settlement(second), settlement(second)])
    assert await published(pubsub) == (reply_to(second),)
    await pubsub.aclose()  # type: ignore[no-untyped-call]


async def test_a_long_array_of_results_is_readable(lanes: LaneServer) -> None:
    channel = lanes.keys.reply_channel("g1")
    await enqueue(lanes, *(submission(reply_channel=channel) for _ in range(300)))
    worker = await join(lanes)
    deliveries = await read(worker, 300)
    pubsub = await subscribed(lanes, channel)
    await worker.settle([settlement(delivery) for delivery in deliveries])
    assert await published(pubsub) == tuple(reply_to(delivery) for delivery in deliveries)
    await pubsub.aclose()  # type: ignore[no-untyped-call]
