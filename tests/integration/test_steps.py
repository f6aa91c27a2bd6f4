"""Pipelines whole: gateway, server, a worker for the pipeline and one for each of its steps."""

import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from tritonclient.http import InferInput
from tritonclient.http.aio import InferenceServerClient
from tritonclient.utils import InferenceServerException

from forebay.contract.prediction import Lane
from forebay.lanes.depth import depth
from forebay.lanes.keys import Keys
from forebay.runtime.process import EXIT_HOPELESS, EXIT_HUNG
from forebay.runtime.redis import Commands, connect
from tests.fixtures.fleet import Fleet, fleet
from tests.fixtures.lanes import hash_of
from tests.fixtures.pipelines import CATALOG, CLASSES
from tests.fixtures.servers import TIMEOUT_S, new_prefix
from tests.fixtures.stack import ROOT, running_stack
from tests.fixtures.waiting import PATIENCE_S, eventually

WAIT = {"Prefer": "wait"}
ENDED = {"succeeded", "failed", "canceled"}


class Steps:
    """A fleet of which every worker writes down what it was asked to run."""

    def __init__(self, fleet: Fleet, folder: Path, prefix: str) -> None:
        self.fleet = fleet
        self.keys = Keys(prefix)
        self._folder = folder
        self._files = 0

    @property
    def runs(self) -> list[list[str]]:
        """What steps ran together, in order."""
        log = self._folder / "runs.log"
        return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []

    def times(self, word: str) -> int:
        """How often a word was run."""
        return sum(run.count(word) for run in self.runs)

    def gate(self) -> Path:
        """A path where nothing is yet; a step that waits for it goes on once there is."""
        self._files += 1
        return self._folder / f"gate-{self._files}"


@pytest.fixture(scope="module")
def shared(redis_url: str) -> Iterator[Steps]:
    prefix = new_prefix()
    with tempfile.TemporaryDirectory(prefix="forebay-steps-") as name:
        folder = Path(name)
        (folder / "classes.py").write_text(CLASSES)
        with fleet(folder, CATALOG, key_prefix=prefix, redis_url=redis_url) as running:
            running.start("gateway")
            for model in ("words", "narrow", "flow", "chain", "outer"):
                running.start("worker", model)
            yield Steps(running, folder, prefix)


@pytest.fixture
async def steps(shared: Steps) -> Steps:
    await shared.fleet.ready("words", "narrow", "flow", "chain", "outer")
    return shared


@pytest.fixture
async def client(steps: Steps) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=steps.fleet.url, timeout=PATIENCE_S) as client:
        yield client


@pytest.fixture
async def commands(redis_url: str) -> AsyncIterator[Commands]:
    redis = connect(redis_url, timeout_s=TIMEOUT_S)
    yield redis
    await redis.aclose()


def calling(*calls: list[str], **more: Any) -> dict[str, Any]:
    """A row for `flow` that says these words, call by call."""
    return {"calls": [{"rows": [{"say": word} for word in words]} for words in calls], **more}


def waiting(word: str, gate: Path) -> dict[str, Any]:
    """A row for `flow` whose step waits until there is a gate."""
    return {"calls": [{"rows": [{"say": word, "until": str(gate)}]}]}


async def create(
    client: httpx.AsyncClient,
    input_: object,
    *,
    model: str = "flow",
    wait: bool = True,
    **headers: str,
) -> dict[str, Any]:
    answer = await client.post(
        "/v1/predictions",
        json={"version": model, "input": input_},
        headers={**(WAIT if wait else {}), **headers},
    )
    assert answer.status_code == 201, answer.text
    told: dict[str, Any] = answer.json()
    return told


async def ended(client: httpx.AsyncClient, prediction: dict[str, Any]) -> dict[str, Any]:
    async def look() -> dict[str, Any] | None:
        told: dict[str, Any] = (await client.get(prediction["urls"]["get"])).json()
        return told if told["status"] in ENDED else None

    return await eventually(look, what="the prediction has ended")


