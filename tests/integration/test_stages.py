"""A replica's stages on a real server, with small backends that do what a test needs."""

import asyncio
import logging
import threading
import time
from collections.abc import AsyncIterator, Sequence

import pytest
from redis.exceptions import RedisError

from forebay.contract.errors import ErrorKind, InvalidInput, Unavailable
from forebay.contract.model import BatchLimits
from forebay.contract.prediction import Lane, PredictionId, Status
from forebay.contract.rows import DEFAULT_OPTIONS, Options, Output, Row, Value, ValueRow
from forebay.inference import intake
from forebay.inference.backends.base import PreparedRow
from forebay.inference.devices import INTERRUPTS
from forebay.inference.lone import AFTER
from forebay.lanes.consumer import Delivery
from forebay.lanes.depth import depth
from forebay.lanes.keys import Keys
from forebay.lanes.lane import caller_of
from forebay.runtime.redis import Commands, connect
from tests.fixtures.gateway_end import GatewayEnd, gateway_end, values
from tests.fixtures.servers import TIMEOUT_S, Server
from tests.fixtures.stages import Shout, consumer_of, stages
from tests.fixtures.waiting import PATIENCE_S, eventually


@pytest.fixture
async def commands(redis_url: str) -> AsyncIterator[Commands]:
    redis = connect(redis_url, timeout_s=TIMEOUT_S)
    yield redis
    await redis.aclose()


@pytest.fixture
async def gateway(redis_url: str, keys: Keys) -> AsyncIterator[GatewayEnd]:
    async with gateway_end(redis_url, keys) as made:
        yield made


async def test_rows_come_back_in_order_whatever_batches_they_shared(
    redis_url: str, keys: Keys, gateway: GatewayEnd
) -> None:
    async with stages(redis_url, keys, Shout(), limits=BatchLimits(max_rows=3)):
        texts = [b'"%s"' % (b"x" * (n % 7)) + b" " * n for n in range(50)]

        first, second = await gateway.ask(values(*texts[:30]), values(*texts[30:]))

        assert [o.json for o in first.outputs + second.outputs if isinstance(o, Value)] == [
            text.upper() for text in texts
        ]
        assert first.version == "shout"
        assert first.timing is not None
        assert first.timing.compute_ms >= 0


