"""Versions of a model, whole: gateway, workers and command line, while clients go on asking."""

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.fixtures.stack import ROOT, Stack, running_stack
from tests.fixtures.waiting import PATIENCE_S, eventually, eventually_sync

CLASSES = """
class One:
    def predict(self, rows: list[dict]) -> list[int]:
        return [1 for row in rows]

class Two:
    def predict(self, rows: list[dict]) -> list[int]:
        return [2 for row in rows]

class Steady:
    def predict(self, rows: list[dict]) -> list[int]:
        return [1 for row in rows]

class Odd:
    def predict(self, rows: list[dict]) -> list[int]:
        return [int(row["n"] % 2 == 0) for row in rows]

class Failing:
    def predict(self, rows: list[dict]) -> list[int]:
        raise ValueError("never")
"""

FRESH = """
class Fresh:
    samples = [{}]
    def predict(self, rows: list[dict]) -> list[str]:
        return ["old" for row in rows]
"""

CATALOG = """
[models.words]
task = "python"
backend = "python"
source = "classes.py:One"
version = "v1"
[models.words.versions.v2]
source = "classes.py:Two"
weight = 20
[models.words.versions.v3]
source = "classes.py:Two"

[models.watched]
task = "python"
backend = "python"
source = "classes.py:Steady"
[models.watched.versions.odd]
source = "classes.py:Odd"
shadow = true
[models.watched.versions.failing]
source = "classes.py:Failing"
shadow = true
sample = 0.5

[models.fresh]
task = "python"
backend = "python"
source = "fresh.py:Fresh"
"""


class Versioned:
    """A stack whose models have versions, and its command line."""

    def __init__(self, stack: Stack, folder: Path) -> None:
        self.stack = stack
        self.folder = folder

        self._env = {
            **os.environ,
            "FOREBAY_HOME": str(stack.home),
            "FOREBAY_MODELS_FILE": str(folder / "models.toml"),
        }

    @contextlib.contextmanager
    def worker(self, name: str) -> Iterator[None]:
        """One more worker, until the block ends."""
        process = subprocess.Popen(
            [sys.executable, "-m", "forebay.cli", "worker", name],
            env=self._env,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            yield
        finally:
            process.terminate()
            assert process.wait(PATIENCE_S) == 0

    def forebay(self, *words: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "forebay.cli", *words],
            cwd=ROOT,
            env=self._env,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )

    def models(self, *words: str) -> str:
        """What `forebay models WORDS…` prints."""
        done = self.forebay("models", *words)
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def versioned() -> Iterator[Versioned]:
    with tempfile.TemporaryDirectory(prefix="forebay-versions-") as name:
        folder = Path(name)
        (folder / "classes.py").write_text(CLASSES)
        (folder / "fresh.py").write_text(FRESH)
        (folder / "models.toml").write_text(CATALOG)
        settings = {"models_file": str(folder / "models.toml"), "sweep_s": "0.3"}
        with running_stack(folder, folder, **settings) as running:
            yield Versioned(running, folder)


@pytest.fixture
async def client(versioned: Versioned) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=versioned.stack.url, timeout=PATIENCE_S) as client:
        yield client


async def ask(
    client: httpx.AsyncClient, version: str = "words", input_: Any = None, **headers: str
) -> httpx.Response:
    return await client.post(
        "/v1/predictions",
        json={"version": version, "input": input_ or {}},
        headers={"Prefer": "wait", **headers},
    )


async def output(client: httpx.AsyncClient, version: str = "words", **headers: str) -> Any:
    answer = await ask(client, version, **headers)
    assert answer.status_code == 201, answer.text
    return answer.json()["output"]


async def until_all_are(
    client: httpx.AsyncClient, wanted: set[Any], *, model: str = "words"
) -> None:
    """Wait until ten requests in a row are answered by these, as all shares have been followed."""

    async def all_are() -> bool:
        return {await output(client, model) for _ in range(10)} == wanted

    await eventually(all_are, what=f"{model} answers {wanted}")


class Clients:
    """Clients that go on asking, and what came of it."""

    def __init__(self) -> None:
        self.answers: Counter[Any] = Counter()
        self.wrong: list[str] = []


