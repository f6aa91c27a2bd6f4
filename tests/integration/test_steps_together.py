"""Pipelines whose steps are models of the same worker, or have versions."""

import json
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

import httpx
import pytest

from forebay.contract.workers import ModelState
from forebay.lanes.keys import Keys
from forebay.lanes.roster import Roster
from forebay.runtime.redis import connect
from tests.fixtures.fleet import Fleet, fleet
from tests.fixtures.lanes import hash_of
from tests.fixtures.pipelines import CLASSES
from tests.fixtures.servers import TIMEOUT_S
from tests.fixtures.waiting import PATIENCE_S, eventually

HEAVY_MB = 90
ROOM_MB = 2 * HEAVY_MB + 10
"""For the process itself, which takes less than one heavy model, and one of them."""

MORE = f'''

class Others(Words):
    """Says whose words they are."""

    def predict(self, rows: list[Word]) -> list[Said]:
        return [Said(f"v2 {{said.say}}") for said in super().predict(rows)]


class FragileWords(Words):
    """Dies of its first rows."""

    def predict(self, rows: list[Word]) -> list[Said]:
        die_once()
        return super().predict(rows)


class FragileFlow(Flow):
    """Likewise, between two calls."""

    async def run(self, row: Row, models: Models) -> list[list[str]]:
        await models["words"]([{{"say": "before"}}])
        die_once()
        return await super().run(row, models)


def die_once():
    died = RUNS.with_name("died")
    if not died.exists():
        died.touch()
        os._exit(9)


class HeavyWords(Words):
    def load(self) -> None:
        self.held = b"x" * {HEAVY_MB}_000_000


class HeavyFlow(Flow):
    def load(self) -> None:
        self.held = b"x" * {HEAVY_MB}_000_000
'''


def catalog(words: str = "Words", flow: str = "Flow", steps: str = '"words"') -> str:
    return f"""
[models.words]
task = "python"
backend = "python"
source = "classes.py:{words}"

[models.flow]
task = "pipeline"
backend = "pipeline"
source = "classes.py:{flow}"
steps = [{steps}]
"""


class House:
    """A gateway, and workers that write down what steps ran."""

    def __init__(self, running: Fleet, folder: Path, redis_url: str, prefix: str) -> None:
        self.fleet = running
        self.http = httpx.AsyncClient(base_url=running.url, timeout=PATIENCE_S)
        self._folder = folder
        self._redis = connect(redis_url, timeout_s=TIMEOUT_S)
        self._keys = Keys(prefix)
        self._roster = Roster(self._redis, self._keys)

    @property
    def ran(self) -> list[str]:
        """Words that steps were run for, in order."""
        log = self._folder / "runs.log"
        lines = log.read_text().splitlines() if log.exists() else []
        return [word for line in lines for word in json.loads(line)]

    async def ask(self, *words: str, wait: bool = True, **of_first: str) -> dict[str, Any]:
        """A prediction of `flow`, which calls `words` once for each of these."""
        calls = [{"rows": [{"say": word}]} for word in words]
        calls[0]["rows"][0].update(of_first)
        return await self.ask_for({"calls": calls}, wait=wait)

    async def ask_for(self, row: object, *, wait: bool = True) -> dict[str, Any]:
        """Likewise, for any row."""
        answer = await self.http.post(
            "/v1/predictions",
            json={"version": "flow", "input": row},
            headers={"Prefer": "wait"} if wait else {},
        )
        assert answer.status_code == 201, answer.text
        told: dict[str, Any] = answer.json()
        return told

    async def ended(self, prediction: dict[str, Any]) -> dict[str, Any]:
        """What became of it."""

        async def look() -> dict[str, Any] | None:
            told: dict[str, Any] = (await self.http.get(prediction["urls"]["get"])).json()
            return told if told["completed_at"] else None

        return await eventually(look, what=lambda: self.fleet.said)

    async def drains(self) -> bool:
        """Whether the worker takes nothing more for `flow`."""
        (worker,) = await self._roster.present()
        states = {model.name: model.state for model in worker.models}
        return states["flow"] is ModelState.UNLOADING

    async def history(self, prediction: dict[str, Any]) -> tuple[int, int]:
        """Attempts and strikes of a prediction of `flow`."""
        record = await hash_of(self._redis, self._keys.of("flow").record(prediction["id"]))
        return int(record.get("a0", 1)), int(record.get("k0", 0))

    async def aclose(self) -> None:
        """Hang up."""
        await self.http.aclose()
        await self._redis.aclose()