class OneByOne(Shout):
    """Each of its batches ends when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.prepared: list[bytes] = []
        self.turns = threading.Semaphore(0)

    def prepare(
        self, rows: Sequence[Row], *, truncate: bool, options: Options = DEFAULT_OPTIONS
    ) -> list[PreparedRow | InvalidInput]:
        self.prepared += [row.json for row in rows if isinstance(row, ValueRow)]
        return super().prepare(rows, truncate=truncate, options=options)

    def run(self, rows: Sequence[PreparedRow]) -> list[Output]:
        outputs = super().run(rows)
        assert self.turns.acquire(timeout=PATIENCE_S)
        return outputs


async def test_rows_are_prepared_and_others_are_answered_while_a_batch_runs(
    redis_url: str, keys: Keys, gateway: GatewayEnd
) -> None:
    backend = OneByOne()
    async with stages(redis_url, keys, backend, limits=BatchLimits(max_rows=1)):
        first = gateway.send(values(b'"first"'))
        await eventually(lambda: backend.batches == [[b'"first"']])
        second = gateway.send(values(b'"second"'))
        await eventually(lambda: b'"second"' in backend.prepared)
        backend.turns.release()
        await eventually(lambda: backend.batches[1:] == [[b'"second"']])
        await asyncio.wait_for(first.future, PATIENCE_S)
        assert not second.future.done()
        backend.turns.release()
        await asyncio.wait_for(second.future, PATIENCE_S)


async def test_a_full_worker_runs_next_who_went_ahead_and_holds_no_more_of_them_than_it_has_room(
    redis_url: str, keys: Keys, gateway: GatewayEnd
) -> None:
    backend, room = OneByOne(), 4
    noisy, quiet = caller_of(b"Bearer noisy"), caller_of(b"Bearer quiet")
    limits = BatchLimits(max_rows=1, prefetch_rows=room)
    async with stages(redis_url, keys, backend, limits=limits) as working:
        try:
            parts = [values(*[b'"noisy"'] * 64) for _ in range(10)]
            noise = [gateway.send(*parts, caller=noisy) for _ in range(2)]
            await eventually(lambda: len(backend.batches) == 1, what="the worker is busy, and full")
            await eventually(lambda: all(one.enqueued for one in noise), what="more waits")
            asked = [gateway.send(values(b'"quiet %d"' % n), caller=quiet) for n in range(3 * room)]
            await eventually(lambda: backend.prepared.count(b'"quiet 0"'), what="one has come in")
            await eventually(lambda: all(one.enqueued for one in asked), what="all wait")
            for _ in range(4):  # what runs, and what stands ready behind it
                backend.turns.release()
            await eventually(
                lambda: any(b'"quiet' in one[0] for one in backend.batches), what="it runs"
            )
            assert len(backend.batches) <= 5
            held = [one for one in backend.prepared if b"quiet" in one]
            ended = sum(b"quiet" in one[0] for one in backend.batches)
            assert len(held) <= room + ended + 1
        finally:
            working.drain()
            for _ in range(2_000):
                backend.turns.release()


@pytest.mark.skipif(not INTERRUPTS, reason="threads stand back together")
async def test_who_went_ahead_waits_for_no_batch_of_others_where_those_can_be_interrupted(
    redis_url: str, keys: Keys, gateway: GatewayEnd
) -> None:
    backend = Shout()
    backend.held_by = b'"noisy"'
    backend.free.clear()
    noisy, quiet = caller_of(b"Bearer noisy"), caller_of(b"Bearer quiet")
    limits = BatchLimits(max_rows=1, prefetch_rows=4)
    async with stages(redis_url, keys, backend, limits=limits, interruptible=True):
        parts = [values(*[b'"noisy"'] * 64) for _ in range(10)]
        noise = [gateway.send(*parts, caller=noisy) for _ in range(2)]
        await eventually(lambda: backend.batches, what="the worker is busy")
        await eventually(lambda: all(one.enqueued for one in noise), what="more waits")
        asked = gateway.send(values(b'"quiet"'), caller=quiet)
        await asyncio.wait_for(asked.future, PATIENCE_S)
        assert backend.batches == [[b'"noisy"'], [b'"quiet"']]
        assert backend.threads == [DEVICE, "ahead_0"]
        backend.free.set()
        for one in noise:
            await asyncio.wait_for(one.future, PATIENCE_S)


@pytest.mark.skipif(not INTERRUPTS, reason="threads stand back together")
async def test_who_asks_for_little_goes_ahead_of_what_another_has_heaped_up_in_the_worker(
    redis_url: str, keys: Keys, gateway: GatewayEnd
) -> None:
    backend = Shout()
    backend.held_by = b'"noisy"'
    backend.free.clear()
    noisy, quiet = caller_of(b"Bearer noisy"), caller_of(b"Bearer quiet")
    async with stages(
        redis_url, keys, backend, limits=BatchLimits(max_rows=1), interruptible=True
    ) as working:
        noise = gateway.send(values(*[b'"noisy"'] * 20), caller=noisy)
        await eventually(lambda: backend.batches, what="the worker is busy")
        asked = gateway.send(values(b'"quiet"'), caller=quiet)
        await asyncio.wait_for(asked.future, PATIENCE_S)
        assert backend.threads == [DEVICE, "ahead_0"]
        much = gateway.send(values(*[b'"quiet"'] * 10), caller=quiet)
        await eventually(lambda: sum(map(_rows, working.held)) == 30, what="it waits its turn")
        backend.free.set()
        await asyncio.wait_for(asyncio.gather(noise.future, much.future), PATIENCE_S)
        assert backend.threads.count("ahead_0") == 1


def _rows(delivery: Delivery) -> int:
    return len(delivery.computation.rows) if delivery.computation else 0


DEVICE, LOOP = "device_0", threading.main_thread().name


TRIES = 4 * AFTER
"""Clocks are told apart to some ms: a row may seem to have waited though it has not."""


async def test_a_short_row_that_comes_by_itself_runs_on_the_event_loop(
    redis_url: str, keys: Keys, gateway: GatewayEnd
) -> None:
    backend = Shout()
    async with stages(redis_url, keys, backend, brief=True):
        for _ in range(TRIES):
            (reply,) = await gateway.ask(values(b'"one"'))
            assert reply.outputs == (Value(b'"ONE"'),)
            assert reply.timing is not None
            assert reply.timing.compute_ms >= 0
            if backend.threads[-1] == LOOP:
                break
        assert backend.threads[0] == DEVICE  # what it takes was not known
        assert backend.threads[-1] == LOOP
        await gateway.ask(values(b'"one"', b'"another"'))
        assert backend.threads[-1] == DEVICE


async def test_where_rows_may_not_run_on_the_event_loop_none_does(
    redis_url: str, keys: Keys, gateway: GatewayEnd
) -> None:
    backend = Shout()
    async with stages(redis_url, keys, backend):
        for _ in range(5):
            await gateway.ask(values(b'"one"'))
    assert set(backend.threads) == {DEVICE}


async def test_rows_that_come_together_run_on_threads_and_those_after_them_for_a_while(
    redis_url: str, keys: Keys, gateway: GatewayEnd
) -> None:
    backend = Shout()
    async with stages(redis_url, keys, backend, brief=True):
        await gateway.ask(values(b'"one"'))
        await gateway.ask(*(values(b'"%d"' % number) for number in range(5)))
        run = len(backend.batches)
        await gateway.ask(values(b'"one"'))
        assert backend.threads[run:] == [DEVICE]


async def test_a_row_is_no_lone_one_while_another_runs(
    redis_url: str, keys: Keys, gateway: GatewayEnd
) -> None:
    backend = Shout()
    async with stages(redis_url, keys, backend, brief=True, limits=BatchLimits(max_rows=1)):
        await gateway.ask(values(b'"one"'))
        backend.free.clear()
        long = gateway.send(values(b'"%s"' % (b"x" * 2_000), b'"another"'))
        await eventually(lambda: len(backend.batches) == 2)
        # The event loop is free: else nobody could be told that this has come.
        short = gateway.send(values(b'"one"'))
        await eventually(lambda: short.enqueued)
        backend.free.set()
        await asyncio.wait_for(long.future, PATIENCE_S)
        await asyncio.wait_for(short.future, PATIENCE_S)
    assert set(backend.threads) == {DEVICE}


async def test_where_rows_wait_for_company_they_run_on_threads(
    redis_url: str, keys: Keys, gateway: GatewayEnd
) -> None:
    backend = Shout()
    limits = BatchLimits(max_wait_ms=1)
    async with stages(redis_url, keys, backend, brief=True, limits=limits):
        for _ in range(3):
            await gateway.ask(values(b'"one"'))
    assert set(backend.threads) == {DEVICE}


async def test_what_fails_on_the_event_loop_fails_as_on_a_thread(
    redis_url: str, keys: Keys, gateway: GatewayEnd
) -> None:
    backend = Shout()
    async with stages(redis_url, keys, backend, brief=True):
        for _ in range(TRIES):
            (reply,) = await gateway.ask(values(b'"poison"'))
            if backend.threads[-1] == LOOP:
                break
        assert reply.status is Status.FAILED
        assert reply.error is not None
        assert "secret" not in reply.error.message
        assert backend.threads[-1] == LOOP
        (reply,) = await gateway.ask(values(b'"one"'))
        assert reply.status is Status.SUCCEEDED


@pytest.mark.parametrize("target_ms", [None, 1e-6])
async def test_once_a_batch_has_run_the_target_says_how_many_rows_share_one(
    redis_url: str, keys: Keys, gateway: GatewayEnd, target_ms: float | None
) -> None:
    backend = Shout()
    async with stages(redis_url, keys, backend, limits=BatchLimits(target_ms=target_ms)):
        await gateway.ask(values(b'"first"'))
        await gateway.ask(values(*(b'"text%d"' % n for n in range(8))))

    assert [len(batch) for batch in backend.batches] == ([1, 8] if target_ms is None else [1] * 9)


async def test_a_poison_row_fails_alone_and_its_neighbours_succeed(
    redis_url: str, keys: Keys, gateway: GatewayEnd, commands: Commands
) -> None:
    backend = Shout()
    backend.free.clear()
    async with stages(redis_url, keys, backend):
        # The first two batches occupy the device, so that the next 32 share a batch.
        plugs = [gateway.send(values(b'"plug"')) for _ in range(2)]
        await eventually(lambda: backend.batches, what="the device is busy")
        waiters = [gateway.send(values(b'"ok %d"' % n)) for n in range(31)]
        poison = gateway.send(values(b'"poison"'))
        await eventually(
            lambda: _held(commands, keys.of("echo").lane(Lane.REALTIME), 34),
            what="all are with the worker",
        )
        backend.free.set()

        (reply,) = await poison.future
        others = [(await waiter.future)[0] for waiter in waiters + plugs]

    assert reply.status is Status.FAILED
    assert reply.error is not None
    assert reply.error.kind is ErrorKind.BACKEND_FAILED
    assert "secret" not in reply.error.message
    assert all(other.status is Status.SUCCEEDED for other in others)


async def _held(redis: Commands, lane: str, count: int) -> bool:
    pending = await redis.execute_command("XPENDING", lane, "workers")
    return bool(pending[0] == count)


async def test_a_refused_row_names_its_index_and_nothing_of_its_prediction_runs(
    redis_url: str, keys: Keys, gateway: GatewayEnd
) -> None:
    backend = Shout()
    async with stages(redis_url, keys, backend):
        (reply,) = await gateway.ask(values(b"1", b"2", b'"refuse"', b"4"))

    assert reply.status is Status.FAILED
    assert reply.error is not None
    assert reply.error.row == 2
    assert reply.error.message == "Row 2: not that one"
    assert backend.batches == []


async def test_a_row_of_a_later_part_is_named_by_its_place_in_the_prediction(
    redis_url: str, keys: Keys, gateway: GatewayEnd
) -> None:
    backend = Shout()
    backend.free.clear()
    async with stages(redis_url, keys, backend):
        waiter = gateway.send(values(b"1", b"2"), values(b"3", b'"refuse"'))
        (reply,) = await asyncio.wait_for(waiter.future, PATIENCE_S)
        backend.free.set()

    assert reply.error is not None
    assert reply.error.row == 3


async def test_realtime_runs_before_bulk_that_waits_longer(
    redis_url: str, keys: Keys, gateway: GatewayEnd, commands: Commands
) -> None:
    backend = Shout()
    backend.free.clear()
    async with stages(redis_url, keys, backend, limits=BatchLimits(max_rows=1)):
        plug = gateway.send(values(b'"plug"'))
        await eventually(lambda: backend.batches)
        bulk = gateway.send(values(b'"bulk"'), lane=Lane.BULK)
        await eventually(lambda: _held(commands, keys.of("echo").lane(Lane.BULK), 1))
        urgent = gateway.send(values(b'"urgent"'))
        await eventually(lambda: _held(commands, keys.of("echo").lane(Lane.REALTIME), 2))
        backend.free.set()
        for waiter in [plug, bulk, urgent]:
            await waiter.future

    assert backend.batches.index([b'"urgent"']) < backend.batches.index([b'"bulk"'])


async def test_a_flood_of_bulk_holds_no_realtime_up_and_is_not_hoarded(
    redis_url: str, keys: Keys, gateway: GatewayEnd, commands: Commands
) -> None:
    flood = [
        gateway.send(values(*(b'"bulk"' for _ in range(256))), lane=Lane.BULK) for _ in range(25)
    ]
    await eventually(lambda: all(waiter.enqueued for waiter in flood))
    backend = Shout()
    backend.free.clear()
    limits = BatchLimits(max_rows=8, prefetch_rows=64)
    async with stages(redis_url, keys, backend, limits=limits) as working:
        await eventually(lambda: backend.batches)
        urgent = gateway.send(values(b'"urgent"'))
        await eventually(lambda: _held(commands, keys.of("echo").lane(Lane.REALTIME), 1))
        assert len(working.held) <= 3
        before = len(backend.batches)
        backend.free.set()
        await urgent.future
        ran = [b'"urgent"' in batch for batch in backend.batches].index(True)
        for waiter in flood:
            await waiter.future

    # It went before what stood ready, too.
    assert ran <= before


async def test_bulk_is_read_again_once_it_has_room_though_realtime_waits_for_work(
    redis_url: str, keys: Keys, gateway: GatewayEnd
) -> None:
    limits = BatchLimits(max_rows=4, prefetch_rows=4)
    async with stages(redis_url, keys, Shout(), limits=limits):
        waiters = [gateway.send(values(b"%d" % n), lane=Lane.BULK) for n in range(200)]
        for waiter in waiters:
            assert (await asyncio.wait_for(waiter.future, PATIENCE_S))[0].status is Status.SUCCEEDED


async def test_of_quick_rows_of_bulk_more_are_held_than_of_any(
    redis_url: str, keys: Keys, gateway: GatewayEnd
) -> None:
    backend = Shout()
    limits = BatchLimits(max_rows=1, prefetch_rows=8)
    async with stages(redis_url, keys, backend, limits=limits) as working:
        first = [gateway.send(values(b"%d" % n), lane=Lane.BULK) for n in range(500)]
        for waiter in first:
            await waiter.future
        backend.free.clear()
        slow = [gateway.send(values(b"%d" % n), lane=Lane.BULK) for n in range(100)]
        # Four times as many, but for those on their way; and no more but for those that run.
        await eventually(lambda: len(working.held) >= 24)
        await eventually(lambda: all(waiter.enqueued for waiter in slow))
        assert len(working.held) <= 4 * 8 + 4
        backend.free.set()
        for waiter in slow:
            await waiter.future


async def test_rows_that_expire_make_room_for_others(
    redis_url: str, keys: Keys, gateway: GatewayEnd
) -> None:
    backend = Shout()
    backend.free.clear()
    limits = BatchLimits(max_rows=1, prefetch_rows=2)
    async with stages(redis_url, keys, backend, limits=limits) as working:
        plugs = [gateway.send(values(b'"plug"')) for _ in range(2)]
        await eventually(lambda: backend.batches)
        late = [gateway.send(values(b'"late"'), deadline_ms=1) for _ in range(2)]
        await eventually(lambda: len(working.held) == 4)
        after = gateway.send(values(b'"after"'))
        backend.free.set()
        for waiter in [*plugs, after]:
            assert (await asyncio.wait_for(waiter.future, PATIENCE_S))[0].status is Status.SUCCEEDED
        for waiter in late:
            assert (await asyncio.wait_for(waiter.future, PATIENCE_S))[0].status is Status.EXPIRED


async def test_a_drained_worker_gives_back_what_it_has_not_prepared(
    redis_url: str, keys: Keys, gateway: GatewayEnd, commands: Commands
) -> None:
    backend = Shout()
    backend.free.clear()
    limits = BatchLimits(max_rows=1, prefetch_rows=1)
    # Small entries lead the worker to expect more of them, and to lease several large ones.
    waiters = [gateway.send(values(b"1"), lane=Lane.BULK) for _ in range(30)]
    waiters += [gateway.send(values(*(b"2" for _ in range(99))), lane=Lane.BULK) for _ in range(3)]
    await eventually(lambda: all(waiter.enqueued for waiter in waiters))
    async with stages(redis_url, keys, backend, limits=limits) as working:
        await eventually(lambda: backend.batches)
        working.drain()
        await eventually(lambda: len(working.held) <= 4)
        backend.free.set()
    async with stages(redis_url, keys, Shout(), name="next"):
        for waiter in waiters:
            assert (await asyncio.wait_for(waiter.future, PATIENCE_S))[0].status is Status.SUCCEEDED


async def test_what_waited_past_its_deadline_is_expired_without_running(
    redis_url: str, keys: Keys, gateway: GatewayEnd
) -> None:
    backend = Shout()
    backend.free.clear()
    async with stages(redis_url, keys, backend, limits=BatchLimits(max_rows=1)):
        plugs = [gateway.send(values(b'"plug"')) for _ in range(3)]
        await eventually(lambda: backend.batches)
        late = gateway.send(values(b'"late"'), deadline_ms=1)
        await eventually(lambda: late.enqueued)
        until = time.monotonic() + 0.02
        await eventually(lambda: time.monotonic() > until)
        backend.free.set()
        (reply,) = await late.future
        for plug in plugs:
            await plug.future

    assert reply.status is Status.EXPIRED
    assert [b'"late"'] not in backend.batches


async def test_a_drained_worker_finishes_what_it_holds_and_leaves_the_rest(
    redis_url: str, keys: Keys, gateway: GatewayEnd, commands: Commands
) -> None:
    backend = Shout()
    backend.free.clear()
    limits = BatchLimits(max_rows=1, prefetch_rows=2)
    async with stages(redis_url, keys, backend, limits=limits) as working:
        waiters = [gateway.send(values(b"%d" % n)) for n in range(20)]
        await eventually(lambda: len(working.held) >= 2)
        working.drain()
        backend.free.set()
        await eventually(lambda: not working.held)
    waiting = await depth(commands, keys.of("echo"), now_ms=0)
    assert 0 < waiting.realtime <= 18

    await eventually(
        lambda: sum(waiter.future.done() for waiter in waiters) == 20 - waiting.realtime
    )

    async with stages(redis_url, keys, Shout(), name="next"):
        for waiter in waiters:
            assert (await waiter.future)[0].status is Status.SUCCEEDED


async def test_results_survive_an_outage_of_redis_between_run_and_settle(
    durable_server: Server, keys: Keys
) -> None:
    server = durable_server
    url = server.url
    backend = Shout()
    backend.free.clear()
    async with gateway_end(url, keys) as gateway, stages(url, keys, backend):
        waiter = gateway.send(values(b'"kept"'))
        await eventually(lambda: backend.batches)
        server.kill()
        backend.free.set()
        await eventually(lambda: waiter.future.done(), what="the waiter is told of the outage")
        server.start()

        record = await eventually(
            lambda: _ended(gateway, waiter.id), what="the result is settled after the outage"
        )

    assert record is Status.SUCCEEDED
    assert waiter.future.exception() is not None
    assert len(backend.batches) == 1


async def test_entries_of_both_lanes_with_the_same_id_are_not_taken_for_one_another(
    redis_url: str, keys: Keys, gateway: GatewayEnd
) -> None:
    # What is enqueued in one call gets its ids in one millisecond.
    waiters = [
        gateway.send(values(b'"%s %d"' % (lane.value.encode(), number)), lane=lane)
        for number in range(30)
        for lane in Lane
    ]
    async with stages(redis_url, keys, Shout(), limits=BatchLimits(max_rows=4)):
        replies = [(await asyncio.wait_for(waiter.future, PATIENCE_S))[0] for waiter in waiters]
    entries: dict[Lane, set[str]] = {lane: set() for lane in Lane}
    for waiter in waiters:
        record = await gateway.records.record(waiter.id)
        assert record is not None
        entries[record.lane].update(record.entries)

    assert entries[Lane.REALTIME] & entries[Lane.BULK]
    assert [reply.outputs for reply in replies] == [
        (Value(b'"%s %d"' % (lane.value.upper().encode(), number)),)
        for number in range(30)
        for lane in Lane
    ]


async def test_a_foreign_entry_on_a_lane_is_taken_off_and_harms_nobody(
    redis_url: str, keys: Keys, gateway: GatewayEnd, commands: Commands
) -> None:
    lane = keys.of("echo").lane(Lane.REALTIME)
    for fields in (["a", "b"], ["c", "x", "m", "y"], ["c", b"\xff.0", "m", b"\xff"]):
        await commands.execute_command("XADD", lane, "*", *fields)
    async with stages(redis_url, keys, Shout()) as working:
        (reply,) = await gateway.ask(values(b'"mine"'))
        await eventually(lambda: not working.held)
        await eventually(lambda: _entries(commands, lane, 0))
    assert reply.status is Status.SUCCEEDED


async def _entries(commands: Commands, lane: str, count: int) -> bool:
    return bool(await commands.execute_command("XLEN", lane) == count)


async def test_a_server_that_is_out_of_memory_still_takes_results_and_work_goes_on_afterwards(
    private_server: Server, keys: Keys
) -> None:
    url = private_server.url
    redis = connect(url, timeout_s=TIMEOUT_S)
    server: Commands = redis
    backend = Shout()
    backend.free.clear()
    async with gateway_end(url, keys) as gateway, stages(url, keys, backend) as working:
        waiters = [gateway.send(values(b'"%d"' % n)) for n in range(100)]
        await eventually(lambda: all(waiter.enqueued for waiter in waiters))
        await server.execute_command("CONFIG", "SET", "maxmemory-policy", "noeviction")
        await server.execute_command("CONFIG", "SET", "maxmemory", "1")
        refused = gateway.send(values(b'"too much"'))
        with pytest.raises(Unavailable, match="memory"):
            await asyncio.wait_for(refused.future, PATIENCE_S)
        backend.free.set()
        for waiter in waiters:
            assert (await asyncio.wait_for(waiter.future, PATIENCE_S))[0].status is Status.SUCCEEDED
        await eventually(lambda: not working.held)
        await server.execute_command("CONFIG", "SET", "maxmemory", "0")
        (reply,) = await gateway.ask(values(b'"again"'))
        assert reply.status is Status.SUCCEEDED
    await redis.aclose()


async def test_a_server_that_takes_no_writes_for_a_while_costs_nothing_but_time(
    private_server: Server, keys: Keys
) -> None:
    url = private_server.url
    redis = connect(url, timeout_s=TIMEOUT_S)
    server: Commands = redis
    backend = Shout()
    backend.free.clear()
    async with gateway_end(url, keys) as gateway, stages(url, keys, backend) as working:
        waiter = gateway.send(values(b'"kept"'))
        await eventually(lambda: backend.batches)
        await server.execute_command("REPLICAOF", "127.0.0.1", "1")
        backend.free.set()
        until = time.monotonic() + 0.5
        await eventually(lambda: time.monotonic() > until)
        assert not waiter.future.done()
        await server.execute_command("REPLICAOF", "NO", "ONE")
        assert (await asyncio.wait_for(waiter.future, PATIENCE_S))[0].status is Status.SUCCEEDED
        await eventually(lambda: not working.held)
    assert len(backend.batches) == 1
    await redis.aclose()


async def test_a_worker_whose_lanes_were_deleted_joins_anew(
    redis_url: str, keys: Keys, gateway: GatewayEnd, commands: Commands
) -> None:
    async with stages(redis_url, keys, Shout()):
        await gateway.ask(values(b'"before"'))
        for lane in Lane:
            await commands.execute_command("DEL", keys.of("echo").lane(lane))
            after = gateway.send(values(b'"after"'), lane=lane)
            (reply,) = await asyncio.wait_for(after.future, PATIENCE_S)
            assert reply.status is Status.SUCCEEDED


async def _ended(gateway: GatewayEnd, id_: PredictionId) -> Status | None:
    try:
        record = await gateway.records.record(id_)
    except (RedisError, OSError):
        return None
    return record.status if record and record.status.terminal else None


async def test_a_worker_whose_own_lease_lapsed_goes_on_instead_of_running_it_twice(
    redis_url: str, keys: Keys, gateway: GatewayEnd
) -> None:
    backend = Shout()
    backend.free.clear()
    async with stages(redis_url, keys, backend, lease_ms=20) as working:
        waiter = gateway.send(values(b'"slow"'))
        await eventually(lambda: backend.batches)
        await eventually(
            lambda: [d.attempt for d in working.held] >= [2], what="it took its own lease over"
        )
        backend.free.set()
        (reply,) = await waiter.future

    assert reply.status is Status.SUCCEEDED
    assert backend.batches == [[b'"slow"']]


async def test_a_worker_says_how_many_leases_it_took_over(
    redis_url: str, keys: Keys, gateway: GatewayEnd, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, logger=intake.__name__)
    async with consumer_of(redis_url, keys, "gone") as (gone, _):
        waiters = [gateway.send(values(b'"%d"' % n)) for n in range(3)]
        held = 0
        while held < len(waiters):
            held += len(await gone.wait(Lane.REALTIME, most=3, block_ms=100))
        async with stages(redis_url, keys, Shout(), lease_ms=20):
            for waiter in waiters:
                (reply,) = await waiter.future
                assert reply.status is Status.SUCCEEDED
            await eventually(lambda: "took over" in caplog.text, what="it says so")
    told = [record.getMessage() for record in caplog.records if record.name == intake.__name__]
    numbers = [int(one.split()[2]) for one in told if one.startswith("took over")]
    assert sum(numbers) >= len(waiters), told
    assert all("that nobody would settle" in one for one in told)
