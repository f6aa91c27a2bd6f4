"""Logs of predictions: what code of one's own says, as Replicate's client and receivers see it."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from replicate.client import Client
from replicate.webhook import Webhooks

from forebay.contract.notices import delivery_id
from tests.fixtures.fleet import Fleet, fleet
from tests.fixtures.hooked import Heard, Receiver, hooked
from tests.fixtures.replicating import aside
from tests.fixtures.servers import new_prefix
from tests.fixtures.waiting import eventually

CATALOG = """
[models.talker]
task = "python"
backend = "python"
source = "talking.py:Talker"
batch.max_rows = 8

[models.flow]
task = "pipeline"
backend = "pipeline"
source = "talking.py:Flow"
steps = ["talker"]
"""

CLASSES = """
import asyncio, logging, time
from pathlib import Path

import msgspec

from forebay.inference.steps import Models

log = logging.getLogger("forebay.predictions")


class Row(msgspec.Struct):
    say: list[str]
    until: str = ""


class Talker:
    samples = [Row(["a sample"])]

    def predict(self, rows: list[Row]) -> list[int]:
        log.info("%d rows", len(rows))
        for index, row in enumerate(rows):
            for line in row.say:
                log.info(line, extra={"row": index})
            log.debug("nobody is shown this")
            if "fail" in row.say:
                raise ValueError("a secret")
            while row.until and not Path(row.until).exists():
                time.sleep(0.005)
        return [len(row.say) for row in rows]


class Flow:
    async def run(self, row: Row, models: Models) -> int:
        log.info("before %s", row.say[0])
        (count,) = await models["talker"]([{"say": row.say, "until": row.until}])
        await asyncio.gather(*(asyncio.to_thread(log.warning, f"thread {n}") for n in range(2)))
        try:
            raise ValueError("a secret")
        except ValueError:
            log.exception("after")
        return count
"""


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="forebay-logs-") as name:
        (Path(name) / "talking.py").write_text(CLASSES)
        yield Path(name)


@pytest.fixture(scope="module")
def running(redis_url: str, folder: Path) -> Iterator[Fleet]:
    settings = {"redis_url": redis_url, "key_prefix": new_prefix(), "egress_loopback": "true"}
    with fleet(folder, CATALOG, **settings) as made:
        made.start("gateway")
        made.start("worker", "talker")
        made.start("worker", "flow")
        made.start("background")
        yield made


@pytest.fixture
async def replicate(running: Fleet) -> AsyncIterator[Client]:
    await running.ready("talker", "flow")
    client = Client(api_token="r8_none", base_url=f"{running.url}/replicate")
    client.poll_interval = 0.02
    yield client
    client._client.close()


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with hooked() as made:
        yield made


async def test_logs_are_shown_while_it_runs_told_to_receivers_and_kept(
    replicate: Client, receiver: Receiver, folder: Path
) -> None:
    gate = folder / "gate"
    made = await aside(
        lambda: replicate.predictions.create(
            version="talker",
            input={"say": ["größer", "50 %"], "until": str(gate)},
            webhook=receiver.url("/hook"),
            webhook_events_filter=["logs", "completed"],
        )
    )
    said = "1 rows\ngrößer\n50 %\n"

    def all_said() -> bool:
        made.reload()
        return made.logs == said

    await eventually(lambda: aside(all_said), what=lambda: f"all is said: {made.logs}")
    assert made.status == "processing"
    first, *_ = await eventually(lambda: receiver.at("/hook"), what="logs are told")
    assert (first.json["id"], first.json["status"]) == (made.id, "processing")
    assert first.json["logs"]
    assert said.startswith(first.json["logs"])
    gate.touch()
    await aside(made.wait)
    assert (made.status, made.output, made.logs) == ("succeeded", 2, said)

    def ends() -> list[Heard]:
        end = delivery_id(made.id, "completed")
        return [one for one in receiver.at("/hook") if one.id == end]

    (ended,) = await eventually(ends, what="the end is told")
    assert (ended.json["status"], ended.json["logs"]) == ("succeeded", said)
    secret = await aside(replicate.webhooks.default.secret)
    for one in receiver.heard:
        Webhooks.validate(headers=one.headers, body=one.body.decode(), secret=secret)
        with pytest.raises(ValueError, match="signature"):
            Webhooks.validate(headers=one.headers, body=f"{one.body.decode()} ", secret=secret)


async def test_an_answer_that_was_waited_for_has_the_logs_and_so_has_a_failure(
    replicate: Client,
) -> None:
    made = await aside(
        lambda: replicate.predictions.create(version="talker", input={"say": ["a"]}, wait=60)
    )
    assert (made.status, made.logs) == ("succeeded", "1 rows\na\n")
    silent = await aside(
        lambda: replicate.predictions.create(version="talker", input={"say": []}, wait=60)
    )
    assert (silent.status, silent.logs) == ("succeeded", "1 rows\n")
    failed = await aside(
        lambda: replicate.predictions.create(version="talker", input={"say": ["fail"]}, wait=60)
    )
    assert (failed.status, failed.logs) == ("failed", "1 rows\nfail\n")
    listed = {one.id: one.logs for one in (await aside(replicate.predictions.list)).results}
    assert listed[failed.id] == failed.logs


async def test_an_attempt_that_was_lost_with_its_worker_leaves_a_line(
    replicate: Client, running: Fleet, folder: Path
) -> None:
    gate = folder / "lost"
    # It makes what it asks by when it first asks: two threads at once would leave one of two open.
    await aside(replicate.predictions.list)
    waiting = asyncio.create_task(
        aside(
            lambda: replicate.predictions.create(
                version="talker", input={"say": ["lost"], "until": str(gate)}, wait=60
            )
        )
    )

    def says_all() -> bool:
        return any((one.logs or "").endswith("lost\n") for one in replicate.predictions.list())

    await eventually(lambda: aside(says_all), what="it runs")
    (worker,) = running.running("worker", "talker")
    running.end(worker, kill=True)
    running.start("worker", "talker")
    gate.touch()
    made = await waiting
    assert made.status == "succeeded"
    said = "1 rows\nlost\n(attempt 1 was lost with its worker)\n1 rows\nlost\n"
    assert made.logs == said
    await aside(made.reload)
    assert made.logs == said


async def test_predictions_that_run_in_one_call_are_shown_their_own_lines_only(
    replicate: Client, folder: Path
) -> None:
    gate = folder / "together"
    first = await aside(
        lambda: replicate.predictions.create(
            version="talker", input={"say": ["first"], "until": str(gate)}
        )
    )
    # Those that come while it runs wait, and run together.
    together = [
        await aside(
            lambda number=number: replicate.predictions.create(  # type: ignore[misc]
                version="talker", input={"say": [f"own {number}"]}
            )
        )
        for number in range(4)
    ]
    gate.touch()
    for one in (first, *together):
        await aside(one.wait)
    for number, one in enumerate(together):
        lines = (one.logs or "").splitlines()
        assert [line for line in lines if "rows" not in line] == [f"own {number}"]
        assert set(lines) <= {"1 rows", f"own {number}"}


async def test_a_pipeline_says_things_too_from_threads_as_well_and_without_its_code(
    replicate: Client,
) -> None:
    made = await aside(
        lambda: replicate.predictions.create(version="flow", input={"say": ["a", "b"]}, wait=60)
    )
    assert (made.status, made.output) == ("succeeded", 2)
    before, *threads, after = (made.logs or "").splitlines()
    assert (before, sorted(threads), after) == ("before a", ["thread 0", "thread 1"], "after")
