"""A worker with several models, as users run it: real processes, a real server, real clients."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import pytest
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

from forebay.autoscaler.targets.retire import retire
from forebay.contract.prediction import PredictionId
from forebay.contract.workers import ModelCard, ModelState, WorkerCard
from forebay.gateway.repository import LOOK_S
from forebay.lanes.keys import Keys
from forebay.lanes.roster import Roster
from forebay.runtime.redis import connect
from tests.fixtures.ballast import MODEL_MB, catalog
from tests.fixtures.fleet import Fleet, fleet
from tests.fixtures.lanes import hash_of
from tests.fixtures.processes import peak_bytes
from tests.fixtures.servers import TIMEOUT_S
from tests.fixtures.waiting import PATIENCE_S, eventually

MB = 1_000_000
ROOM_MB = 3 * MODEL_MB + 10
"""For the process itself, which takes far less than one model, and two models."""


class House:
    """A gateway and one worker with several models."""

    def __init__(self, running: Fleet, folder: Path, key_prefix: str, redis_url: str) -> None:
        self.fleet = running
        self.folder = folder
        self.keys = Keys(key_prefix)
        self.redis_url = redis_url
        self.redis = connect(redis_url, timeout_s=TIMEOUT_S)
        self.roster = Roster(self.redis, self.keys)
        self.http = httpx.AsyncClient(base_url=running.url, timeout=PATIENCE_S)

    async def ask(self, model: str, **row: object) -> httpx.Response:
        """A prediction that is waited for."""
        body = {"version": model, "input": {"n": 0, **row}}
        return await self.http.post("/v1/predictions", json=body, headers={"Prefer": "wait=55"})

    async def send(self, model: str, **row: object) -> str:
        """A prediction that is not; its id."""
        body = {"version": model, "input": {"n": 0, **row}}
        answer = await self.http.post("/v1/predictions", json=body)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    async def ended(self, *ids: str) -> list[str]:
        """How predictions end."""
        told: list[str] = []
        for id_ in ids:

            async def status(id_: str = id_) -> str:
                answer = await self.http.get(f"/v1/predictions/{id_}")
                found = str(answer.json()["status"])
                return "" if found in ("starting", "processing") else found

            told.append(await eventually(status, what=lambda: self.fleet.said))
        return told

    def verb(self, *words: str) -> subprocess.CompletedProcess[str]:
        """A verb of the command line, as an operator runs it."""
        return subprocess.run(
            [sys.executable, "-m", "forebay.cli", *words],
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
            env={
                **{name: value for name, value in os.environ.items() if "FOREBAY" not in name},
                "FOREBAY_REDIS_URL": self.redis_url,
                "FOREBAY_KEY_PREFIX": self.keys.prefix,
            },
        )

    async def listed(self) -> list[WorkerCard]:
        """The workers that are present."""
        return await self.roster.present()

    async def models(self) -> dict[str, ModelCard]:
        """Models of the only worker."""
        (worker,) = await self.listed()
        return {model.name: model for model in worker.models}

    async def until(self, model: str, state: ModelState) -> None:
        """Wait until the worker has a model in a state."""

        async def is_so() -> bool:
            return (await self.models())[model].state is state

        await eventually(is_so, what=lambda: f"{model} {state}: {self.fleet.said}")

    async def strikes(self, id_: str) -> int:
        """Strikes of a prediction."""
        keys = self.keys.of_prediction(PredictionId.parse(id_))
        record = await hash_of(self.redis, keys.record(id_))
        return int(record.get("k0", 0))


@pytest.fixture
async def house(redis_url: str, key_prefix: str, tmp_path: Path) -> AsyncIterator[House]:
    """A gateway; the test starts the worker."""
    settings = {"redis_url": redis_url, "key_prefix": key_prefix}
    with fleet(tmp_path, lease_s="2", presence_s="10", **settings) as running:
        made = House(running, tmp_path, key_prefix, redis_url)
        yield made
        await made.http.aclose()
        await made.redis.aclose()


async def start(
    house: House,
    *names: str,
    memory_mb: int = 0,
    kinds: Mapping[str, Sequence[str]] | None = None,
    **settings: str,
) -> subprocess.Popen[bytes]:
    """Start the gateway and a worker for all models of a new catalog."""
    models = str(catalog(house.folder, names, **(kinds or {})))
    house.fleet.start("gateway", models_file=models)
    words = ("--all", "--memory-mb", str(memory_mb))
    return house.fleet.start("worker", *words, models_file=models, **settings)


async def test_three_models_share_the_room_of_two(house: House) -> None:
    process = await start(house, "a", "b", "c", memory_mb=ROOM_MB)
    await house.fleet.ready("a", "b")

    async def measured() -> bool:
        models = await house.models()
        return all(model.bytes > 0.9 * MODEL_MB * MB for model in models.values())

    # Before each has been loaded, what they take is a guess. Whether the third is tried without
    # being asked for depends on what the process itself takes.
    assert (await house.ask("c")).json()["output"] == MODEL_MB * MB, house.fleet.said
    await eventually(measured, what=lambda: house.fleet.said)
    worker = psutil.Process(process.pid)
    await eventually(lambda: worker.memory_info().rss < ROOM_MB * MB)
    for number in range(6):
        answer = await house.ask("abc"[number % 3], n=number)
        assert answer.json()["output"] == number + MODEL_MB * MB, house.fleet.said
        assert worker.memory_info().rss < ROOM_MB * MB
    said = house.fleet.said
    assert said.count("is unloaded") >= 3
    assert "room for" in said
    (card,) = await house.listed()
    assert card.memory_bytes == ROOM_MB * MB
    assert card.rss_bytes < card.memory_bytes
    takes = [model.bytes for model in card.models]
    assert all(0.9 * MODEL_MB * MB < size < 1.3 * MODEL_MB * MB for size in takes), takes
    assert sum(model.state is ModelState.READY for model in card.models) <= 2


async def test_an_idle_model_goes_and_comes_back_when_it_is_asked(house: House) -> None:
    models = str(catalog(house.folder, ["a"]))
    house.fleet.start("gateway", models_file=models)
    process = house.fleet.start("worker", "a", models_file=models, idle_unload_s="0.2")
    await house.fleet.ready("a")
    await house.until("a", ModelState.ABSENT)
    worker = psutil.Process(process.pid)
    loaded = peak_bytes(worker)  # it may have gone before anybody could look
    assert loaded > MODEL_MB * MB
    await eventually(lambda: worker.memory_info().rss < loaded - 0.8 * MODEL_MB * MB)
    assert (await house.ask("a", n=1)).json()["output"] == 1 + MODEL_MB * MB


async def test_operators_load_and_unload(house: House) -> None:
    await start(house, "a", "b")
    await house.fleet.ready("a", "b")
    (card,) = await house.listed()
    table = house.verb("workers", "list").stdout
    assert card.name in table
    assert "ready" in table

    # As much of its name as no other has will do: its process and when that started, say.
    part = card.name.split("-", card.name.count("-") - 2)[-1]
    done = house.verb("workers", "unload", part, "a")
    assert (done.returncode, done.stdout) == (0, "a is unloaded.\n"), done.stderr
    assert (await house.models())["a"].state is ModelState.ABSENT
    assert "away" in house.verb("workers", "list").stdout
    waits = await house.send("a")
    assert (await house.ask("b")).json()["status"] == "succeeded"
    assert (await house.models())["a"].state is ModelState.ABSENT

    done = house.verb("workers", "load", card.name, "a")
    assert (done.returncode, done.stdout) == (0, "a is loaded.\n"), done.stderr
    assert await house.ended(waits) == ["succeeded"]

    for words, told in (
        (("unload", "nobody", "a"), "No worker 'nobody' is present"),
        (("unload", part, "z"), "has no model 'z'"),
    ):
        done = house.verb("workers", *words)
        assert done.returncode == 1
        assert told in done.stderr
        assert "Traceback" not in done.stderr

    # The same from afar, by Triton's repository extension.
    row = triton.InferInput("value", [1], "BYTES")
    row.set_data_from_numpy(np.array([b'{"n": 1}'], dtype=object))

    def play() -> None:
        with triton.InferenceServerClient(house.fleet.url.removeprefix("http://")) as client:

            def states() -> dict[str, Any]:
                return {one["name"]: one for one in client.get_model_repository_index()}

            assert states()["a"]["state"] == "READY"
            client.unload_model("a")
            assert (states()["a"]["state"], states()["a"]["reason"]) == ("UNAVAILABLE", "unloaded")
            assert states()["b"]["state"] == "READY"
            assert not client.is_model_ready("a")
            assert client.is_model_ready("b")
            with pytest.raises(InferenceServerException, match="'a' was unloaded"):
                client.infer("a", [row])
            client.unload_model("a")  # once more is no error
            client.load_model("a")
            assert states()["a"]["state"] == "READY"
            assert client.is_model_ready("a")
            assert client.infer("a", [row]).as_numpy("value") is not None
            with pytest.raises(InferenceServerException, match="no model 'z'"):
                client.load_model("z")

    await asyncio.to_thread(play)


async def test_who_would_wait_for_what_is_retired_waits_for_the_next_worker(house: House) -> None:
    models = str(catalog(house.folder, ["a"]))
    house.fleet.start("gateway", models_file=models)
    worker = house.fleet.start("worker", "a", models_file=models)
    await house.fleet.ready("a")
    (card,) = await house.listed()
    await retire(house.redis, house.keys, card.name, "a")
    assert [card.models for card in await house.listed()] == [()]
    assert "leaving" in house.verb("workers", "list").stdout
    await asyncio.sleep(2 * LOOK_S)  # the gateway has looked
    waits = asyncio.create_task(house.ask("a"))
    await asyncio.sleep(0.5)
    assert not waits.done(), (await waits).text
    house.fleet.end(worker)
    house.fleet.start("worker", "a", models_file=models)
    assert (await waits).json()["status"] == "succeeded"


async def test_who_would_wait_for_what_is_unloaded_is_told_so(house: House) -> None:
    await start(house, "a", "b")
    await house.fleet.ready("a", "b")
    (card,) = await house.listed()
    assert house.verb("workers", "unload", card.name, "a").returncode == 0

    async def refused() -> bool:
        answer = await house.ask("a")
        return answer.status_code == 503 and "'a' was unloaded" in answer.json()["detail"]

    # The gateway has not given the order: it hears of it.
    await eventually(refused)
    named = {"Prefer": "wait=55", "Idempotency-Key": "k"}
    body = {"version": "a", "input": {"n": 2}}
    answer = await house.http.post("/v1/predictions", json=body, headers=named)
    assert answer.status_code == 503
    waits = await house.send("a")
    assert house.verb("workers", "load", card.name, "a").returncode == 0
    assert await house.ended(waits) == ["succeeded"]

    async def runs() -> bool:
        answer = await house.http.post("/v1/predictions", json=body, headers=named)
        return answer.status_code == 201 and answer.json()["output"] == 2 + MODEL_MB * MB

    await eventually(runs)


async def test_who_has_waited_in_vain_is_told_that_there_is_no_worker(house: House) -> None:
    models = str(catalog(house.folder, ["good", "none"], huge=["huge"]))
    house.fleet.start("gateway", models_file=models, sync_wait_s="1")
    house.fleet.start("worker", "good", "huge", "--memory-mb", "300", models_file=models)
    await house.fleet.ready("good")

    async def said(model: str) -> str:
        body = {
            "inputs": [{"name": "value", "datatype": "BYTES", "shape": [1], "data": ['{"n":0}']}]
        }
        answer = await house.http.post(f"/v2/models/{model}/infer", json=body)
        assert answer.status_code == 504, answer.text
        return str(answer.json()["error"])

    assert (await said("none")).endswith("within 1 s. There is no worker for 'none'.")

    async def says_why() -> bool:  # once the worker has tried
        return "There is no worker for 'huge': huge doesn't fit" in await said("huge")

    await eventually(says_why)


async def test_a_model_that_fails_to_load_keeps_nobody_from_the_others(house: House) -> None:
    await start(
        house,
        "good",
        memory_mb=300,
        kinds={"broken": ["broken"], "huge": ["huge"]},
    )
    await house.fleet.ready("good")
    waits = await house.send("broken")
    assert (await house.ask("good")).json()["status"] == "succeeded"
    await house.send("huge")

    async def both_failed() -> bool:
        models = await house.models()
        return bool(models["huge"].error and models["broken"].error)

    await eventually(both_failed, what=lambda: house.fleet.said)
    models = await house.models()
    assert "no such weights" in models["broken"].error
    assert "it may take 300 MB" in models["huge"].error
    assert (await house.ask("good")).json()["status"] == "succeeded"
    (card,) = await house.listed()
    done = house.verb("workers", "load", card.name, "broken")
    assert done.returncode == 1
    assert "no such weights" in done.stderr
    assert (await house.http.get(f"/v1/predictions/{waits}")).json()["status"] == "starting"


async def test_all_drain_within_one_grace(house: House) -> None:
    process = await start(house, "a", "b", drain_s="20")
    await house.fleet.ready("a", "b")
    go, begun = house.folder / "go", {name: house.folder / f"begun-{name}" for name in "ab"}
    held = [await house.send(name, until=str(go), begun=str(begun[name])) for name in "ab"]
    await eventually(lambda: all(file.exists() for file in begun.values()))
    queued = [await house.send(name) for name in "ab" for _ in range(10)]
    process.terminate()
    await house.until("a", ModelState.UNLOADING)
    go.touch()
    assert await asyncio.to_thread(process.wait, PATIENCE_S) == 0
    assert await house.ended(*held) == ["succeeded"] * 2
    assert await house.listed() == []
    house.fleet.start("worker", "--all", models_file=str(house.folder / "ballast.toml"))
    assert await house.ended(*queued) == ["succeeded"] * 20
    assert [await house.strikes(id_) for id_ in (*held, *queued)] == [0] * 22


async def test_a_load_that_never_ends_holds_up_nobody_and_not_the_end_either(
    house: House,
) -> None:
    process = await start(house, "good", kinds={"slow": ["slow"]}, drain_s="3")
    await house.fleet.ready("good")
    await eventually((house.folder / "loading").exists)
    await house.until("slow", ModelState.LOADING)
    assert (await house.ask("good", n=1)).json()["output"] == 1 + MODEL_MB * MB
    process.terminate()
    assert await asyncio.to_thread(process.wait, PATIENCE_S) == 0, house.fleet.said
    assert await house.listed() == []


async def test_only_what_hangs_is_struck(house: House) -> None:
    process = await start(house, "busy", kinds={"hasty": ["hung"]})
    await house.fleet.ready("hung", "busy")
    go, begun = house.folder / "go", house.folder / "begun"
    runs = await house.send("busy", until=str(go), begun=str(begun))
    await eventually(begun.exists)
    hangs = await house.send("hung", hang=True)
    assert await asyncio.to_thread(process.wait, PATIENCE_S) == 70
    go.touch()
    house.fleet.start("worker", "busy", models_file=str(house.folder / "ballast.toml"))
    assert await house.ended(runs) == ["succeeded"]
    assert await house.strikes(runs) == 0
    again = house.fleet.start("worker", "hung", models_file=str(house.folder / "ballast.toml"))
    assert await asyncio.to_thread(again.wait, PATIENCE_S) == 70
    assert await house.strikes(hangs) == 1


async def test_a_row_that_ends_its_worker_takes_no_other_models_rows_with_it(
    house: House,
) -> None:
    models = str(catalog(house.folder, ["killer", "busy"]))
    house.fleet.start("gateway", models_file=models)
    worker = house.fleet.start("worker", "--all", models_file=models, lease_s="1")
    await house.fleet.ready("killer", "busy")
    kills = await house.send("killer", die=True)
    bystanders: list[str] = []
    codes: list[int] = []
    while len(codes) < 4:
        bystanders += [await house.send("busy") for _ in range(5)]
        await asyncio.sleep(0.05)  # some at any time, not more than are asked for in the end
        if (code := worker.poll()) is not None:
            codes.append(code)
            worker = house.fleet.start("worker", "--all", models_file=models, lease_s="1")
    assert codes == [3] * 4
    assert await house.ended(kills) == ["failed"]
    assert set(await house.ended(*bystanders)) == {"succeeded"}
    # What ran beside it the first time may have been to blame; after that it ran alone.
    assert max([await house.strikes(id_) for id_ in bystanders]) <= 1
