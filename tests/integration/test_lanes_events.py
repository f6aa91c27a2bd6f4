"""Conformance of the lanes, on the fake and on the real server: chunks told, kept and followed."""

from typing import Any

import msgspec
import pytest
from redis.asyncio.client import PubSub

from forebay.contract.generation import Chunk, Finish
from forebay.contract.messages import Reply, decode_published
from forebay.contract.prediction import PredictionId, Status
from forebay.lanes import events, scripts
from forebay.lanes.consumer import Consumer, Delivery
from forebay.lanes.events import PAGE, Events, Told
from forebay.lanes.scripts import EnqueueOutcome, TellOutcome
from tests.fixtures.lanes import (
    LONG_MS,
    enqueue,
    finish,
    join,
    read,
    reclaim,
    settlement,
    submission,
    vanish,
)
from tests.fixtures.servers import LaneServer
from tests.fixtures.waiting import PATIENCE_S

RUN_MS = 2 * LONG_MS


def chunk(delivery: Delivery, sequence: int, text: str = "word", row: int = 0) -> Chunk:
    return Chunk(delivery.prediction, row, sequence, text, (sequence,))


async def tell(lanes: LaneServer, *told: Told, version: str = "v1") -> list[TellOutcome]:
    return await events.tell(lanes.redis, lanes.echo, told, version=version, run_ms=RUN_MS)


async def leased(lanes: LaneServer, *channels: str) -> tuple[Consumer, list[Delivery]]:
    await enqueue(lanes, *(submission(reply_channel=channel) for channel in channels))
    worker = await join(lanes)
    return worker, await read(worker, len(channels))


async def kept(lanes: LaneServer, delivery: Delivery, after: int = 0) -> tuple[Chunk, ...]:
    id_ = PredictionId.parse(delivery.prediction)
    return await Events(lanes.redis, lanes.keys).after(id_, after)


async def subscribed(lanes: LaneServer, channel: str) -> PubSub:
    pubsub = lanes.client(blocking=True).pubsub()
    await pubsub.subscribe(channel)
    assert await pubsub.get_message(timeout=PATIENCE_S) is not None
    return pubsub


async def published(pubsub: PubSub) -> tuple[Reply | Chunk, ...]:
    told: Any = await pubsub.get_message(timeout=PATIENCE_S)
    assert told is not None
    return decode_published(told["data"])


async def test_chunks_of_one_call_reach_each_gateway_in_one_message(lanes: LaneServer) -> None:
    here, there = (lanes.keys.reply_channel(name) for name in ("g1", "g2"))
    channels = [here] * 20 + [there, ""]
    worker, deliveries = await leased(lanes, *channels)
    first, second = await subscribed(lanes, here), await subscribed(lanes, there)
    told = [Told(one, (chunk(one, 1), chunk(one, 2, row=1))) for one in deliveries]
    assert await tell(lanes, *told) == [TellOutcome.TOLD] * len(channels)
    assert await published(first) == tuple(one for t in told[:20] for one in t.chunks)
    assert await published(second) == told[20].chunks
    await worker.settle([settlement(deliveries[20])])
    (reply,) = await published(second)
    assert isinstance(reply, Reply)
    for pubsub in (first, second):
        await pubsub.aclose()  # type: ignore[no-untyped-call]


async def test_chunks_are_kept_in_order_and_once_however_often_a_call_is_repeated(
    lanes: LaneServer,
) -> None:
    _, (delivery,) = await leased(lanes, "")
    first = Told(delivery, (chunk(delivery, 1), chunk(delivery, 2)))
    last = msgspec.structs.replace(chunk(delivery, 3), finish=Finish.STOP)
    for told in (first, first, Told(delivery, (last,), last=True), first):
        assert await tell(lanes, told) == [TellOutcome.TOLD]
    assert await kept(lanes, delivery) == (*first.chunks, last)
    assert await kept(lanes, delivery, after=2) == (last,)
    assert await kept(lanes, delivery, after=3) == ()
    written = await events.written(lanes.redis, lanes.echo, delivery.prediction)
    assert (written.chunks, written.version) == ((*first.chunks, last), "v1")


