"""`forebay autoscale run` and `GET /autoscale/{model}`: replicas that something else starts."""

import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from forebay.runtime.process import EXIT_HOPELESS
from tests.fixtures.fleet import Fleet, fleet
from tests.fixtures.waiting import PATIENCE_S, eventually

CATALOG = """
[models.echo]
task = "echo"
backend = "echo"

[models.rests]
task = "echo"
backend = "echo"
replicas = { min = 0, max = 3, idle_s = 1 }
"""
RESTS = {"version": "rests", "input": {"value": 1}}


@pytest.fixture
def running(redis_url: str, key_prefix: str, tmp_path: Path) -> Iterator[Fleet]:
    settings = {"redis_url": redis_url, "key_prefix": key_prefix}
    with fleet(tmp_path, CATALOG, **settings) as made:
        made.start("gateway")
        made.start("worker", "echo")
        yield made


@pytest.fixture
async def client(running: Fleet) -> AsyncIterator[httpx.AsyncClient]:
    await running.ready()
    async with httpx.AsyncClient(base_url=running.url, timeout=PATIENCE_S) as made:
        yield made


async def test_what_is_wanted_follows_what_is_to_be_done_and_who_starts_it_is_told(
    running: Fleet, client: httpx.AsyncClient
) -> None:
    told: dict[str, Any] = {}

    async def replicas(**wanted: int) -> bool:
        told.update((await client.get("/autoscale/rests")).json())
        found = told.get("replicas", {})
        return all(found.get(name) == value for name, value in wanted.items())

    running.start("autoscale", "run")
    await eventually(lambda: replicas(desired=0, ready=0, min=0, max=3), what=lambda: running.said)
    assert told["demand"] == {"rows": 0, "realtime": 0, "bulk": 0}
    assert told["drain_s"] == 0

    answer = await client.post("/v1/predictions", json=RESTS)
    place = f"/v1/predictions/{answer.json()['id']}"
    await eventually(lambda: replicas(desired=1, ready=0), what=lambda: f"{told} {running.said}")
    # Nobody waits for it: it is bulk.
    assert told["demand"] == {"rows": 1, "realtime": 0, "bulk": 1}
    assert told["why"] == "there is work"

    worker = running.start("worker", "rests")

    async def done() -> bool:
        return bool((await client.get(place)).json()["status"] == "succeeded")

    await eventually(done, what=lambda: running.said)
    await eventually(lambda: replicas(desired=0, ready=1), what=lambda: f"{told} {running.said}")
    running.end(worker)
    await eventually(lambda: replicas(desired=0, ready=0), what=lambda: f"{told} {running.said}")


async def test_of_a_model_with_a_fixed_number_that_is_told_and_of_others_that_nobody_tells(
    client: httpx.AsyncClient,
) -> None:
    told = (await client.get("/autoscale/echo")).json()
    assert told["replicas"] == {"desired": 1, "ready": 1, "min": 1, "max": 1}
    refused = await client.get("/autoscale/rests")
    assert refused.status_code == 503
    assert "forebay autoscale run" in refused.json()["detail"]
    missing = await client.get("/autoscale/nowhere")
    assert missing.status_code == 404
    assert "nowhere" in missing.json()["detail"]
    assert (await client.post("/autoscale/echo")).status_code == 405


def test_where_no_model_leaves_a_choice_it_says_so_and_ends(redis_url: str, tmp_path: Path) -> None:
    with fleet(tmp_path, redis_url=redis_url) as made:
        process: subprocess.Popen[bytes] = made.start("autoscale", "run")
        assert process.wait(PATIENCE_S) == EXIT_HOPELESS
        assert "[models.NAME.replicas]" in made.said
