"""The inbox on a real server: results arrive, and what pub/sub loses is made up for."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from forebay.contract.errors import ErrorKind, Unavailable
from forebay.contract.messages import Reply
from forebay.contract.prediction import PredictionId, Status
from forebay.lanes import replies
from forebay.lanes.keys import Keys
from forebay.lanes.lane import Submission
from forebay.lanes.predictions import Record
from forebay.lanes.replies import Waiter
from tests.fixtures.gateway_end import GatewayEnd, gateway_end
from tests.fixtures.lanes import finish, join, read, reply_to, settlement, submission
from tests.fixtures.servers import LaneServer
from tests.fixtures.waiting import PATIENCE_S, eventually

NEVER_S = 1_000.0
OTHER_VERSION = b"\x84\xa1p\xa1a\xa1s\xa6failed\xa2ct\x01\xa1v\x02"


@pytest.fixture
async def gateway(redis_url: str, keys: Keys) -> AsyncIterator[GatewayEnd]:
    async with gateway_end(redis_url, keys) as running:
        yield running


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Overdue waiters are looked after all the time."""
    monkeypatch.setattr(replies, "RECHECK_S", 0.02)
    monkeypatch.setattr(replies, "OVERDUE_S", 0.05)


@pytest.fixture
def never_overdue(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody looks after overdue waiters."""
    monkeypatch.setattr(replies, "OVERDUE_S", NEVER_S)


def heard(gateway: GatewayEnd, *rows: int) -> Submission:
    return submission(*rows, reply_channel=gateway.inbox.channel)


async def within(waiter: Waiter, seconds: float = PATIENCE_S) -> tuple[Reply, ...]:
    async with asyncio.timeout(seconds):
        return await waiter.future


@pytest.mark.usefixtures("never_overdue")
async def test_a_published_result_reaches_its_waiter(
    real_lanes: LaneServer, gateway: GatewayEnd
) -> None:
    waiter = await gateway.submit(heard(gateway, 1, 2))
    worker = await join(real_lanes)
    deliveries = await read(worker, 2)
    await worker.settle([settlement(delivery) for delivery in reversed(deliveries)])
    assert await within(waiter) == tuple(reply_to(delivery) for delivery in deliveries)
    assert len(gateway.inbox) == 0
    assert gateway.redis.count("HGETALL") == 0


@pytest.mark.usefixtures("never_overdue")
async def test_every_one_of_many_waiters_gets_its_own_result(
    real_lanes: LaneServer, gateway: GatewayEnd
) -> None:
    several = [heard(gateway, 1, 1) for _ in range(500)]
    waiters = [gateway.inbox.expect(one.id, 2) for one in several]
    for one, waiter in zip(several, waiters, strict=True):
        gateway.writer.submit(one, waiter.submitted)
    workers = [await join(real_lanes, f"w{number}") for number in range(3)]
    settled = 0
    while settled < 1_000:
        for worker in workers:
            deliveries = await read(worker, 70)
            await worker.settle([settlement(delivery) for delivery in deliveries])
            settled += len(deliveries)
    for waiter in waiters:
        first, second = await within(waiter)
        assert first.prediction == second.prediction == waiter.id.text
        assert (first.part, second.part) == (0, 1)
    assert len(gateway.inbox) == 0


@pytest.mark.usefixtures("eager")
async def test_a_lost_message_is_made_up_for_by_reading_the_record(
    real_lanes: LaneServer, gateway: GatewayEnd
) -> None:
    waiter = await gateway.submit(submission(1, 1, reply_channel=""))
    worker = await join(real_lanes)
    first, second = await read(worker, 2)
    await worker.settle([settlement(first)])
    await eventually(lambda: len(waiter.replies) == 1)
    assert not waiter.future.done()
    await worker.settle([settlement(second)])
    assert await within(waiter) == (reply_to(first), reply_to(second))
    assert len(gateway.inbox) == 0


@pytest.mark.usefixtures("eager")
async def test_a_lost_end_by_authority_is_made_up_for_too(
    real_lanes: LaneServer, gateway: GatewayEnd
) -> None:
    one = submission(1, 1, reply_channel="")
    waiter = await gateway.submit(one)
    await finish(real_lanes, one.id, Status.EXPIRED)
    (reply,) = await within(waiter)
    assert reply.status is Status.EXPIRED


@pytest.mark.usefixtures("never_overdue")
async def test_a_killed_subscription_comes_back_and_rereads_what_it_waits_for(
    real_lanes: LaneServer, gateway: GatewayEnd
) -> None:
    missed = await gateway.submit(submission(reply_channel=""))
    worker = await join(real_lanes)
    await worker.settle([settlement(delivery) for delivery in await read(worker, 1)])
    assert not missed.future.done()
    # Every subscription on the server: no other test runs meanwhile.
    told = await real_lanes.redis.execute_command("CLIENT", "LIST", "TYPE", "pubsub")
    ids = [
        dict(pair.split("=", 1) for pair in line.split())["id"]
        for line in told.decode().splitlines()
    ]
    for id_ in ids:
        await real_lanes.redis.execute_command("CLIENT", "KILL", "ID", id_)
    assert await within(missed) is not None
    await eventually(lambda: gateway.link.up and gateway.inbox.listening)
    waiter = await gateway.submit(heard(gateway))
    await worker.settle([settlement(delivery) for delivery in await read(worker, 1)])
    assert await within(waiter) is not None


@pytest.mark.usefixtures("eager")
async def test_a_waiter_whose_record_has_disappeared_is_told(
    real_lanes: LaneServer, gateway: GatewayEnd
) -> None:
    one = heard(gateway)
    waiter = await gateway.submit(one)
    await real_lanes.redis.execute_command("DEL", real_lanes.echo.record(one.id.text))
    (reply,) = await within(waiter)
    assert reply.status is Status.FAILED
    assert reply.error is not None
    assert reply.error.kind is ErrorKind.INTERNAL
    assert len(gateway.inbox) == 0


@pytest.mark.usefixtures("eager")
async def test_a_waiter_not_yet_enqueued_is_not_missed(gateway: GatewayEnd) -> None:
    waiting = gateway.inbox.expect(PredictionId.new("echo"), 1)
    witness = await gateway.submit(submission(reply_channel=""))
    await eventually(lambda: gateway.redis.count("HGETALL") >= 3)
    assert not waiting.future.done()
    assert not witness.future.done()


async def test_a_record_written_while_it_was_looked_for_is_not_missed(
    gateway: GatewayEnd, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiter = gateway.inbox.expect(PredictionId.new("echo"), 1)

    async def looked_too_early(_: PredictionId) -> Record | None:
        waiter.submitted(None)
        return None

    monkeypatch.setattr(gateway.records, "record", looked_too_early)
    await gateway.inbox._recheck([waiter])
    assert not waiter.future.done()


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("field", ["o0", "er"])
@pytest.mark.parametrize("bytes_", [b"\xc1", OTHER_VERSION], ids=["garbage", "other version"])
async def test_a_record_that_can_not_be_read_fails_its_own_waiter_only(
    real_lanes: LaneServer, gateway: GatewayEnd, field: str, bytes_: bytes
) -> None:
    one, other = submission(reply_channel=""), submission(reply_channel="")
    waiter, witness = await gateway.submit(one), await gateway.submit(other)
    record = real_lanes.echo.record(one.id.text)
    await real_lanes.redis.execute_command("HSET", record, field, bytes_)
    (reply,) = await within(waiter)
    assert reply.status is Status.FAILED
    assert reply.error is not None
    assert reply.error.kind is ErrorKind.INTERNAL
    worker = await join(real_lanes)
    _, second = await read(worker, 2)
    await worker.settle([settlement(second)])
    assert await within(witness) == (reply_to(second),)


@pytest.mark.usefixtures("never_overdue")
@pytest.mark.parametrize(
    "strange",
    [
        b"",
        b"\xc1",
        b"\x91\x81\xa1p\xa1\xff",
        b"\x91" + OTHER_VERSION,
    ],
)
async def test_a_message_that_can_not_be_read_disturbs_nobody(
    real_lanes: LaneServer, gateway: GatewayEnd, strange: bytes
) -> None:
    waiter = await gateway.submit(heard(gateway))
    await real_lanes.redis.execute_command("PUBLISH", gateway.inbox.channel, strange)
    worker = await join(real_lanes)
    (delivery,) = await read(worker, 1)
    await worker.settle([settlement(delivery)])
    assert await within(waiter) == (reply_to(delivery),)


async def test_a_waiter_that_left_is_forgotten(real_lanes: LaneServer, gateway: GatewayEnd) -> None:
    leaving, staying = await gateway.submit(heard(gateway)), await gateway.submit(heard(gateway))
    gateway.inbox.forget(leaving)
    gateway.inbox.forget(leaving)
    worker = await join(real_lanes)
    await worker.settle([settlement(delivery) for delivery in await read(worker, 2)])
    await within(staying)
    assert not leaving.future.done()
    assert len(gateway.inbox) == 0


async def test_a_refused_submission_reaches_the_waiter(gateway: GatewayEnd) -> None:
    gateway.redis._redis = Broken()
    waiter = await gateway.submit(heard(gateway))
    with pytest.raises(Unavailable):
        await within(waiter)
    gateway.redis._redis = gateway.client


class Broken:
    """A connection that has failed."""

    async def execute_command(self, *_: object, **__: object) -> object:
        raise ConnectionError("broken")
