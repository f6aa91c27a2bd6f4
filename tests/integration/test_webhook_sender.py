"""The sender and its records by themselves, on a real server."""

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Any

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from forebay.background.webhooks import sender as sender_module
from forebay.background.webhooks.bodies import host_of
from forebay.background.webhooks.caller import MOST_REDIRECTED, Caller
from forebay.background.webhooks.circuit import MOST_FAILURES
from forebay.background.webhooks.sender import MOST_A_HOST, Sender
from forebay.cli.deliveries import print_delivery
from forebay.contract.notices import Attempt, Delivery, DeliveryState
from forebay.egress.client import Client
from forebay.egress.rules import Rules
from forebay.records import deliveries as deliveries_module
from forebay.records.deliveries import HANDED_MS, Deliveries, Told
from forebay.records.signing import MOST_FORMER, SecretStore
from tests.fixtures.hooked import BROKEN, Receiver, hooked, moved
from tests.fixtures.servers import LaneServer
from tests.fixtures.waiting import eventually

KEEP_MS = 60_000
HOUR_MS = 3_600_000
LATER = (3_600.0,) * 3

MakeSender = Callable[..., contextlib.AbstractAsyncContextManager[Sender]]


@pytest.fixture
def deliveries(real_lanes: LaneServer) -> Deliveries:
    return Deliveries(real_lanes.redis, real_lanes.keys)


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with hooked() as made:
        yield made


@pytest.fixture
def sending(real_lanes: LaneServer, deliveries: Deliveries) -> MakeSender:
    """Makes senders, by default of a patient schedule, that may call this machine."""

    @contextlib.asynccontextmanager
    async def make(
        schedule: tuple[float, ...] = LATER, timeout_s: float = 60.0, loopback: bool = True
    ) -> AsyncGenerator[Sender]:
        async with Client(Rules(loopback=loopback)) as client:
            made = Sender(
                deliveries,
                Caller(SecretStore(real_lanes.redis, real_lanes.keys), client, timeout_s=timeout_s),
                schedule=schedule,
                keep_s=KEEP_MS / 1000,
                chance=lambda: 0.5,
            )
            try:
                yield made
            finally:
                await made.aclose(within_s=0)

    return make


def delivery(number: int, url: str) -> Delivery:
    return Delivery(f"msg_{number}", f"p{number}", "completed", url, b'{"id":"p"}')


async def put(deliveries: Deliveries, *several: Delivery) -> None:
    made = await deliveries.deliver([(one, host_of(one.url)) for one in several], keep_ms=KEEP_MS)
    assert made == [True] * len(several)


async def tried(deliveries: Deliveries, id_: str, times: int = 1) -> Told:
    async def often_enough() -> Told | None:
        told = await deliveries.told(id_)
        assert told is not None
        return told if len(told.attempts) >= times else None

    return await eventually(often_enough, what="it is tried")


async def test_a_name_that_leads_to_the_metadata_of_a_cloud_is_not_called(
    deliveries: Deliveries, sending: MakeSender, monkeypatch: pytest.MonkeyPatch
) -> None:
    def getaddrinfo(host: str, port: int, *_: Any, **__: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("169.254.169.254", port))]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    await put(deliveries, one := delivery(1, "http://hooks.example/"))
    async with sending() as sender:
        sender.offer(one.id, host_of(one.url))
        told = await tried(deliveries, one.id)
    assert told.state is DeliveryState.REFUSED
    assert "169.254.169.254 (hooks.example)" in told.attempts[0].error


async def test_this_machine_is_not_called_unless_that_is_allowed(
    deliveries: Deliveries, sending: MakeSender, receiver: Receiver
) -> None:
    await put(deliveries, one := delivery(1, receiver.url("/")))
    async with sending(loopback=False) as sender:
        sender.offer(one.id, host_of(one.url))
        assert (await tried(deliveries, one.id)).state is DeliveryState.REFUSED
    assert receiver.heard == []