async def test_a_page_of_chunks_is_read_at_once_and_all_of_them_by_who_goes_on(
    lanes: LaneServer,
) -> None:
    _, (delivery,) = await leased(lanes, "")
    chunks = tuple(chunk(delivery, number) for number in range(1, PAGE + 11))
    await tell(lanes, Told(delivery, chunks))
    assert await kept(lanes, delivery) == chunks[:PAGE]
    assert await kept(lanes, delivery, after=PAGE) == chunks[PAGE:]
    written = await events.written(lanes.redis, lanes.echo, delivery.prediction)
    assert written.chunks == chunks


async def test_who_generates_for_nobody_hears_so(lanes: LaneServer) -> None:
    await enqueue(lanes, *(made := [submission() for _ in range(4)]))
    worker = await join(lanes)
    canceled, settled, gone, taken = await read(worker, 4)
    await finish(lanes, made[0].id, Status.CANCELED)
    await worker.settle([settlement(settled)])
    await lanes.redis.execute_command("DEL", lanes.echo.record(gone.prediction))
    await vanish(lanes, worker)
    peer = await join(lanes, "w2")
    (again,) = [one for one in await reclaim(peer, 4) if one.prediction == taken.prediction]
    both = [Told(one, (chunk(one, 1),)) for one in (canceled, settled, gone, taken, again)]
    assert await tell(lanes, *both) == [
        TellOutcome.ENDED,
        TellOutcome.ENDED,
        TellOutcome.GONE,
        TellOutcome.STALE,
        TellOutcome.TOLD,
    ]
    for delivery in (canceled, settled, gone):
        assert await kept(lanes, delivery) == ()
    assert await kept(lanes, again) == (chunk(again, 1),)


async def test_the_first_chunk_puts_the_deadline_off_and_events_do_not_stay_for_ever(
    lanes: LaneServer,
) -> None:
    _, (delivery,) = await leased(lanes, "")

    async def deadline() -> float:
        told = await lanes.redis.execute_command(
            "ZSCORE", lanes.echo.deadlines, delivery.prediction
        )
        return float(told)

    before = await deadline()
    await tell(lanes, Told(delivery, (chunk(delivery, 1),)))
    after = await deadline()
    assert after - before >= RUN_MS - LONG_MS
    await tell(lanes, Told(delivery, (chunk(delivery, 2),)))
    assert await deadline() == after
    key = lanes.echo.events(delivery.prediction)
    running = await lanes.redis.execute_command("PTTL", key)
    await tell(lanes, Told(delivery, (chunk(delivery, 3),), last=True))
    ended = await lanes.redis.execute_command("PTTL", key)
    assert running > RUN_MS > 0
    assert LONG_MS < ended < running


@pytest.mark.parametrize("end", ["settle", "finish"])
async def test_replies_and_chunks_go_to_every_gateway_that_follows(
    lanes: LaneServer, end: str
) -> None:
    here, there, late = (lanes.keys.reply_channel(name) for name in ("g1", "g2", "g3"))
    worker, (delivery,) = await leased(lanes, here)
    followed, id_ = Events(lanes.redis, lanes.keys), PredictionId.parse(delivery.prediction)
    for _ in range(2):
        assert await followed.follow(id_, there) == (Status.STARTING, 1)
    first, second = await subscribed(lanes, here), await subscribed(lanes, there)
    await tell(lanes, Told(delivery, (chunk(delivery, 1),)))
    if end == "settle":
        await worker.settle([settlement(delivery)])
    else:
        await finish(lanes, id_)
    for pubsub in (first, second):
        assert await published(pubsub) == (chunk(delivery, 1),)
        (reply,) = await published(pubsub)
        assert isinstance(reply, Reply)
        await pubsub.aclose()  # type: ignore[no-untyped-call]
    status = Status.SUCCEEDED if end == "settle" else Status.CANCELED
    assert await followed.follow(id_, late) == (status, 1)
    assert await followers(lanes, delivery) == [here, there]
    assert await followed.follow(PredictionId.new("echo"), here) is None