class Housed(Protocol):
    def __call__(self, models: str, **settings: str) -> AbstractAsyncContextManager[House]: ...


@pytest.fixture
def housed(redis_url: str, key_prefix: str, tmp_path: Path) -> Housed:
    """Opens a house with a gateway; the test starts the workers."""

    @asynccontextmanager
    async def open_(models: str, **settings: str) -> AsyncIterator[House]:
        (tmp_path / "classes.py").write_text(CLASSES + MORE)
        times = {"lease_s": "2", "presence_s": "10", **settings}
        with fleet(
            tmp_path, models, key_prefix=key_prefix, redis_url=redis_url, **times
        ) as running:
            running.start("gateway")
            house = House(running, tmp_path, redis_url, key_prefix)
            try:
                yield house
            finally:
                await house.aclose()

    return open_


@pytest.mark.parametrize(
    ("classes", "strikes"),
    [({"words": "FragileWords"}, 0), ({"flow": "FragileFlow"}, 1)],
    ids=["the step", "the pipeline"],
)
async def test_what_cost_a_worker_runs_alone_and_locks_out_nobody_it_waits_for(
    housed: Housed, classes: dict[str, str], strikes: int
) -> None:
    async with housed(catalog(**classes)) as house:
        worker = house.fleet.start("worker", "--all")
        await house.fleet.ready("words", "flow")
        made = await house.ask("one", "two", wait=False)
        assert worker.wait(PATIENCE_S) == 9
        house.fleet.end(worker)
        house.fleet.start("worker", "--all")
        told = await house.ended(made)
        assert told["output"] == [["ONE"], ["TWO"]], house.fleet.said
        assert await house.history(made) == (2, strikes)
        assert sorted(set(house.ran)) == sorted(house.ran)


async def test_a_worker_that_stops_finishes_pipelines_before_it_stops_their_steps(
    housed: Housed, tmp_path: Path
) -> None:
    async with housed(catalog(), drain_s="40") as house:
        worker = house.fleet.start("worker", "--all")
        await house.fleet.ready("words", "flow")
        gate = tmp_path / "gate"
        made = await house.ask("one", "two", wait=False, until=str(gate))
        await eventually(lambda: house.ran, what="the first call runs")
        worker.terminate()
        await eventually(house.drains, what="the worker stops")
        gate.touch()
        house.fleet.end(worker)
        assert worker.returncode == 0
        told = await house.ended(made)
        assert told["output"] == [["ONE"], ["TWO"]]
        assert await house.history(made) == (1, 0)


async def test_a_pipeline_makes_way_for_its_step_and_comes_back_for_the_result(
    housed: Housed,
) -> None:
    async with housed(catalog("HeavyWords", "HeavyFlow")) as house:
        # What they take is known to those that come after.
        first = house.fleet.start("worker", "--all")
        await house.fleet.ready("words", "flow")
        house.fleet.end(first)
        # Whichever of the two it has first, it is asked for the other.
        house.fleet.start("worker", "--all", "--memory-mb", str(ROOM_MB))
        told = await house.ended(await house.ask("one", "two", wait=False))
        assert told["output"] == [["ONE"], ["TWO"]], house.fleet.said
        assert house.ran == ["one", "two"]
        assert "unloading flow: room for words" in house.fleet.said


async def test_all_calls_of_a_prediction_go_to_one_version_or_to_the_one_they_name(
    housed: Housed,
) -> None:
    models = catalog(steps='"words", "words@default", "words@v2"') + (
        '[models.words.versions.v2]\nsource = "classes.py:Others"\nweight = 50\n'
    )
    async with housed(models) as house:
        house.fleet.start("worker", "--all")
        await house.fleet.ready("words", "words@v2", "flow")
        for number in range(6):
            told = await house.ask(*(f"w{number}{letter}" for letter in "abcd"))
            assert len({word.startswith("v2 ") for (word,) in told["output"]}) == 1, told
            (step,) = told["metrics"]["steps"]
            shown = "words@v2" if told["output"][0][0].startswith("v2 ") else "words"
            assert (step["model"], step["calls"]) == (shown, 4)
        named = [{"rows": [{"say": "a"}], "step": f"words@{name}"} for name in ("default", "v2")]
        told = await house.ask_for({"calls": named})
        assert told["output"] == [["A"], ["v2 A"]], told
