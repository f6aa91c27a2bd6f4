"""Messages of a Redis' lists under any order of taking, dying, taking over and giving back.

Whatever happens, a message that was sent and is not done is in exactly one place, one at a time in
the hands of whoever holds it, and those that nobody was killed over come in their order.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import fakeredis
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from forebay.background.taking.place import Place
from tests.fixtures.servers import fake_client

T = TypeVar("T")
BASE = "t:{trigger q}"
LISTS = ("q", "q3")
takers = st.sampled_from(["a", "b", "c"])


class TakingMachine(RuleBasedStateMachine):
    """Drives takers of one queue; the oracle is what was sent and is not done."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.redis = self.run(self._open())
        self.places = {
            name: Place(self.redis, BASE, taker=name, lease_s=10**6) for name in ("a", "b", "c")
        }
        self.sent = 0
        self.open: set[bytes] = set()

    async def _open(self) -> Any:
        return fake_client(fakeredis.FakeServer())

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    def ask(self, *command: Any) -> Any:
        async def answer() -> Any:
            return await self.redis.execute_command(*command)

        return self.run(answer())

    def teardown(self) -> None:
        self.run(self.redis.aclose())
        self.runner.close()

    @rule(number=st.integers(1, 5), key=st.sampled_from(LISTS))
    def send(self, number: int, key: str) -> None:
        """Messages come, as kombu lays them."""
        for _ in range(number):
            self.sent += 1
            message = b"message %d" % self.sent
            self.ask("LPUSH", key, message)
            self.open.add(message)

    @rule(name=takers, most=st.integers(0, 4))
    def take(self, name: str, most: int) -> None:
        """One takes some, never more than asked for and the highest list first."""
        waiting = [self.ask("LRANGE", key, 0, -1)[::-1] for key in LISTS]
        _, taken = self.run(self.places[name].take({"q": (LISTS, most)}, most_due=0))
        assert [one.message for one in taken] == [*waiting[0], *waiting[1]][:most]

    @rule(name=takers, every=st.integers(1, 3))
    def drop(self, name: str, every: int) -> None:
        """One is done with some of what it holds."""
        done = self.run(self.places[name].held())[::every]
        if done:
            self.run(self.places[name].drop([one.place for one in done]))
            self.open -= {one.message for one in done}

    @rule(name=takers)
    def die(self, name: str) -> None:
        """The lease of one ends."""
        self.run(self.places[name].leave())

    @rule(name=takers, most=st.integers(1, 4))
    def reclaim(self, name: str, most: int) -> None:
        """One that takes as well takes over what the dead held."""
        self.run(self.places[name].take({}, most_due=0))
        before = {one.message for one in self.run(self.places[name].held())}
        taken = self.run(self.places[name].reclaim(most=most))
        assert len(taken) <= most
        assert not before & {one.message for one in taken}

    @rule(name=takers)
    def give_back(self, name: str) -> None:
        """One ends in good order."""
        held = self.run(self.places[name].held())
        self.run(self.places[name].give_back(LISTS[0]))
        next_ = self.ask("LRANGE", LISTS[0], 0, -1)[::-1][: len(held)]
        assert next_ == [one.message for one in held]

    @invariant()
    def each_is_in_one_place(self) -> None:
        """Nothing is lost, and nothing is there twice."""
        found = [message for key in LISTS for message in self.ask("LRANGE", key, 0, -1)]
        for place in self.places.values():
            found += [one.message for one in self.run(place.held())]
        assert sorted(found) == sorted(self.open)

    @invariant()
    def who_holds_something_is_known(self) -> None:
        """Else nobody would take it over."""
        known = self.ask("ZRANGE", f"{BASE}:takers", 0, -1)
        for name, place in self.places.items():
            assert name.encode() in known or not self.run(place.held())


def test_nothing_is_ever_nowhere_or_twice() -> None:
    run_state_machine_as_test(
        TakingMachine, settings=settings(max_examples=15, stateful_step_count=25, deadline=None)
    )
