"""Messages that were taken and not told, on the fake and on the real server."""

from typing import Any

import msgspec
import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from forebay.background.ingress import apps
from forebay.background.ingress.letters import Letter, Letters, base_of
from forebay.background.ingress.revocations import Revoked
from forebay.background.ingress.source import Source
from forebay.background.taking.place import Place, Taken
from forebay.contract.model import BackendName, ModelSpec
from forebay.contract.rows import Task
from forebay.runtime.catalog import Catalog
from forebay.runtime.redis import Commands
from forebay.runtime.settings import Settings
from tests.fixtures.servers import LaneServer


@pytest.fixture
def queues(lanes: LaneServer) -> dict[str, tuple[list[str], int]]:
    """A queue of two lists under a prefix of this test's own."""
    return {"q": ([f"{lanes.keys.prefix}:q", f"{lanes.keys.prefix}:q3"], 3)}


def place(lanes: LaneServer, taker: str, *, lease_s: float = 600.0) -> Place:
    """What a taker holds."""
    return Place(lanes.redis, base_of(lanes.keys.prefix), taker=taker, lease_s=lease_s)


async def push(lanes: LaneServer, name: str, *messages: str) -> None:
    """Send messages, as kombu does."""
    for message in messages:
        await lanes.redis.execute_command("LPUSH", f"{lanes.keys.prefix}:{name}", message)


async def test_messages_are_taken_in_order_up_to_a_bound_and_held(
    lanes: LaneServer, queues: Any
) -> None:
    await push(lanes, "q3", "later")
    await push(lanes, "q", "one", "two", "three")
    one = place(lanes, "one")
    known, taken = await one.take(queues, most_due=9)
    assert not known
    assert [found.message for found in taken] == [b"one", b"two", b"three"]
    assert {found.queue for found in taken} == {"q"}
    known, more = await one.take(queues, most_due=9)
    assert known
    assert [found.message for found in more] == [b"later"]
    assert await one.held() == [*taken, *more]
    await one.drop([found.place for found in taken])
    assert await one.held() == more


async def test_what_a_lost_taker_held_is_taken_over_and_what_a_present_one_holds_is_not(
    lanes: LaneServer, queues: Any
) -> None:
    await push(lanes, "q", "one", "two", "three")
    first, second = place(lanes, "first"), place(lanes, "second")
    _, taken = await first.take(queues, most_due=9)
    await second.take({}, most_due=9)
    assert await second.reclaim(most=9) == []
    await first.leave()
    assert await second.reclaim(most=2) == taken[:2]
    assert await second.reclaim(most=2) == taken[2:]
    assert await second.reclaim(most=2) == []
    assert await second.held() == taken
    known, _ = await first.take(queues, most_due=9)
    assert not known
    await first.drop([taken[0].place])
    assert await second.held() == taken


async def test_what_is_put_off_comes_when_its_time_has(lanes: LaneServer, queues: Any) -> None:
    await push(lanes, "q", "one", "t\nwo")
    one = place(lanes, "one")
    _, taken = await one.take(queues, most_due=9)
    await one.put_off(taken[0], 10**15)
    await one.put_off(taken[1], 1)
    assert await one.held() == []
    _, due = await one.take(queues, most_due=9)
    assert due == [taken[1]]
    # What somebody else has taken over meanwhile is not put off a second time.
    await one.put_off(taken[0], 1)
    assert await one.take(queues, most_due=9) == (True, [])


async def test_what_came_another_way_is_kept_until_its_time(lanes: LaneServer) -> None:
    one = place(lanes, "one")
    await one.keep("q", b"message", 1)
    _, (due,) = await one.take({}, most_due=9)
    assert (due.queue, due.message, due.numbered) == ("q", b"message", True)


class Cut:
    """A connection that breaks after a command was carried out, and before it is answered."""

    def __init__(self, redis: Commands) -> None:
        self._redis = redis
        self.cut = False

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        """Send a command."""
        answer = await self._redis.execute_command(*args, **options)
        if self.cut and args[0] in ("EVAL", "EVALSHA"):
            self.cut = False
            raise RedisConnectionError("cut")
        return answer


async def test_what_was_taken_by_a_call_without_an_answer_is_in_the_next(
    lanes: LaneServer,
) -> None:
    prefix = lanes.keys.prefix
    read = apps.read(
        Settings(celery_broker_url="redis://127.0.0.1:1/2"),
        Catalog({"echo": ModelSpec(task=Task.ECHO, backend=BackendName.ECHO, name="echo")}),
    )
    read = msgspec.structs.replace(
        read, conf={"broker_transport_options": {"global_keyprefix": f"{prefix}:"}}
    )
    line = Cut(lanes.redis)
    held = Place(line, base_of(prefix), taker="one", lease_s=600)
    source = Source(read, held, Letters(line, prefix), lease_s=600, most=10)
    room = {"forebay.echo": 10}
    assert (await source.take(room)).messages == []
    await push(lanes, "forebay.echo", "one", "two")
    line.cut = True
    with pytest.raises(RedisConnectionError):
        await source.take(room)
    await push(lanes, "forebay.echo", "three")
    batch = await source.take(room)
    assert [taken.message for taken in batch.messages] == [b"one", b"two", b"three"]
    assert not batch.lost

    # Somebody else has thought it lost: what it held is no longer its own.
    await source.leave()
    other = place(lanes, "other")
    assert len(await other.reclaim(most=10)) == 3
    batch = await source.take(room)
    assert (batch.messages, batch.lost) == ([], True)


async def test_letters_are_bounded_and_newest_first(lanes: LaneServer, queues: Any) -> None:
    await push(lanes, "q", "one", "two", "three")
    one, letters = place(lanes, "one"), Letters(lanes.redis, lanes.keys.prefix)
    _, taken = await one.take(queues, most_due=9)
    for found in taken:
        await letters.bury(_letter(found), held=one, place=found.place, most=2)
    assert await one.held() == []
    assert [letter.message for letter in await letters.newest(most=9)] == [b"three", b"two"]
    await letters.bury(_letter(taken[0]), held=one, place=taken[0].place, most=2)
    assert len(await letters.newest(most=1)) == 1
    assert await letters.drop() == 2
    assert await letters.newest(most=9) == []


async def test_what_is_given_back_is_taken_next_in_its_order(
    lanes: LaneServer, queues: Any
) -> None:
    await push(lanes, "q", "one", "two", "three", "four")
    (list_, *_), _most = queues["q"]
    one, other = place(lanes, "one"), place(lanes, "other")
    _, taken = await one.take(queues, most_due=9)
    await one.give_back(list_)
    assert await one.held() == []
    assert await other.reclaim(most=9) == []
    _, again = await other.take(queues, most_due=9)
    assert [found.message for found in again] == [found.message for found in taken]


async def test_revoked_ids_are_remembered(lanes: LaneServer) -> None:
    await Revoked(lanes.redis, lanes.keys.prefix).add(["a", "b"])
    assert await Revoked(lanes.redis, lanes.keys.prefix).newest() == ["a", "b"]


def _letter(found: Taken) -> Letter:
    return Letter(found.queue, "Why.", 1, found.message)