@contextlib.asynccontextmanager
async def asking(client: httpx.AsyncClient, model: str) -> AsyncIterator[Clients]:
    """Have two clients ask, one request after the other, until the block ends."""
    clients, stop = Clients(), asyncio.Event()

    async def go_on() -> None:
        while not stop.is_set():
            try:
                answer = await ask(client, model)
            except httpx.HTTPError as error:
                clients.wrong.append(repr(error))
                continue
            told = answer.json()
            if answer.status_code != 201 or told["status"] != "succeeded":
                clients.wrong.append(answer.text)
            clients.answers[told.get("output")] += 1

    tasks = [asyncio.create_task(go_on()) for _ in range(2)]
    try:
        yield clients
    finally:
        stop.set()
        await asyncio.gather(*tasks)


async def in_thread(versioned: Versioned, *words: str) -> str:
    return await asyncio.to_thread(versioned.models, *words)


async def test_requests_are_split_by_weight_and_a_key_keeps_its_version(
    client: httpx.AsyncClient,
) -> None:
    answers = Counter([await output(client) for _ in range(200)])
    assert 10 <= answers[2] <= 80, "20 % of 200 are 40, give or take seven standard deviations"
    for header in ("x-forebay-sticky-key", "X-Forebay-Sticky-Key"):
        kept = {await output(client, **{header: "somebody"}) for _ in range(10)}
        assert len(kept) == 1
    by_key = [await output(client, **{"x-forebay-sticky-key": f"{n}"}) for n in range(60)]
    assert set(by_key) == {1, 2}


async def test_a_version_may_be_asked_for_and_the_answer_says_which_it_was(
    client: httpx.AsyncClient,
) -> None:
    for version, number in (("v1", 1), ("v2", 2)):
        answer = await ask(client, f"words@{version}")
        told = answer.json()
        assert (told["model"], told["output"]) == ("words", number)
        shown = (await client.get(f"/v1/predictions/{told['id']}")).json()
        assert (shown["output"], shown["version"]) == (number, told["version"])
        assert await output(client, f"words:{told['version']}") == number
        assert await output(client, told["version"]) == number
    answer = await ask(client)
    number = answer.json()["output"]
    assert answer.headers["x-forebay-version"] == f"v{number}"
    missing = await ask(client, "words@v9")
    assert missing.status_code == 404
    assert "Versions: v1, v2, v3" in missing.json()["detail"]


async def test_a_canary_is_promoted_and_rolled_back_while_clients_ask_and_nothing_is_lost(
    versioned: Versioned, client: httpx.AsyncClient
) -> None:
    try:
        async with asking(client, "words") as clients:
            first = await ask(client, **{"idempotency-key": "the first"})
            assert "v2       60 %" in await in_thread(versioned, "traffic", "words", "v2=60")
            told = await in_thread(versioned, "promote", "words", "v2")
            assert "by promote of" in told
            assert "v2       100 %" in told
            await until_all_are(client, {2})
            again = [await ask(client, **{"idempotency-key": "the first"}) for _ in range(3)]
            assert {one.json()["id"] for one in again} == {first.json()["id"]}
            assert "v2       60 %" in await in_thread(versioned, "rollback", "words")
            await in_thread(versioned, "traffic", "words", "v1=100")
            await until_all_are(client, {1})
        assert clients.wrong == []
        assert min(clients.answers[1], clients.answers[2]) > 20
    finally:
        versioned.models("traffic", "words", "--reset")
    changes = [
        line.split()[2]
        for line in versioned.models("traffic", "words", "--history").split("\n")[1:6]
    ]
    assert changes == ["reset", "set", "rollback", "promote", "set"]


async def test_a_version_without_a_worker_gets_requests_only_by_force_and_they_wait(
    versioned: Versioned, client: httpx.AsyncClient
) -> None:
    refused = versioned.forebay("models", "traffic", "words", "v3=10")
    assert refused.returncode == 1
    assert "words@v3 has no worker ready" in refused.stderr
    assert "forebay worker words@v3" in refused.stderr
    assert "by models.toml" in versioned.models("traffic", "words").split("\n")[0]
    try:
        told = versioned.models("promote", "words", "v3", "--force")
        assert "its requests wait: no worker is ready" in told
        waiting = None

        async def goes_there() -> bool:
            nonlocal waiting
            waiting = await client.post("/v1/predictions", json={"version": "words", "input": {}})
            return "words@v3" in waiting.json()["id"]

        await eventually(goes_there, what="requests go to v3")

        async def done() -> bool:
            assert waiting is not None
            shown = await client.get(f"/v1/predictions/{waiting.json()['id']}")
            return bool(shown.json()["status"] == "succeeded")

        with versioned.worker("words@v3"):
            await eventually(done, what="what has waited is run")
    finally:
        versioned.models("traffic", "words", "--reset")

    async def goes_elsewhere() -> bool:
        return not await goes_there()

    await eventually(goes_elsewhere, what="requests go where models.toml says again")