async def test_who_says_when_to_come_again_is_not_called_before(
    deliveries: Deliveries, sending: MakeSender, receiver: Receiver
) -> None:
    for path, told in (("/seconds", "7200"), ("/date", "Fri, 31 Dec 9999 23:59:59 GMT")):
        answer = f"HTTP/1.1 429 .\r\nretry-after: {told}\r\ncontent-length: 0\r\n\r\n".encode()
        receiver.answers[path] = lambda _, answer=answer: answer  # type: ignore[misc]
    several = [delivery(1, receiver.url("/seconds")), delivery(2, receiver.url("/date"))]
    several.append(delivery(3, receiver.url("/broken")))
    receiver.answers["/broken"] = lambda _: BROKEN
    await put(deliveries, *several)
    async with sending() as sender:
        for one in several:
            sender.offer(one.id, host_of(one.url))
        due = []
        for one in several:
            told_of = await tried(deliveries, one.id)
            assert told_of.due_at_ms is not None
            assert told_of.state is DeliveryState.WAITING
            due.append(told_of.due_at_ms - told_of.attempts[0].at_ms)
    assert 2 * HOUR_MS <= due[0] < 3 * HOUR_MS
    assert 24 * HOUR_MS <= due[1] < 25 * HOUR_MS
    assert HOUR_MS <= due[2] < 2 * HOUR_MS


async def test_who_does_not_answer_in_time_is_left(
    deliveries: Deliveries, sending: MakeSender, receiver: Receiver
) -> None:
    receiver.answers["/hangs"] = lambda _: None
    await put(deliveries, one := delivery(1, receiver.url("/hangs")))
    async with sending(timeout_s=0.2) as sender:
        sender.offer(one.id, host_of(one.url))
        told = await tried(deliveries, one.id)
    assert told.state is DeliveryState.WAITING
    assert "did not answer within 0.2 s" in told.attempts[0].error


async def test_a_redirect_is_not_followed_and_told_and_has_failed_soon(
    deliveries: Deliveries,
    sending: MakeSender,
    receiver: Receiver,
    capsys: pytest.CaptureFixture[str],
) -> None:
    leads = receiver.url("/elsewhere")
    receiver.answers["/moved"] = lambda _: moved(leads)
    await put(deliveries, one := delivery(1, receiver.url("/moved")))
    async with sending() as sender:

        async def over() -> Told | None:
            sender.offer(one.id, host_of(one.url))
            told = await deliveries.told(one.id)
            return None if told is None or told.state is DeliveryState.WAITING else told

        told = await eventually(over, what="it is given up")
    assert told.state is DeliveryState.FAILED
    assert len(told.attempts) == len(receiver.at("/moved")) == MOST_REDIRECTED
    assert receiver.at("/elsewhere") == []
    print_delivery(told, raw=False)
    assert f"302 Redirects are not followed: {leads}." in capsys.readouterr().out


async def test_a_host_that_does_not_answer_is_left_alone_and_no_attempt_is_lost_by_that(
    deliveries: Deliveries, sending: MakeSender, receiver: Receiver
) -> None:
    receiver.answers["/broken"] = lambda _: BROKEN
    several = [delivery(number, receiver.url("/broken")) for number in range(100)]
    await put(deliveries, *several)
    async with sending() as sender:
        for one in several:
            sender.offer(one.id, host_of(one.url))

        async def put_off() -> bool:
            told = [await deliveries.told(one.id) for one in several]
            # Due later than they would be if they had only been handed out.
            return all(
                one is not None and (one.due_at_ms or 0) > one.made_at_ms + 2 * HANDED_MS
                for one in told
            )

        await eventually(put_off, what="the others are put off")
        assert MOST_FAILURES <= len(receiver.heard) < MOST_FAILURES + MOST_A_HOST
        untried = await deliveries.told(several[-1].id)
        assert untried is not None
        assert (untried.failures, untried.attempts) == (0, ())


async def test_a_delivery_is_tried_by_one_at_a_time_and_who_is_late_is_refused(
    deliveries: Deliveries,
) -> None:
    await put(deliveries, delivery(1, "https://hooks.example/"))
    first = await deliveries.attempt("msg_1", token="a", lease_ms=1)
    assert first is not None

    async def again() -> Any:
        return await deliveries.attempt("msg_1", token="b", lease_ms=HOUR_MS)

    second = await eventually(again, what="the lease is over")
    assert await deliveries.attempt("msg_1", token="c", lease_ms=HOUR_MS) is None
    attempt = Attempt(1, 1, 200)
    done = DeliveryState.DELIVERED
    assert not await deliveries.attempted(first, done, attempt, keep_ms=KEEP_MS)
    assert await deliveries.attempted(second, done, attempt, keep_ms=KEEP_MS)
    assert await deliveries.attempt("msg_1", token="d", lease_ms=HOUR_MS) is None
    assert await deliveries.waiting() == 0


