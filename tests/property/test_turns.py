"""Turns on a full lane, whatever comes and goes: everything comes forward, in its caller's order,
and callers by deficit round robin (Shreedhar and Varghese, 1995), however much is read at once.
"""

import asyncio
from collections import deque

import fakeredis
import msgspec
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from forebay.contract.prediction import Lane
from forebay.lanes.keys import Keys
from forebay.lanes.lane import Submission
from tests.fixtures.lanes import (
    enqueue,
    finish,
    hash_of,
    join,
    settlement,
    submission,
)
from tests.fixtures.servers import LaneServer, fake_client, new_prefix

QUANTUM = 16_384
LARGEST = 12_000
"""Bytes of a row, at most, in these tests."""

CALLERS = ("", "aa", "bb")

pieces = st.tuples(st.sampled_from(CALLERS), st.integers(0, LARGEST), st.integers(1, 3))
sizes = st.integers(1, 12)
steps = st.one_of(
    st.lists(sizes, max_size=12), st.lists(st.one_of(sizes, st.just("cancel")), max_size=12)
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(pieces, min_size=20, max_size=60), steps)
def test_turns_are_fair_by_cost_and_lose_nothing(
    made: list[tuple[str, int, int]], taken: list[int | str]
) -> None:
    asyncio.run(_drive(made, taken, ahead=False))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(pieces, min_size=20, max_size=60), steps)
def test_where_some_go_ahead_nothing_is_lost_either(
    made: list[tuple[str, int, int]], taken: list[int | str]
) -> None:
    asyncio.run(_drive(made, taken, ahead=True))


async def _drive(made: list[tuple[str, int, int]], steps: list[int | str], *, ahead: bool) -> None:
    shared = fakeredis.FakeServer()
    server = LaneServer("fake", lambda _: fake_client(shared), Keys(new_prefix()))
    worker = await join(server)
    worker.limits = msgspec.structs.replace(worker.limits, ready_rows=8)
    await worker.beat()
    if not ahead:
        await server.redis.execute_command("DEL", server.echo.ahead(Lane.BULK))
    several = [
        submission(rows, lane=Lane.BULK, caller=caller, size=size) for caller, size, rows in made
    ]
    if ahead:
        # Who comes in the same call as those that wait does not go ahead of them.
        await enqueue(server, *(one for one in several if one.caller != CALLERS[-1]))
        await enqueue(server, *(one for one in several if one.caller == CALLERS[-1]))
    else:
        await enqueue(server, *several)
    event(f"{await server.redis.execute_command('XLEN', server.echo.ahead(Lane.BULK))} went ahead")
    stream = server.echo.lane(Lane.BULK)
    entries = await server.redis.execute_command("XRANGE", stream, "-", "+")
    first = [fields[1].decode().rpartition(".")[0] for _, fields in entries]
    left = {one.id.text: one for one in several}
    canceled: set[str] = set()
    order: list[Submission] = []
    for step in [*steps, *[8] * len(several)]:
        if step == "cancel":
            last = next((one for one in reversed(several) if one.id.text in left), None)
            if last is not None:
                del left[last.id.text]
                canceled.add(last.id.text)
                await finish(server, last.id)
        else:
            for delivery in await worker.read(Lane.BULK, rows=int(step)):
                order.append(left.pop(delivery.prediction))
                await worker.settle([settlement(delivery)])
    assert not left
    for caller in () if ahead else CALLERS:
        theirs = [one.id for one in several if one.caller == caller and one.id.text not in canceled]
        assert [one.id for one in order if one.caller == caller] == theirs
    if not canceled and not ahead:
        forward = [one.id.text for one in order if one.id.text not in first]
        waited = [one for one in several if one.id.text not in first]
        assert forward == [one.id.text for one in _in_turns(waited)]
    demand = await hash_of(server.redis, server.echo.demand)
    assert (demand.get("bulk"), demand.get("bulk_waiting", b"0")) == (b"0", b"0")
    keys = set(await server.redis.execute_command("KEYS", f"{stream}:*"))
    known = server.echo.ahead(Lane.BULK).encode()
    assert not {key for key in keys - {known} if not key.startswith(f"{stream}:spent:".encode())}
    assert not await server.redis.execute_command("XLEN", known)
    await server.close()


def _in_turns(waiting: list[Submission]) -> list[Submission]:
    """The order in which callers that all wait come forward: deficit round robin, on paper."""
    lists: dict[str, deque[Submission]] = {}
    for one in waiting:
        lists.setdefault(one.caller, deque()).append(one)
    turns, deficits = deque(lists), dict.fromkeys(lists, 0)
    order: list[Submission] = []
    while turns:
        caller = turns.popleft()
        own = lists[caller]
        deficits[caller] += QUANTUM
        while own and (not turns or own[0].parts[0].cost <= deficits[caller]):
            deficits[caller] -= own[0].parts[0].cost
            order.append(own.popleft())
        if own:
            turns.append(caller)
    return order
