"""The inbox while its server is paused, killed and restarted."""

import asyncio
import time

import pytest

from forebay.contract.errors import Unavailable
from forebay.lanes import replies
from forebay.lanes.keys import Keys
from forebay.runtime.redis import link as runtime_link
from tests.fixtures.gateway_end import GatewayEnd, gateway_end
from tests.fixtures.lanes import join, read, reply_to, settlement, submission
from tests.fixtures.servers import LaneServer, Server, real_client
from tests.fixtures.waiting import PATIENCE_S, eventually

TIMEOUT_S = 2.0
"""Of the gateway's commands."""


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorter times, in the same proportions."""
    monkeypatch.setattr(runtime_link, "WATCH_S", 0.1)
    monkeypatch.setattr(replies, "RECHECK_S", 0.05)
    monkeypatch.setattr(replies, "OUTAGE_GRACE_S", 0.3)
    monkeypatch.setattr(replies, "OVERDUE_S", 0.2)


def stands(gateway: GatewayEnd) -> bool:
    return gateway.link.up and gateway.inbox.listening


async def works(gateway: GatewayEnd, url: str, keys: Keys) -> bool:
    """Whether a prediction goes all the way."""
    lanes = LaneServer("real", lambda blocking: real_client(url, blocking=blocking), keys)
    try:
        waiter = await gateway.submit(submission(reply_channel=gateway.inbox.channel))
        worker = await join(lanes)
        deliveries = await read(worker, 100)
        await worker.settle([settlement(delivery) for delivery in deliveries])
        async with asyncio.timeout(PATIENCE_S):
            (reply,) = await waiter.future
        return reply == reply_to(deliveries[-1])
    finally:
        await lanes.close()


@pytest.mark.parametrize("how", ["paused", "killed"])
async def test_waiters_are_told_when_the_server_stays_away_and_all_works_when_it_is_back(
    private_server: Server, keys: Keys, how: str
) -> None:
    async with gateway_end(private_server.url, keys, timeout_s=TIMEOUT_S) as gateway:
        waiters = [
            await gateway.submit(submission(reply_channel=gateway.inbox.channel)) for _ in range(20)
        ]
        started = time.monotonic()
        if how == "paused":
            private_server.pause()
        else:
            private_server.kill()
        for waiter in waiters:
            with pytest.raises(Unavailable) as caught:
                async with asyncio.timeout(PATIENCE_S):
                    await waiter.future
            assert caught.value.retry_after_s is not None
        # Noticed by the watch, then the grace: long before their deadlines, on a slow machine too.
        assert time.monotonic() - started < 0.1 + TIMEOUT_S + 0.3 + 10
        assert len(gateway.inbox) == 0
        assert not gateway.link.up
        if how == "paused":
            private_server.resume()
        else:
            private_server.start()
        await eventually(lambda: stands(gateway))
        assert await works(gateway, private_server.url, keys)


async def test_the_inbox_is_the_first_to_notice_that_the_server_is_gone(
    private_server: Server, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime_link, "WATCH_S", 1_000.0)
    async with gateway_end(private_server.url, keys, timeout_s=TIMEOUT_S) as gateway:
        private_server.kill()
        await eventually(lambda: not gateway.link.up)


async def test_waiters_survive_an_absence_shorter_than_the_grace(
    durable_server: Server, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replies, "OUTAGE_GRACE_S", 30.0)
    monkeypatch.setattr(replies, "OVERDUE_S", 1_000.0)
    lanes = LaneServer(
        "real", lambda blocking: real_client(durable_server.url, blocking=blocking), keys
    )
    async with gateway_end(durable_server.url, keys) as gateway:
        lost = await gateway.submit(submission(reply_channel=""))
        later = await gateway.submit(submission(reply_channel=gateway.inbox.channel))
        worker = await join(lanes)
        first, second = await read(worker, 2)
        await worker.settle([settlement(first)])
        durable_server.kill()
        await eventually(lambda: not gateway.link.up)
        durable_server.start()
        # The record was there all along; the subscription is new.
        async with asyncio.timeout(PATIENCE_S):
            assert await lost.future == (reply_to(first),)
        assert not later.future.done()
        await lanes.close()
        again = await join(lanes, "w1")
        await again.settle([settlement(second)])
        async with asyncio.timeout(PATIENCE_S):
            assert await later.future == (reply_to(second),)
        assert gateway.link.outages == 1
    await lanes.close()