async def test_what_was_handed_out_and_lost_is_due_again_and_given_to_one_who_asks(
    deliveries: Deliveries,
) -> None:
    await put(deliveries, *(delivery(number, "https://a.example/") for number in range(3)))

    async def overdue(longest_ms: int = HOUR_MS) -> list[tuple[str, str]]:
        return await deliveries.overdue(most=100, longest_ms=longest_ms, keep_ms=KEEP_MS)

    assert await overdue() == []
    await deliveries.postpone(["msg_0", "msg_1", "msg_9"], [-1, -1, -1])
    found = [*await overdue(), *await overdue()]
    assert sorted(found) == [("msg_0", "a.example"), ("msg_1", "a.example")]
    await deliveries.postpone(["msg_2"], [-1])
    assert await overdue(longest_ms=-1) == []
    told = await deliveries.told("msg_2")
    assert told is not None
    assert (told.state, told.due_at_ms) == (DeliveryState.FAILED, None)


async def test_what_is_over_goes_in_time_and_beyond_the_bound_and_what_waits_stays(
    deliveries: Deliveries,
) -> None:
    several = [delivery(number, "https://a.example/") for number in range(5)]
    await put(deliveries, *several)
    for number in (0, 1, 3):
        taken = await deliveries.attempt(f"msg_{number}", token="a", lease_ms=HOUR_MS)
        assert taken is not None
        assert await deliveries.attempted(
            taken, DeliveryState.FAILED, Attempt(1, 1), keep_ms=KEEP_MS
        )
    assert await deliveries.tidy(older_than_ms=HOUR_MS, most=4) == 1
    left = {told.delivery.id async for told in deliveries.newest()}
    assert left == {"msg_1", "msg_2", "msg_3", "msg_4"}
    assert await deliveries.tidy(older_than_ms=-1, most=4) == 2
    left = {told.delivery.id async for told in deliveries.newest()}
    assert left == {"msg_2", "msg_4"}
    assert not await deliveries.replay("msg_3")


async def test_while_a_rotation_lasts_both_secrets_sign(
    deliveries: Deliveries, real_lanes: LaneServer, sending: MakeSender, receiver: Receiver
) -> None:
    store = SecretStore(real_lanes.redis, real_lanes.keys)
    first, again = await asyncio.gather(store.read(), store.read())
    assert first == again
    second = await store.rotate(grace_ms=HOUR_MS)
    await put(deliveries, one := delivery(1, receiver.url("/")))
    async with sending() as sender:
        sender.offer(one.id, host_of(one.url))
        await tried(deliveries, one.id)
        (heard,) = receiver.heard
        assert len(heard.headers["webhook-signature"].split(" ")) == 2
        for secret in (first.current, second.current):
            assert Webhook(secret).verify(heard.body, heard.headers) == {"id": "p"}
        await store.rotate(grace_ms=0)
        await put(deliveries, two := delivery(2, receiver.url("/")))
        sender.offer(two.id, host_of(two.url))
        await tried(deliveries, two.id)
    assert len(receiver.heard[-1].headers["webhook-signature"].split(" ")) == 1


async def test_rotations_at_once_lose_none_and_none_signs_for_longer_than_the_last_grace(
    real_lanes: LaneServer,
) -> None:
    store = SecretStore(real_lanes.redis, real_lanes.keys)
    first = await store.read()
    made = await asyncio.gather(*(store.rotate(grace_ms=HOUR_MS) for _ in range(5)))
    now_ms = int(time.time() * 1000)
    valid = (await store.read()).valid(now_ms)
    assert sorted(valid) == sorted([first.current, *(one.current for one in made)])
    last = await store.rotate(grace_ms=0)
    assert (await store.read()) == last
    assert last.valid(now_ms) == (last.current,)
    for _ in range(MOST_FORMER + 2):
        last = await store.rotate(grace_ms=HOUR_MS)
    assert len(last.valid(now_ms)) == MOST_FORMER + 1