async def rows_of(commands: Commands, steps: Steps, model: str) -> int:
    told = await depth(commands, steps.keys.of(model), now_ms=0)
    return told.realtime + told.bulk


async def records_of(commands: Commands, steps: Steps, model: str) -> list[bytes]:
    found: list[bytes] = await commands.execute_command(
        "KEYS", f"{steps.keys.prefix}:{{{model}:0}}:record:*"
    )
    return found


async def test_steps_run_on_their_own_lanes_and_are_told_in_the_metrics(
    client: httpx.AsyncClient, steps: Steps, commands: Commands
) -> None:
    told = await create(client, calling(["one", "two"], ["three"]))
    assert told["output"] == [["ONE", "TWO"], ["THREE"]]
    (words,) = told["metrics"]["steps"]
    assert (words["model"], words["calls"], words["rows"]) == ("words", 2, 3)
    assert words["queue_time"] > 0
    assert words["run_time"] > 0
    shown = (await client.get(told["urls"]["get"])).json()
    assert shown["output"] == told["output"]
    assert shown["metrics"]["steps"] == told["metrics"]["steps"]
    assert len(shown["version"]) == 12

    # Results are kept for a second run only, and there will be none.
    async def dropped() -> bool:
        return not await records_of(commands, steps, "words")

    await eventually(dropped, what="results of steps are dropped")


async def test_a_call_of_thousands_of_rows_goes_in_parts_and_comes_back_in_order(
    client: httpx.AsyncClient,
) -> None:
    words = [f"w{n}" for n in range(3_000)]
    told = await create(client, calling(words))
    assert told["output"] == [[word.upper() for word in words]]


async def test_rows_of_many_predictions_share_the_batches_of_a_step(
    client: httpx.AsyncClient, steps: Steps, commands: Commands
) -> None:
    gate = steps.gate()
    first = await create(client, waiting("first", gate), wait=False)
    await eventually(lambda: steps.times("first"), what="the step is busy")
    several = [await create(client, calling([f"n{n}"]), wait=False) for n in range(8)]

    async def queued() -> bool:
        return await rows_of(commands, steps, "words") == 9

    await eventually(queued, what="all wait for the step")
    gate.touch()
    for number, prediction in enumerate(several):
        assert (await ended(client, prediction))["output"] == [[f"N{number}"]]
    assert (await ended(client, first))["output"] == [["FIRST"]]
    # Some may have stood ready behind what was held up; the others had to wait for one another.
    together = [run for run in steps.runs if {f"n{n}" for n in range(8)} & set(run)]
    assert len(together) <= 2


async def test_several_rows_and_calls_side_by_side_are_told_apart(
    client: httpx.AsyncClient,
) -> None:
    rows = [calling(["same"], ["same"], [f"r{n}"], together=True) for n in range(5)]
    told = await create(client, rows)
    assert told["output"] == [[["SAME"], ["SAME"], [f"R{n}"]] for n in range(5)]
    (words,) = told["metrics"]["steps"]
    assert (words["calls"], words["rows"]) == (15, 15)


async def test_a_step_that_fails_fails_the_pipeline_and_says_which_and_which_row(
    client: httpx.AsyncClient, steps: Steps
) -> None:
    told = await create(client, calling(["fine"], ["fine", "fail"]))
    assert told["status"] == "failed"
    assert told["error"].startswith("Row 0: Step 'words' failed: Row 1: The model failed")
    assert "secret" not in told["error"]
    caught = await create(client, calling(["fine", "fail"], caught=True))
    assert caught["output"] == [["words", "backend_failed", "1"]]
    refused = await create(client, {"calls": [{"rows": [{"say": "a", "other": "b"}]}]})
    assert "Step 'words' failed: Row 0: Unknown parameter: 'input.other'" in refused["error"]
    wrong = await create(client, {"calls": [{"rows": [{}], "step": "flow"}]})
    assert "The worker's log says why" in wrong["error"]
    said = "'flow' is not among the pipeline's steps: words, narrow, late"
    await eventually(lambda: said in steps.fleet.said, what=said)


