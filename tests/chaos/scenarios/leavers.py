"""Readers of texts who crawl, who leave, and who are lost with their gateway."""

import asyncio
import contextlib
import time
from collections.abc import Sequence
from statistics import median

from tests.chaos.outcome import Outcome, Scenario, Tally
from tests.chaos.scene import Catalog, Scene, scene
from tests.fixtures.cutting import Chat, Client, CutOff, Failed
from tests.fixtures.waiting import eventually

LEASE_S = 5.0
"""Of readers: what a killed gateway had is freed that much later."""

PARROT = Catalog(
    "parrot",
    """
[models.parrot]
task = "generation"
backend = "echo"

[models.parrot.generation]
slots = 64
tokens_per_s = 10
""",
)


async def gone(short: bool) -> Outcome:
    """Read slowly, leave all at once, and lose a gateway, beside readers who just read."""
    leaving, words, watch_s = (40, 60, 1.0) if short else (200, 150, 5.0)
    outcome = Outcome()
    async with scene(catalog=PARROT, lease_s=LEASE_S) as stage:
        first, second = [await stage.gateway() for _ in range(2)]
        await stage.worker()
        neighbours = [Paced(number, words) for number in range(4)]
        async with asyncio.TaskGroup() as clients:
            for one in neighbours:
                clients.create_task(one.read(first.http.port))
            await _texts(neighbours)
            alone = await _watched(neighbours, watch_s)

            slow = [Paced(number, 200, endless=True) for number in range(8)]
            crawling = [asyncio.create_task(one.read(first.http.port, slowly=True)) for one in slow]
            crowd = [Paced(number, 200, endless=True) for number in range(leaving)]
            reading = [asyncio.create_task(one.read(first.http.port)) for one in crowd]
            # As many as there are slots have begun; the others wait.
            await eventually(lambda: sum(bool(one.text) for one in crowd) >= min(leaving, 40))
            for task in reading:
                task.cancel()
            beside_them = await _watched(neighbours, watch_s)
            await _canceled(stage, leaving, outcome, "left at once")

            orphans = [Paced(number, 200, endless=True) for number in range(20)]
            lost = [asyncio.create_task(one.read(second.http.port)) for one in orphans]
            await _texts(orphans)
            killed_at = time.monotonic()
            second.program.kill()
            await _canceled(stage, leaving + len(orphans), outcome, "were a killed gateway's")
            freed_s = time.monotonic() - killed_at
            for task in crawling:
                task.cancel()
            await _canceled(stage, leaving + len(orphans) + len(slow), outcome, "read slowly")
        await asyncio.gather(*reading, *crawling, *lost, return_exceptions=True)
        whole = sum(one.text == one.prompt for one in neighbours)
        outcome.tally = Tally(accepted=len(neighbours), succeeded=whole)
        outcome.all_succeed(len(neighbours))
        await stage.audit.comes_to_rest()
        await stage.audit.emptied(outcome)
        outcome.done = (
            f"{leaving} readers left at once, 8 read a byte a second, a gateway with "
            f"{len(orphans)} was killed; 4 stayed"
        )
        outcome.notes += [
            f"between two words of those who stayed: {_told(alone)} alone, "
            f"{_told(beside_them)} beside the others (100 ms asked for)",
            f"the killed gateway's texts had all ended after {freed_s:.1f} s, of a lease of "
            f"{LEASE_S:g} s",
        ]
    return outcome


class Paced:
    """A reader without a name, who notes when its words come.

    Args:
        number: makes its prompt its own.
        words: of the prompt.
        endless: ask for more of it than anybody reads.
    """

    def __init__(self, number: int, words: int, *, endless: bool = False) -> None:
        self.prompt = " ".join(f"word{number}-{at}" for at in range(words))
        self.gaps: list[float] = []
        more = {"max_tokens": 3_000, "ignore_eos": True} if endless else {}
        messages = [{"role": "user", "content": self.prompt}]
        self._client = Client(Chat("", {"model": PARROT.model, "messages": messages, **more}))

    @property
    def text(self) -> str:
        """What came so far."""
        return self._client.text

    async def read(self, port: int, *, slowly: bool = False) -> None:
        """Read to the end, or until there is nobody to read from."""
        with contextlib.suppress(CutOff, Failed):
            await self._client.read(port, slowly=slowly, heard=self._hear)

    def _hear(self, since_s: float) -> None:
        self.gaps.append(since_s)


async def _texts(readers: Sequence[Paced]) -> None:
    await eventually(lambda: all(one.text for one in readers), what="texts grow")


async def _watched(readers: Sequence[Paced], for_s: float) -> list[float]:
    """Times between two words of these readers, seconds, for a while from now on."""
    before = [len(one.gaps) for one in readers]
    await asyncio.sleep(for_s)
    return [gap for one, n in zip(readers, before, strict=True) for gap in one.gaps[n:]]


async def _canceled(stage: Scene, count: int, outcome: Outcome, who: str) -> None:
    """Wait until so many predictions in all were canceled."""

    async def all_of_them() -> bool:
        return (await stage.audit.counters()).get("canceled", 0) >= count

    with contextlib.suppress(AssertionError):
        await eventually(all_of_them)
    canceled = (await stage.audit.counters()).get("canceled", 0)
    outcome.promise(canceled == count, f"{canceled} of {count} were canceled once some {who}")


def _told(gaps: Sequence[float]) -> str:
    if not gaps:
        return "no word"
    p99 = sorted(gaps)[int(len(gaps) * 0.99)]
    return f"{median(gaps) * 1000:.0f} ms in the median, {p99 * 1000:.0f} ms p99"


SCENARIOS = (
    Scenario(
        "leave-streams",
        "Streams left",
        "Readers crawl, leave all at once, and are lost with their gateway: their texts end, and "
        "those of others keep their pace.",
        gone,
    ),
)