async def test_a_receiver_may_have_a_secret_of_its_own_that_is_taken_up_without_a_gap(
    deliveries: Deliveries, real_lanes: LaneServer, sending: MakeSender, receiver: Receiver
) -> None:
    store = SecretStore(real_lanes.redis, real_lanes.keys)
    mine, other = receiver.url("/mine"), receiver.url("/other")
    shared = await store.read()
    own = await store.rotate_of(mine, grace_ms=HOUR_MS)
    await store.rotate(grace_ms=0)
    several = [delivery(1, mine), delivery(2, other)]
    await put(deliveries, *several)
    async with sending() as sender:
        for one in several:
            sender.offer(one.id, host_of(one.url))
            await tried(deliveries, one.id)
        (heard,) = receiver.at("/mine")
        for secret in (own.current, shared.current):
            assert Webhook(secret).verify(heard.body, heard.headers) == {"id": "p"}
        (heard,) = receiver.at("/other")
        with pytest.raises(WebhookVerificationError):
            Webhook(own.current).verify(heard.body, heard.headers)
        assert Webhook((await store.read()).current).verify(heard.body, heard.headers)


async def test_receivers_that_hang_leave_places_for_others(
    deliveries: Deliveries,
    sending: MakeSender,
    receiver: Receiver,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sender_module, "MOST_NEW", 6)
    held: set[asyncio.StreamWriter] = set()

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        held.add(writer)

    server = await asyncio.start_server(hang, "0.0.0.0", 0)
    port = server.sockets[0].getsockname()[1]
    hanging = [
        delivery(10 * host + number, f"http://127.0.7.{host}:{port}/")
        for host in range(1, 7)
        for number in range(3)
    ]
    known = delivery(999, receiver.url("/ok"))
    healthy = [delivery(1_000 + number, receiver.url("/ok")) for number in range(4)]
    await put(deliveries, *hanging, known, *healthy)
    async with sending() as sender:
        sender.offer(known.id, host_of(known.url))
        assert (await tried(deliveries, known.id)).state is DeliveryState.DELIVERED
        for one in (*hanging, *healthy):
            sender.offer(one.id, host_of(one.url))
        for one in healthy:
            assert (await tried(deliveries, one.id)).state is DeliveryState.DELIVERED
    server.close()
    for writer in held:
        writer.close()


async def test_those_that_do_not_answer_share_a_part_of_the_places_in_turn(
    deliveries: Deliveries,
    sending: MakeSender,
    receiver: Receiver,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sender_module, "MOST_SUSPECT", 1)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        refusing = [
            delivery(10 * host + number, f"http://127.0.7.{host}:{port}/")
            for host in range(1, 5)
            for number in range(3)
        ]
        healthy = delivery(1_000, receiver.url("/ok"))
        await put(deliveries, *refusing, healthy)
        async with sending() as sender:
            for one in (*refusing, healthy):
                sender.offer(one.id, host_of(one.url))
            assert (await tried(deliveries, healthy.id)).state is DeliveryState.DELIVERED
            for one in refusing:
                assert (await tried(deliveries, one.id)).state is DeliveryState.WAITING


async def test_one_host_takes_up_no_more_room_than_it_may(
    deliveries: Deliveries,
    sending: MakeSender,
    receiver: Receiver,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(deliveries_module, "MOST_A_HOST", 2)
    url = receiver.url("/ok")
    several = [(delivery(number, url), host_of(url)) for number in range(4)]
    other = delivery(9, "http://127.0.7.9/")
    told = await deliveries.deliver([*several, (other, host_of(other.url))], keep_ms=KEEP_MS)
    assert told == [True, True, False, False, True]
    assert await deliveries.waiting() == 3
    refused = await deliveries.told(several[2][0].id)
    assert refused is not None
    assert refused.state is DeliveryState.FAILED
    assert "wait for this host" in refused.attempts[0].error
    async with sending() as sender:
        for one, host in several[:2]:
            sender.offer(one.id, host)
            assert (await tried(deliveries, one.id)).state is DeliveryState.DELIVERED
        assert await deliveries.replay(refused.delivery.id)
        sender.offer(refused.delivery.id, several[2][1])
        assert (await tried(deliveries, refused.delivery.id, 2)).state is DeliveryState.DELIVERED
    more = [(delivery(20 + number, url), host_of(url)) for number in range(3)]
    assert await deliveries.deliver(more, keep_ms=KEEP_MS) == [True, True, False]