async def test_code_that_would_end_the_program_fails_its_row_only(
    client: httpx.AsyncClient, steps: Steps
) -> None:
    told = await create(client, calling(["a"], do="exit"))
    assert told["error"] == "Row 0: The model failed on this row. The worker's log says why."
    said = "it ended the program (3)"
    await eventually(lambda: said in steps.fleet.said, what=said)
    assert (await create(client, calling(["a"])))["status"] == "succeeded"


async def test_a_row_that_is_not_as_annotated_is_refused_by_its_field(
    client: httpx.AsyncClient,
) -> None:
    told = await create(client, {"calls": [], "togther": True})
    assert told["error"] == "Row 0: Unknown parameter: 'input.togther'."


async def test_a_chain_needs_no_code(client: httpx.AsyncClient) -> None:
    told = await create(client, [{"say": "one"}, {"say": "two"}], model="chain")
    assert told["output"] == [{"say": "ONE"}, {"say": "TWO"}]
    (words,) = told["metrics"]["steps"]
    assert words["calls"] == 4


async def test_pipelines_may_be_steps_of_pipelines(client: httpx.AsyncClient) -> None:
    told = await create(client, calling(["a"], ["b", "c"]), model="outer")
    assert told["output"] == {"flow": [["A"], ["B", "C"]], "chain": {"say": "RIVER"}}
    assert {step["model"] for step in told["metrics"]["steps"]} == {"flow", "chain"}
    failed = await create(client, calling(["fail"]), model="outer")
    assert "Step 'flow' failed: Row 0: Step 'words' failed: Row 0:" in failed["error"]


async def test_to_cancel_a_pipeline_cancels_its_steps(
    client: httpx.AsyncClient, steps: Steps, commands: Commands
) -> None:
    gate = steps.gate()
    first = await create(client, waiting("busy", gate), wait=False)
    await eventually(lambda: steps.times("busy"), what="the step is busy")
    before = len(steps.runs)
    # Whether it waits for its step by itself or inside another.
    unwanted = [
        await create(client, calling([f"unwanted {model}"]), model=model, wait=False)
        for model in ("flow", "outer")
    ]

    async def queued() -> bool:
        return await rows_of(commands, steps, "words") == 4

    await eventually(queued, what="both wait for the step, and the chain beside one of them")
    for prediction in unwanted:
        answer = await client.post(prediction["urls"]["cancel"])
        assert answer.json()["status"] == "canceled"

    async def off() -> bool:
        return await rows_of(commands, steps, "words") == 1

    await eventually(off, what="their steps are off the lane")
    gate.touch()
    assert (await ended(client, first))["status"] == "succeeded"
    # But for what stood ready behind what was held up.
    assert (await create(client, calling(["wanted"])))["status"] == "succeeded"
    assert len(steps.runs) - before <= 2


async def test_a_deadline_ends_a_pipeline_and_its_steps(
    client: httpx.AsyncClient, steps: Steps, commands: Commands
) -> None:
    made = await create(
        client,
        {"calls": [{"rows": [{"say": "too late"}], "step": "late"}]},
        wait=False,
        **{"Cancel-After": "1"},
    )
    told = await ended(client, made)
    assert told["status"] == "canceled"
    assert "deadline" in told["error"]

    async def off() -> bool:
        return await rows_of(commands, steps, "late") == 0

    await eventually(off, what="its step is off the lane")


async def test_what_a_full_lane_has_no_room_for_waits(client: httpx.AsyncClient) -> None:
    calls = [{"rows": [{"say": f"{n}"} for n in range(10)], "step": "narrow"}]
    told = await create(client, [{"calls": calls}, {"calls": calls}])
    assert told["output"] == [[[f"{n}" for n in range(10)]]] * 2