async def followers(lanes: LaneServer, delivery: Delivery) -> list[str]:
    record = lanes.echo.record(delivery.prediction)
    told: bytes = await lanes.redis.execute_command("HGET", record, "rp")
    return told.decode().split()


async def test_no_more_than_so_many_gateways_follow_and_the_first_of_them_gives_way(
    lanes: LaneServer,
) -> None:
    channels = [lanes.keys.reply_channel(f"g{number}") for number in range(12)]
    one = submission(reply_channel=channels[0])
    await enqueue(lanes, one)
    (delivery,) = await read(await join(lanes), 1)
    followed = Events(lanes.redis, lanes.keys)
    for channel in channels[1:9]:
        await followed.follow(one.id, channel)
    assert await followers(lanes, delivery) == channels[1:9]
    for channel in channels[9:]:
        # A request that comes again, at other gateways.
        assert await enqueue(lanes, msgspec.structs.replace(one, reply_channel=channel)) == [
            EnqueueOutcome.KNOWN
        ]
    assert await followers(lanes, delivery) == channels[4:]


async def test_a_stream_whose_reader_is_gone_is_told_to_nobody(lanes: LaneServer) -> None:
    made = [submission(read_until_ms=1), submission(read_until_ms=1), submission()]
    await enqueue(lanes, *made)
    worker = await join(lanes)
    deliveries = await read(worker, 3)
    told = [Told(one, (chunk(one, 1),)) for one in deliveries]
    await scripts.attend(
        lanes.redis, [lanes.echo.record(one.id.text) for one in made[1:]], lease_ms=LONG_MS
    )
    assert await tell(lanes, *told) == [
        TellOutcome.UNREAD,
        TellOutcome.TOLD,
        TellOutcome.TOLD,
    ]
    assert await kept(lanes, deliveries[0]) == ()
    # Who needs no reader gets none, and who is gone does not come back.
    record = lanes.echo.record(made[2].id.text)
    assert await lanes.redis.execute_command("HEXISTS", record, "rd") == 0
    gone = lanes.echo.record(submission().id.text)
    await scripts.attend(lanes.redis, [gone], lease_ms=LONG_MS)
    assert await lanes.redis.execute_command("EXISTS", gone) == 0


async def test_no_chunk_puts_the_end_off_that_a_client_has_set(lanes: LaneServer) -> None:
    firm = submission(deadline_ms=1_000)
    firm = msgspec.structs.replace(firm, cancel_at_ms=firm.created_at_ms + LONG_MS)
    await enqueue(lanes, firm)
    (delivery,) = await read(await join(lanes), 1)
    await tell(lanes, Told(delivery, (chunk(delivery, 1),)))
    deadline = await lanes.redis.execute_command("ZSCORE", lanes.echo.deadlines, firm.id.text)
    assert float(deadline) == firm.cancel_at_ms


async def test_no_more_than_so_many_events_are_kept(
    lanes: LaneServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    most = 200
    monkeypatch.setattr(scripts, "MAX_EVENTS", most)
    _, (delivery,) = await leased(lanes, "")
    for first in range(1, most + 501, 100):
        several = tuple(chunk(delivery, at) for at in range(first, first + 100))
        await tell(lanes, Told(delivery, several))
    length = await lanes.redis.execute_command("XLEN", lanes.echo.events(delivery.prediction))
    assert most <= length < most + 500
    written = await events.written(lanes.redis, lanes.echo, delivery.prediction)
    assert written.version is None