async def test_what_a_killed_versions_requests_wait_for_is_its_next_worker(
    versioned: Versioned, client: httpx.AsyncClient
) -> None:
    async with asking(client, "words@v2") as clients:
        victim: psutil.Process = versioned.stack.child("worker", "words@v2")
        await eventually(lambda: clients.answers[2] > 5, what="some answers")
        victim.kill()
        before = clients.answers[2]
        await eventually(lambda: clients.answers[2] > before + 20, what="more answers")
    assert clients.wrong == []


async def test_shadows_get_copies_and_neither_slow_nor_spoil_what_clients_get(
    versioned: Versioned, client: httpx.AsyncClient
) -> None:
    numbers = list(range(10)) * 4
    for n in numbers:
        assert (await ask(client, "watched", {"n": n})).json()["output"] == 1

    told: dict[str, Any] = {}

    def compared() -> bool:
        told.update(json.loads(versioned.models("shadow", "watched", "--json")))
        odd, failing = told["odd"], told["failing"]
        both = odd["rows"] == len(numbers) and not failing["waiting"]
        return bool(both and failing["failed"] == failing["sent"])

    eventually_sync(compared, what=lambda: f"all is compared, {told}")
    odd, failing = told["odd"], told["failing"]
    assert (odd["sent"], odd["dropped"], odd["failed"]) == (len(numbers), 0, 0)
    assert (odd["differ"], odd["max"]) == (len(numbers) / 2, 1)
    assert 0 < failing["sent"] < len(numbers)
    assert "gets copies" in versioned.models("traffic", "watched")
    assert "(50.0%)" in versioned.models("shadow", "watched")
    anew = json.loads(versioned.models("shadow", "watched", "--json", "--reset"))
    assert anew["odd"]["rows"] == 0
    assert "has no shadow" in versioned.forebay("models", "shadow", "words").stderr


async def test_new_code_is_taken_up_on_demand_and_what_does_not_load_is_not(
    versioned: Versioned, client: httpx.AsyncClient
) -> None:
    source = versioned.folder / "fresh.py"
    pid = versioned.stack.child("worker", "fresh").pid
    async with asking(client, "fresh") as clients:
        await eventually(lambda: clients.answers["old"] > 3, what="some answers")
        source.write_text(FRESH.replace('"old"', '"new"'))
        assert "is ready at" in await in_thread(versioned, "reload", "fresh")
        await until_all_are(client, {"new"}, model="fresh")
        source.write_text(FRESH.replace('"old"', "broken"))
        refused = await asyncio.to_thread(versioned.forebay, "models", "reload", "fresh")
        assert refused.returncode == 1
        assert "goes on as it was" in refused.stderr
        assert "name 'broken' is not defined" in refused.stderr
        assert await output(client, "fresh") == "new"
    assert clients.wrong == []
    assert set(clients.answers) == {"old", "new"}
    assert versioned.stack.child("worker", "fresh").pid == pid


async def test_a_model_says_which_versions_it_has_and_what_they_take(
    client: httpx.AsyncClient,
) -> None:
    told = (await client.get("/v1/models/watched")).json()["forebay"]
    assert [(one["name"], one["share"], one["shadow"]) for one in told["versions"]] == [
        ("watched@default", 100.0, False),
        ("watched@odd", 0.0, True),
        ("watched@failing", 0.0, True),
    ]
    schema = (await client.get(told["schema"])).json()
    assert schema["version"] == told["versions"][0]["version"]
    assert schema["input"]["$defs"]["Row"]["type"] == "object"
    assert schema["output"]["$defs"]["Made"] == {"type": "integer"}
    listed = (await client.get("/replicate/v1/models/forebay/words/versions")).json()["results"]
    (one, two, _) = listed
    assert two["openapi_schema"]["components"]["schemas"]["Made"] == {"type": "integer"}
    by_name = await client.get("/replicate/v1/models/forebay/words/versions/v2")
    by_digest = await client.get(f"/replicate/v1/models/forebay/words/versions/{two['id']}")
    assert by_name.json() == by_digest.json() == two
    model = (await client.get("/replicate/v1/models/forebay/words")).json()
    assert (model["owner"], model["latest_version"]) == ("forebay", one)
    assert (await client.get("/replicate/v1/models/other/words")).status_code == 404
    assert [
        one["name"] for one in (await client.get("/replicate/v1/models")).json()["results"]
    ] == [
        "fresh",
        "watched",
        "words",
    ]