async def test_the_lane_of_the_steps_is_that_of_the_pipeline(
    client: httpx.AsyncClient, steps: Steps, commands: Commands
) -> None:
    row = {"calls": [{"rows": [{"say": "sooner or later"}], "step": "late"}]}
    made = await create(client, row, wait=False)

    async def queued() -> bool:
        return (await depth(commands, steps.keys.of("late"), now_ms=0)).bulk == 1

    await eventually(queued, what="its step waits in bulk")
    entries = await commands.execute_command("XLEN", steps.keys.of("late").lane(Lane.BULK))
    assert entries == 1
    # And goes on once there is a worker.
    worker = steps.fleet.start("worker", "late")
    assert (await ended(client, made))["output"] == [["SOONER OR LATER"]]
    steps.fleet.end(worker)


async def test_workers_killed_between_steps_lose_none_and_repeat_none(
    client: httpx.AsyncClient, steps: Steps, commands: Commands
) -> None:
    gate = steps.gate()
    row = calling(["once"], ["also once"])
    row["calls"][1]["rows"][0]["until"] = str(gate)
    made = [await create(client, row, wait=False, model="outer") for _ in range(2)]
    await eventually(lambda: steps.times("also once"), what="a second step runs")

    async def both_wait() -> bool:
        running = await commands.execute_command("HVALS", steps.keys.of("outer").running)
        return not any(running) and await rows_of(commands, steps, "flow") == 2

    await eventually(both_wait, what="both have called their steps, and no code of theirs runs")
    for model in ("outer", "flow"):
        (worker,) = steps.fleet.running("worker", model)
        steps.fleet.end(worker, kill=True)
    gate.touch()
    for model in ("outer", "flow"):
        steps.fleet.start("worker", model)
    for prediction in made:
        told = await ended(client, prediction)
        assert told["output"]["flow"] == [["ONCE"], ["ALSO ONCE"]], told
        record = await hash_of(commands, steps.keys.of("outer").record(prediction["id"]))
        # It was taken over, and whoever only waits is not to blame.
        assert record["a0"] == b"2"
        assert "k0" not in record
    assert (steps.times("once"), steps.times("also once")) == (2, 2)


async def test_a_worker_that_has_to_stop_lets_go_what_waits_and_the_next_one_goes_on(
    client: httpx.AsyncClient, steps: Steps, commands: Commands
) -> None:
    made = await create(
        client, {"calls": [{"rows": [{"say": "handed on"}], "step": "late"}]}, wait=False
    )

    async def queued() -> bool:
        return await rows_of(commands, steps, "late") == 1

    await eventually(queued, what="its step waits")
    (worker,) = steps.fleet.running("worker", "flow")
    steps.fleet.end(worker)
    assert worker.returncode == 0, steps.fleet.said
    assert await queued(), "its step is not canceled with the worker that waited for it"
    for model in ("flow", "late"):
        steps.fleet.start("worker", model)
    assert (await ended(client, made))["output"] == [["HANDED ON"]]
    assert steps.times("handed on") == 1
    (late,) = steps.fleet.running("worker", "late")
    steps.fleet.end(late)


async def test_a_row_that_kills_its_worker_is_put_aside_and_its_steps_ran_once(
    client: httpx.AsyncClient, steps: Steps, commands: Commands
) -> None:
    neighbour = await create(
        client, {"calls": [{"rows": [{"say": "patient"}], "step": "late"}]}, wait=False
    )

    async def queued() -> bool:
        return await rows_of(commands, steps, "late") == 1

    await eventually(queued, what="the neighbour waits for its step")
    made = await create(client, calling(["fatal"], do="die at last"), wait=False)
    for _ in range(4):
        (worker,) = steps.fleet.running("worker", "flow")
        assert worker.wait(PATIENCE_S) == 9
        steps.fleet.end(worker)
        steps.fleet.start("worker", "flow")
    told = await ended(client, made)
    assert told["status"] == "failed"
    assert "4 workers were lost" in told["error"]
    assert steps.times("fatal") == 1
    late = steps.fleet.start("worker", "late")
    assert (await ended(client, neighbour))["output"] == [["PATIENT"]]
    steps.fleet.end(late)


