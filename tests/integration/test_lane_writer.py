"""The write coalescer on a real server."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from forebay.contract.errors import ForebayError, LaneFull, NotFound, Unavailable
from forebay.contract.prediction import Lane, PredictionId
from forebay.lanes import lane as lane_module
from forebay.lanes.coalescer import MAX_CALL_BYTES, MAX_CALL_ITEMS
from forebay.lanes.keys import Keys
from forebay.lanes.lane import LaneWriter, Submission
from tests.fixtures.gateway_end import GatewayEnd, echo_spec, gateway_end
from tests.fixtures.lanes import submission, view
from tests.fixtures.servers import LaneServer, Server
from tests.fixtures.waiting import PATIENCE_S, eventually


class Fates:
    """What became of each submission, in the order of their `done`."""

    def __init__(self) -> None:
        self.told: list[ForebayError | None] = []

    def done(self, error: ForebayError | None, *, known: bool = False) -> None:
        self.told.append(error)

    async def all(self, count: int) -> list[ForebayError | None]:
        await eventually(lambda: len(self.told) >= count)
        return self.told


def sized(payload: int) -> Submission:
    """A submission of about this many bytes."""
    return submission(input=b"x" * payload)


def call_sizes(gateway: GatewayEnd) -> list[int]:
    """Predictions in each enqueue so far."""
    calls = [args[3 : 3 + args[2]] for args in gateway.redis.sent if args[0] == "EVALSHA"]
    return [sum(":record:" in key for key in call) for call in calls]


@pytest.fixture
async def gateway(redis_url: str, keys: Keys) -> AsyncIterator[GatewayEnd]:
    async with gateway_end(redis_url, keys) as running:
        yield running


async def test_submissions_of_one_moment_share_their_calls(
    real_lanes: LaneServer, gateway: GatewayEnd
) -> None:
    many, fates = 10 * MAX_CALL_ITEMS, Fates()
    for _ in range(many):
        gateway.writer.submit(submission(), fates.done)
    assert await fates.all(many) == [None] * many
    assert call_sizes(gateway) == [MAX_CALL_ITEMS] * 10
    assert (await view(real_lanes)).demand[Lane.REALTIME] == many


async def test_what_comes_during_a_write_waits_for_the_next_and_shares_it(
    gateway: GatewayEnd,
) -> None:
    fates = Fates()
    gateway.redis.open.clear()
    gateway.writer.submit(submission(), fates.done)
    await eventually(lambda: call_sizes(gateway) == [1])
    for _ in range(5):
        gateway.writer.submit(submission(), fates.done)
        await asyncio.sleep(0)
    assert call_sizes(gateway) == [1]
    assert fates.told == []
    gateway.redis.open.set()
    assert await fates.all(6) == [None] * 6
    assert call_sizes(gateway) == [1, 5]


async def test_a_lone_submission_goes_at_once(gateway: GatewayEnd) -> None:
    for calls in (1, 2, 3):
        await gateway.writer.enqueue(submission())
        assert call_sizes(gateway) == [1] * calls


async def test_submissions_keep_their_order_on_the_lane(
    real_lanes: LaneServer, gateway: GatewayEnd
) -> None:
    several, fates = [submission() for _ in range(MAX_CALL_ITEMS)], Fates()
    for one in several:
        gateway.writer.submit(one, fates.done)
    await fates.all(len(several))
    entries = (await view(real_lanes)).entries[Lane.REALTIME].values()
    assert [id_ for id_, _ in entries] == [one.id.text for one in several]


async def test_no_call_carries_more_than_its_bytes_unless_one_alone_does(
    gateway: GatewayEnd,
) -> None:
    third = MAX_CALL_BYTES // 3
    sizes = [third, third, third, MAX_CALL_BYTES * 2, 10, 10]
    fates = Fates()
    for size in sizes:
        gateway.writer.submit(sized(size), fates.done)
    assert await fates.all(len(sizes)) == [None] * len(sizes)
    assert call_sizes(gateway) == [2, 1, 1, 2]


async def test_a_submission_on_a_full_lane_is_refused_and_its_neighbours_are_not(
    redis_url: str, keys: Keys, real_lanes: LaneServer
) -> None:
    async with gateway_end(redis_url, keys, echo_spec(realtime_rows=3)) as gateway:
        fates = Fates()
        for rows in (2, 2, 1, 1):
            gateway.writer.submit(submission(rows), fates.done)
        first, second, third, fourth = await fates.all(4)
        assert first is third is None
        for refused in (second, fourth):
            assert isinstance(refused, LaneFull)
            assert "realtime lane of 'echo' has no room" in refused.message
            assert refused.retry_after_s == lane_module.FULL_RETRY_S
        with pytest.raises(LaneFull):
            await gateway.writer.enqueue(submission())
        await gateway.writer.enqueue(submission(lane=Lane.BULK))
        assert (await view(real_lanes)).demand == {Lane.REALTIME: 3, Lane.BULK: 1}


async def test_models_are_written_side_by_side_and_an_unknown_one_is_refused(
    gateway: GatewayEnd,
) -> None:
    stranger = msgspec.structs.replace(submission(), id=PredictionId.new("stranger"))
    fates, refused = Fates(), Fates()
    gateway.writer.submit(stranger, refused.done)
    gateway.writer.submit(submission(), fates.done)
    assert await fates.all(1) == [None]
    (error,) = await refused.all(1)
    assert isinstance(error, NotFound)


async def test_too_much_waiting_is_refused_at_the_door(
    gateway: GatewayEnd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lane_module, "MAX_WAITING_BYTES", 1_000)
    gateway.redis.open.clear()
    fates = Fates()
    gateway.writer.submit(sized(10), fates.done)
    await eventually(lambda: call_sizes(gateway) == [1])
    gateway.writer.submit(sized(2_000), fates.done)
    with pytest.raises(Unavailable, match="more slowly than they come") as caught:
        gateway.writer.submit(sized(10), fates.done)
    assert caught.value.retry_after_s is not None
    gateway.redis.open.set()
    assert await fates.all(2) == [None, None]
    await gateway.writer.enqueue(sized(10))


async def test_a_server_that_refuses_is_not_taken_for_one_that_is_gone(
    private_server: Server, keys: Keys
) -> None:
    async with gateway_end(private_server.url, keys) as gateway:
        await gateway.redis.execute_command("CONFIG", "SET", "maxmemory", "1")
        with pytest.raises(Unavailable):
            await gateway.writer.enqueue(submission())
        assert gateway.link.up
        await gateway.redis.execute_command("CONFIG", "SET", "maxmemory", "0")
        await gateway.writer.enqueue(submission())


async def test_while_the_server_is_gone_submissions_are_refused_at_once_and_after_it_taken(
    private_server: Server, keys: Keys
) -> None:
    async with gateway_end(private_server.url, keys) as gateway:
        await gateway.writer.enqueue(submission())
        private_server.kill()
        with pytest.raises(Unavailable):
            # The first may have to find out.
            await gateway.writer.enqueue(submission())
        await eventually(lambda: not gateway.link.up)
        with pytest.raises(Unavailable) as caught:
            gateway.writer.submit(submission(), Fates().done)
        assert caught.value.retry_after_s == lane_module.UNAVAILABLE_RETRY_S
        private_server.start()
        await eventually(lambda: gateway.link.up)
        await gateway.writer.enqueue(submission())


async def test_a_stopped_writer_still_writes_what_waits(
    real_lanes: LaneServer, gateway: GatewayEnd
) -> None:
    writer = lane_module.LaneWriter(
        gateway.redis, real_lanes.keys, {"echo": echo_spec()}, gateway.link
    )
    task = asyncio.create_task(writer.run())
    await asyncio.sleep(0)
    fates = Fates()
    writer.submit(submission(), fates.done)
    await stopped(task)
    assert fates.told == [None]
    assert (await view(real_lanes)).queued == 1


async def test_a_writer_stopped_while_it_writes_leaves_nobody_waiting(
    real_lanes: LaneServer, gateway: GatewayEnd
) -> None:
    writer = lane_module.LaneWriter(
        gateway.redis, real_lanes.keys, {"echo": echo_spec()}, gateway.link
    )
    task = asyncio.create_task(writer.run())
    fates = Fates()
    gateway.redis.open.clear()
    writer.submit(submission(), fates.done)
    await eventually(lambda: call_sizes(gateway) == [1])
    task.cancel()
    (error,) = await fates.all(1)
    assert isinstance(error, Unavailable)
    gateway.redis.open.set()
    await stopped(task)


async def stopped(task: asyncio.Task[None]) -> None:
    task.cancel()
    async with asyncio.timeout(PATIENCE_S):
        with contextlib.suppress(asyncio.CancelledError):
            await task


class _Broken:
    """Raises what no server does."""

    async def execute_command(self, *_: Any, **__: Any) -> Any:
        raise ValueError("a bug")


async def test_a_bug_in_a_write_leaves_nobody_waiting(gateway: GatewayEnd, keys: Keys) -> None:
    writer = LaneWriter(_Broken(), keys, {"echo": echo_spec()}, gateway.link)
    running = asyncio.create_task(writer.run())
    for _ in range(2):
        with pytest.raises(Unavailable):
            await asyncio.wait_for(writer.enqueue(submission()), PATIENCE_S)
    running.cancel()
    await asyncio.wait([running])
