"""Triggers of processes as users run them: a background that is killed, and the page."""

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from forebay.lanes.keys import Keys
from tests.fixtures.answering import answering
from tests.fixtures.brokers import broker_at, output_of
from tests.fixtures.fleet import fleet
from tests.fixtures.rabbitmq import rabbitmq
from tests.fixtures.servers import Server, new_prefix
from tests.fixtures.stack import ROOT
from tests.fixtures.triggering import add_results, under_way
from tests.integration.test_readme import BLOCK

__all__ = ["rabbitmq"]

EVENTS = 60
PREFETCH = 20
TRIGGERS = """
[triggers.one]
broker = "$BROKER"
queue = "asked"
model = "echo"
prefetch = {prefetch}
options = {options}

[triggers.one.result]
queue = "told"
"""


@pytest.mark.parametrize("kind", ["redis", "rabbitmq"])
async def test_a_killed_background_loses_no_event_and_runs_none_twice(
    kind: str,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    redis_url: str,
    key_prefix: str,
    keys: Keys,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    prefix = f"{new_prefix()}:"
    told = {"global_keyprefix": prefix} if kind == "redis" else {}
    url = redis_url if kind == "redis" else request.getfixturevalue("rabbitmq").url
    options = ", ".join(f"{name} = {value!r}".replace("'", '"') for name, value in told.items())
    triggers = tmp_path / "triggers.toml"
    triggers.write_text(TRIGGERS.format(prefetch=PREFETCH, options=f"{{ {options} }}"), "utf-8")
    monkeypatch.setenv("BROKER", url)
    with (
        broker_at(url, told) as broker,
        fleet(
            tmp_path,
            redis_url=redis_url,
            key_prefix=key_prefix,
            triggers_file=str(triggers),
            # On Redis what a killed one had is taken over after this time, by RabbitMQ at once.
            lease_s="2",
        ) as processes,
    ):
        for number in range(EVENTS):
            broker.tell("asked", {"value": number}, id_=str(number))
        first = processes.start("background")
        await under_way(redis_url, keys, PREFETCH)
        processes.end(first, kill=True)
        second = processes.start("background")
        results: dict[str, Any] = {}
        async with answering(redis_url, keys, "echo") as delivered:
            await asyncio.to_thread(add_results, broker, results, EVENTS // 4)
            processes.end(second, kill=True)  # while results are published
            processes.start("background")
            await asyncio.to_thread(add_results, broker, results, EVENTS)
            processes.stop()
        values = [str(delivery.computation) for delivery in delivered]
    assert len(values) == EVENTS
    assert len(results) == EVENTS
    assert sorted(map(output_of, results.values())) == list(range(EVENTS))
    assert "Traceback" not in processes.said


async def test_what_the_page_shows_runs(
    tmp_path: Path, private_server: Server, redis_url: str, key_prefix: str, keys: Keys
) -> None:
    page = (ROOT / "docs" / "triggers.md").read_text("utf-8")
    blocks = dict(BLOCK.findall(page))
    example = ROOT / "docs" / "examples" / "triggers.toml"
    assert blocks["toml"] in example.read_text("utf-8")
    check = f"{sys.executable} -m forebay.cli triggers check --triggers-file {example}"
    assert "forebay triggers check --triggers-file docs/examples/triggers.toml" in blocks["sh"]
    models = (ROOT / "models.toml").read_text("utf-8")
    with (
        pytest.MonkeyPatch.context() as patch,
        fleet(
            tmp_path,
            models,
            redis_url=redis_url,
            key_prefix=key_prefix,
            triggers_file=str(example),
        ) as processes,
    ):
        patch.setenv("DOCUMENTS_BROKER", private_server.url)
        processes.start("background")
        async with answering(redis_url, keys, "echo"):
            for command in (check.split(), [sys.executable, "-c", blocks["python"]]):
                process = await asyncio.create_subprocess_exec(
                    *command, cwd=ROOT, stdout=subprocess.PIPE
                )
                printed, _ = await process.communicate()
                assert process.returncode == 0
        processes.stop()
    assert printed.decode() == "dev.forebay.prediction.succeeded A river.\n"
    assert "Traceback" not in processes.said
