"""The roster, and orders to one worker: on the fake, and on a real server."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import pytest

from forebay.contract.errors import DeadlineExceeded, NotFound, Unavailable
from forebay.contract.workers import ModelCard, ModelState, Order, Verb, WorkerCard
from forebay.gateway.reads import Reads
from forebay.gateway.repository import ModelUnloaded, Repository
from forebay.lanes.keys import Keys
from forebay.lanes.orders import Orders, give
from forebay.lanes.roster import Roster
from forebay.runtime.clock import Clock
from forebay.runtime.redis import Link
from tests.fixtures.gateway_end import Counted
from tests.fixtures.servers import LaneServer
from tests.fixtures.waiting import PATIENCE_S, eventually

LONG_MS = 60_000


def card(name: str, since_ms: int = 1) -> WorkerCard:
    models = (ModelCard("echo", ModelState.READY, since_ms=2, bytes=3, version="echo"),)
    return WorkerCard(name, since_ms, rss_bytes=4, memory_bytes=5, models=models)


@asynccontextmanager
async def obeying(server: LaneServer, keys: Keys) -> AsyncIterator[list[Order]]:
    """A worker `w` that obeys, but has no model `none` and can't load `broken`."""
    done: list[Order] = []

    async def obey(order: Order) -> None:
        if order.model == "none":
            raise NotFound("There is no such model.")
        if order.model == "broken":
            raise ValueError("a secret")
        done.append(order)

    clock = Clock()
    orders = Orders(server.channel(), server.redis, keys, "w", clock=clock, obey=obey)
    task = asyncio.create_task(orders.run())
    yield done
    task.cancel()
    await asyncio.wait([task])


async def ask(
    server: LaneServer, keys: Keys, verb: Verb, model: str, within_s: float = PATIENCE_S
) -> None:
    now_ms = Clock().now_ms()
    await give(server.redis, keys, "w", verb, model, now_ms=now_ms, within_s=within_s)


async def test_who_is_present_is_told_the_oldest_first(lanes: LaneServer, keys: Keys) -> None:
    roster = Roster(lanes.redis, keys)
    await roster.enter(card("young", 2), presence_ms=LONG_MS)
    await roster.enter(card("old", 1), presence_ms=LONG_MS)
    assert await roster.present() == [card("old", 1), card("young", 2)]
    await roster.leave("old")
    assert await roster.present() == [card("young", 2)]
    assert await roster.tidy() == 0


async def test_who_ends_without_a_word_lapses_and_is_struck_off(
    lanes: LaneServer, keys: Keys
) -> None:
    roster = Roster(lanes.redis, keys)
    await roster.enter(card("killed"), presence_ms=1)

    async def is_gone() -> bool:
        return await roster.present() == []

    await eventually(is_gone)
    assert await roster.tidy() == 1
    assert await roster.tidy() == 0


async def test_gateways_look_at_the_roster_only_while_something_is_unloaded(
    lanes: LaneServer, keys: Keys
) -> None:
    roster, commands = Roster(lanes.redis, keys), Counted(lanes.redis)
    clock = Clock()
    reads = Reads(Link(lanes.client(), clock))
    repository = Repository(commands, keys, reads, clock)
    loaded = card("w")
    away = msgspec.structs.replace(
        loaded, models=(ModelCard("echo", ModelState.ABSENT, since_ms=2, away=True),)
    )
    await roster.enter(loaded, presence_ms=LONG_MS)
    await repository.look()
    repository.check("echo")
    assert [command[0] for command in commands.sent] == ["EXISTS"]
    await roster.enter(away, presence_ms=LONG_MS)
    await repository.look()
    with pytest.raises(ModelUnloaded):
        repository.check("echo")
    # What lapses with the last such card is no reason to look any more.
    await roster.enter(loaded, presence_ms=LONG_MS)
    await repository.look()
    repository.check("echo")
    assert commands.count("SMEMBERS") == 2
    await roster.enter(away, presence_ms=1)

    async def has_lapsed() -> bool:
        return not await roster.has_away()

    await eventually(has_lapsed)


async def test_a_card_of_another_release_is_read_as_far_as_it_goes(
    lanes: LaneServer, keys: Keys
) -> None:
    roster = Roster(lanes.redis, keys)
    await roster.enter(card("w"), presence_ms=LONG_MS)
    told = (
        b'{"name":"w","since_ms":1,"rss_bytes":4,"memory_bytes":5,"v":2,"more":true,'
        b'"models":[{"name":"echo","state":"melting","since_ms":2}]}'
    )
    await lanes.redis.execute_command("SET", keys.card("w"), told)
    (found,) = await roster.present()
    assert found.models[0].state is ModelState.ABSENT
    await lanes.redis.execute_command("SET", keys.card("w"), b"nonsense")
    assert await roster.present() == []


async def test_an_order_is_carried_out_and_answered(lanes: LaneServer, keys: Keys) -> None:
    async with obeying(lanes, keys) as done:
        await ask(lanes, keys, Verb.LOAD, "echo")
        await ask(lanes, keys, Verb.UNLOAD, "echo")
    assert [(order.verb, order.model) for order in done] == [
        (Verb.LOAD, "echo"),
        (Verb.UNLOAD, "echo"),
    ]


async def test_why_an_order_was_not_carried_out_comes_back(lanes: LaneServer, keys: Keys) -> None:
    async with obeying(lanes, keys):
        with pytest.raises(NotFound, match="no such model"):
            await ask(lanes, keys, Verb.LOAD, "none")
        with pytest.raises(Unavailable, match="Its log says why") as caught:
            await ask(lanes, keys, Verb.LOAD, "broken")
    assert "secret" not in str(caught.value)


async def test_an_order_that_nobody_waits_for_any_more_is_not_carried_out(
    real_lanes: LaneServer, keys: Keys
) -> None:
    with pytest.raises(DeadlineExceeded, match="did not load 'late' within"):
        await ask(real_lanes, keys, Verb.LOAD, "late", 0.05)
    # It lapses by itself; and one that is read too late, whoever's clock is wrong, is left.
    stale = b'{"id":"1","verb":"load","model":"stale","until_ms":1,"v":1}'
    await real_lanes.redis.execute_command("RPUSH", keys.orders("w"), stale, b"nonsense")
    async with obeying(real_lanes, keys) as done:
        await ask(real_lanes, keys, Verb.LOAD, "now")
    assert [order.model for order in done] == ["now"]
