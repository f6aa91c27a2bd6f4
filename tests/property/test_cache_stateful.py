"""The response cache in Redis under any order of fills, ends, clears and evictions by the server.

The oracle keeps what was settled last under each key. Whatever happens, an entry is there as it
was written last or not at all, the books are exact, and the bound holds after every fill.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import fakeredis
import msgspec
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from forebay.contract.caching import CacheOptions, Entry, encode_entry
from forebay.contract.rows import Value
from forebay.lanes.cache import Cache
from forebay.lanes.consumer import Consumer
from forebay.lanes.keys import Keys
from forebay.lanes.scripts import SettleOutcome
from tests.fixtures import lanes as drive
from tests.fixtures.servers import LaneServer, fake_client, new_prefix, real_client

T = TypeVar("T")
ENTRY_BYTES = 190
CACHE = CacheOptions(enabled=True, redis_bytes=1_500, max_entry_bytes=1_400)
KEYS = tuple(b"%020d" % number for number in range(12))
fills = st.lists(st.tuples(st.sampled_from(KEYS), st.integers(1, 1_200)), min_size=1, max_size=4)


class CacheMachine(RuleBasedStateMachine):
    """Drives a cache and the oracle."""

    new_server: Callable[[], LaneServer]

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.server = self.run(self._open())
        self.worker: Consumer = self.run(drive.join_with(self.server, CACHE))
        self.cache = Cache(self.server.redis, self.server.keys)
        self.written: dict[bytes, bytes] = {}
        self.latest: list[bytes] = []
        self.at = 0

    async def _open(self) -> LaneServer:
        return type(self).new_server()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(coroutine)

    def ask(self, *command: Any) -> Any:
        async def answer() -> Any:
            return await self.server.redis.execute_command(*command)

        return self.run(answer())

    def teardown(self) -> None:
        self.run(self.server.close())
        self.runner.close()

    @rule(several=st.lists(fills, min_size=1, max_size=3), late=st.booleans())
    def settle(self, several: list[list[tuple[bytes, int]]], late: bool) -> None:
        """Some computations end, each with its outputs; or have ended before."""
        self.run(self._settle(several, late))

    async def _settle(self, several: list[list[tuple[bytes, int]]], late: bool) -> None:
        made = [drive.submission() for _ in several]
        await drive.enqueue(self.server, *made)
        deliveries = await drive.read(self.worker, len(made))
        done = []
        for fill, delivery in zip(several, deliveries, strict=True):
            kept = []
            for key, size in fill:
                self.at += 1
                kept.append((key, encode_entry(Entry(self.at, Value(b"x" * size)))))
            done.append(msgspec.structs.replace(drive.settlement(delivery), kept=tuple(kept)))
        if late:
            for one in made:
                await drive.finish(self.server, one.id)
        outcomes = await self.worker.settle(done)
        assert set(outcomes) == {SettleOutcome.LATE if late else SettleOutcome.ENDED}
        if not late:
            for ended in done:
                self.written.update(ended.kept)
            self.latest = [key for key, _ in done[-1].kept][-1:]

    @rule()
    def clear(self) -> None:
        """An operator empties it."""
        self.run(self.cache.clear("echo"))
        self.written, self.latest = {}, []

    @rule(ages=st.booleans())
    def evict(self, ages: bool) -> None:
        """The server takes one of the two keys away."""
        keys = self.server.echo
        self.ask("DEL", keys.cached if ages else keys.cache)
        self.latest = []

    @invariant()
    def what_is_there_was_written_last(self) -> None:
        flat = self.ask("HGETALL", self.server.echo.cache)
        pairs = flat.items() if isinstance(flat, dict) else zip(flat[::2], flat[1::2], strict=True)
        found = dict(pairs)
        told = int(found.pop(b"bytes", 0))
        ages = set(self.ask("ZRANGE", self.server.echo.cached, 0, -1))
        assert all(self.written[key] == entry for key, entry in found.items())
        if self.latest:
            assert ages == set(found)
            assert told == sum(len(entry) + ENTRY_BYTES for entry in found.values())
            assert told <= CACHE.redis_bytes


def on_the_fake() -> LaneServer:
    shared = fakeredis.FakeServer()
    return LaneServer("fake", lambda _: fake_client(shared), Keys(new_prefix()))


def check(new_server: Callable[[], LaneServer], *, examples: int, steps: int) -> None:
    machine = type("Machine", (CacheMachine,), {"new_server": staticmethod(new_server)})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_the_cache_keeps_its_books_on_the_fake() -> None:
    check(on_the_fake, examples=30, steps=20)


@pytest.mark.usefixtures("redis_url")
def test_the_cache_keeps_its_books_on_the_real_server(redis_url: str) -> None:
    check(
        lambda: LaneServer(
            "real", lambda blocking: real_client(redis_url, blocking=blocking), Keys(new_prefix())
        ),
        examples=20,
        steps=20,
    )
