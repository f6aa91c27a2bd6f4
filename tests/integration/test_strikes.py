"""Rows that take their worker with them, on real workers that really die."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from forebay.contract.errors import ErrorKind
from forebay.contract.prediction import Lane, Status
from forebay.lanes.keys import Keys
from forebay.lanes.replies import Waiter
from forebay.runtime.redis import Commands, connect
from tests.fixtures.gateway_end import GatewayEnd, gateway_end, values
from tests.fixtures.lanes import hash_of
from tests.fixtures.mortal import CRASH, HANG, MAX_ROWS, SLOW, go_of, mortals
from tests.fixtures.servers import TIMEOUT_S
from tests.fixtures.waiting import eventually


@pytest.fixture
async def commands(redis_url: str) -> AsyncIterator[Commands]:
    redis = connect(redis_url, timeout_s=TIMEOUT_S)
    yield redis
    await redis.aclose()


@pytest.fixture
async def gateway(redis_url: str, keys: Keys) -> AsyncIterator[GatewayEnd]:
    async with gateway_end(redis_url, keys) as made:
        yield made


async def status_of(waiter: Waiter) -> Status:
    return (await waiter.future)[0].status


@pytest.mark.parametrize("culprit", [CRASH, HANG])
async def test_a_row_that_kills_its_worker_is_quarantined_and_all_its_neighbours_succeed(
    redis_url: str,
    key_prefix: str,
    keys: Keys,
    gateway: GatewayEnd,
    commands: Commands,
    tmp_path: Path,
    culprit: bytes,
) -> None:
    # They wait before any worker is there, so that they come to share its first batches.
    neighbours = [gateway.send(values(b'"%d"' % n)) for n in range(31)]
    poison = gateway.send(values(culprit))
    prefetched = [gateway.send(values(b'"%d"' % n)) for n in range(31, 90)]
    await eventually(lambda: poison.enqueued and all(w.enqueued for w in prefetched))

    # Of what crashes nobody waits for the end.
    timeout_s = 3.0 if culprit == HANG else 60.0
    log = tmp_path / "batches"
    with mortals(redis_url, key_prefix, log, timeout_s=timeout_s) as workers:
        (reply,) = await poison.future
        for waiter in neighbours + prefetched:
            assert await status_of(waiter) is Status.SUCCEEDED
        batches = workers.batches

    assert reply.status is Status.FAILED
    assert reply.error is not None
    assert reply.error.kind is ErrorKind.WORKER_LOST
    # Once in company, three times alone.
    fatal = [batch for batch in batches if culprit in batch]
    assert [len(batch) for batch in fatal] == [len(fatal[0]), 1, 1, 1]
    assert len(fatal[0]) > 1
    # Who shared its batch was under suspicion, and ran alone as well; the others never were.
    for row in fatal[0]:
        if row != culprit:
            assert [row] in batches
    struck = 0
    for waiter in [*neighbours, poison, *prefetched]:
        record = await hash_of(commands, keys.of("echo").record(waiter.id.text))
        struck += "k0" in record
    # Two batches run at a time, and nobody can tell which of the two it was; 64 had been leased.
    assert len(fatal[0]) <= struck <= 2 * MAX_ROWS

    (letter,) = await commands.execute_command("XRANGE", keys.of("echo").dead, "-", "+")
    told = dict(zip(letter[1][::2], letter[1][1::2], strict=True))
    history = told[b"history"].decode().splitlines()
    assert len(history) == 4
    assert ("longer than 3 s" in history[0]) == (culprit == HANG)
    record = await hash_of(commands, keys.of("echo").record(poison.id.text))
    assert record["k0"] == b"4"


async def test_what_a_worker_had_not_begun_when_it_died_gets_no_strike(
    redis_url: str,
    key_prefix: str,
    keys: Keys,
    gateway: GatewayEnd,
    commands: Commands,
    tmp_path: Path,
) -> None:
    with mortals(redis_url, key_prefix, tmp_path / "batches", timeout_s=60) as workers:
        slow = []
        for stream in range(2):
            slow.append(gateway.send(values(SLOW), lane=Lane.BULK))
            await eventually(lambda busy=stream: len(workers.batches) > busy)  # type: ignore[misc]
        waiting = [gateway.send(values(b'"%d"' % n), lane=Lane.BULK) for n in range(40)]
        await eventually(lambda: all(waiter.enqueued for waiter in waiting))
        workers.kill()
        go_of(workers.log).touch()
        for waiter in slow + waiting:
            assert await status_of(waiter) is Status.SUCCEEDED
        assert workers.started >= 2

    struck = 0
    for waiter in waiting:
        record = await hash_of(commands, keys.of("echo").record(waiter.id.text))
        struck += "k0" in record
    assert struck == 0