async def test_code_that_never_waits_is_hung_and_its_worker_ends(
    client: httpx.AsyncClient, steps: Steps
) -> None:
    made = await create(client, calling(["a"], do="hang"), wait=False)
    (worker,) = steps.fleet.running("worker", "flow")
    assert worker.wait(PATIENCE_S) == EXIT_HUNG
    steps.fleet.end(worker)
    cancelled = await client.post(made["urls"]["cancel"])
    assert cancelled.json()["status"] == "canceled"
    steps.fleet.start("worker", "flow")
    assert (await create(client, calling(["a"])))["status"] == "succeeded"


async def test_triton_clients_send_rows_as_json_and_get_outputs_as_json(steps: Steps) -> None:
    rows = [calling(["one"]), calling(["two"], ["three"])]
    values = InferInput("value", [2], "BYTES")
    values.set_data_from_numpy(np.array([json.dumps(row).encode() for row in rows], dtype=object))
    async with InferenceServerClient(steps.fleet.url.removeprefix("http://")) as triton:
        answer = await triton.infer("flow", [values])
        told = [json.loads(value) for value in answer.as_numpy("value")]
        assert told == [[["ONE"]], [["TWO"], ["THREE"]]]
        about = await triton.get_model_metadata("flow")
        assert [one["name"] for one in about["inputs"] + about["outputs"]] == ["value", "value"]
        values.set_data_from_numpy(np.array([json.dumps(calling(["fail"]))] * 2, dtype=object))
        with pytest.raises(InferenceServerException, match="Step 'words' failed: Row 0"):
            await triton.infer("flow", [values])


EXAMPLES = ROOT / "docs" / "examples"
DOCUMENT = (
    "A river feeds the lake. The cat sleeps on the sofa all day long. "
    "The falling water drives a turbine. Bread is baked in the morning."
)


def forebay(*words: str, home: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "forebay.cli", *words],
        cwd=ROOT,
        env={**os.environ, "FOREBAY_HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


def test_the_example_of_the_docs_answers(minilm_home: Path, tmp_path: Path) -> None:
    catalog = str(EXAMPLES / "pipelines.toml")
    with running_stack(minilm_home, tmp_path, models_file=catalog) as stack:
        answer = httpx.post(
            f"{stack.url}/v1/predictions",
            json={
                "version": "passages",
                "input": {"question": "What makes power?", "document": DOCUMENT, "best": 1},
            },
            headers=WAIT,
            timeout=PATIENCE_S,
        ).json()
        assert answer["output"]["language"] == "en", answer
        (passage,) = answer["output"]["passages"]
        assert "turbine" in passage["text"]
        assert {step["model"]: step["rows"] for step in answer["metrics"]["steps"]} == {
            "minilm": 5,
            "language": 1,
        }
        told = re.search(r"forebay (predict passages .*)", (ROOT / "docs/your-code.md").read_text())
        assert told is not None
        done = forebay(*shlex.split(told[1]), "--url", stack.url, home=tmp_path)
        assert "drives the turbine" in done.stdout, done.stderr


def test_a_pipeline_can_be_checked_and_says_what_it_takes(tmp_path: Path) -> None:
    words = ("--models-file", str(EXAMPLES / "pipelines.toml"))
    done = forebay("models", "check", "passages", *words, home=tmp_path)
    assert done.returncode == 0, done.stderr
    first, _, schema = done.stdout.partition("\n")
    assert first.endswith("loads; its steps: minilm, language.")
    assert json.loads(schema)["input"]["$defs"]["Question"]["properties"]["best"]["maximum"] == 20


def test_a_worker_whose_steps_are_wrong_says_so(tmp_path: Path) -> None:
    catalog = tmp_path / "models.toml"
    catalog.write_text('[models.a]\ntask = "pipeline"\nbackend = "pipeline"\nsteps = ["a"]\n')
    words = ("--models-file", str(catalog), "--redis-url", "redis://127.0.0.1:1")
    done = forebay("worker", "a", *words, home=tmp_path)
    assert done.returncode == EXIT_HOPELESS
    assert "line 4: models.a.steps: a → a goes in a circle" in done.stderr.splitlines()[-1]
