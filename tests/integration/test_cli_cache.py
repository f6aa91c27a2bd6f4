"""The response cache with Forebay's own processes, and `forebay cache` as operators run it."""

import asyncio
import json
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.fixtures.fleet import Fleet, fleet
from tests.fixtures.user_models import WORDS
from tests.fixtures.waiting import PATIENCE_S, eventually

PAGE = (Path(__file__).parents[2] / "docs" / "cache.md").read_text("utf-8")

MODELS = """
[models.echo]
task = "echo"
backend = "echo"
cache.enabled = true

[models.words]
task = "python"
backend = "python"
source = "words.py:Words"

[models.words.cache]
enabled = true
ttl_s = 600

[models.idle]
task = "echo"
backend = "echo"
"""


@pytest.fixture
async def running(tmp_path: Path, redis_url: str, key_prefix: str) -> AsyncIterator[Fleet]:
    (tmp_path / "words.py").write_text(WORDS)
    with fleet(tmp_path, MODELS, redis_url=redis_url, key_prefix=key_prefix) as running:
        running.start("worker", "echo", "words")
        running.start("gateway")
        await running.ready("echo", "words")
        yield running


async def said(folder: Path, redis_url: str, key_prefix: str, *words: str) -> str:
    ended = await asyncio.to_thread(
        subprocess.run,
        [
            *(sys.executable, "-m", "forebay.cli", "cache", *words),
            *("--redis-url", redis_url, "--key-prefix", key_prefix),
            *("--models-file", str(folder / "models.toml")),
        ],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    return ended.stdout + ended.stderr


async def test_workers_keep_gateways_answer_and_operators_see_and_empty_it(
    running: Fleet, tmp_path: Path, redis_url: str, key_prefix: str
) -> None:
    async def run(*words: str) -> str:
        return await said(tmp_path, redis_url, key_prefix, *words)

    async def ask(model: str, input_: dict[str, Any]) -> str:
        body = {"version": model, "input": input_}
        answer = await client.post("/v1/predictions", json=body, headers={"Prefer": "wait"})
        assert answer.json()["status"] == "succeeded"
        return str(answer.headers["cache-status"])

    async with httpx.AsyncClient(base_url=running.url, timeout=PATIENCE_S) as client:
        for model, input_ in (("echo", {"value": [1, None]}), ("words", {"text": "a"})):
            assert "miss; stored" in await ask(model, input_)
            assert "hit" in await ask(model, input_)

        async def counted() -> bool:
            told = json.loads(await run("stats", "--json"))
            return [(one["near"], one["missed"]) for one in told.values()] == [(1, 1), (1, 1)]

        await eventually(counted)
        table = await run("stats")
        assert "50%" in table
        assert "of 64.0 MB" in table
        assert "idle" not in table
        assert await run("clear", "echo") == "echo: dropped 1.\n"

        async def is_empty() -> bool:
            return "miss" in await ask("echo", {"value": [1, None]})

        await eventually(is_empty)
        assert "hit" in await ask("words", {"text": "a"})
        assert await run("clear") == "echo: dropped 1.\nwords: dropped 1.\n"
    assert "There is no model 'nobody' here" in await run("clear", "nobody")


def block(language: str) -> str:
    """The first block of the docs' page in a language."""
    found = re.search(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[1]


async def test_what_the_docs_show_is_done(tmp_path: Path, redis_url: str, key_prefix: str) -> None:
    model = '[models.minilm]\ntask = "embedding"\nbackend = "onnx"\nsource = "x"\n'
    (tmp_path / "models.toml").write_text(model + block("toml"))
    shown = [line.split() for line in block("sh").splitlines()]
    assert [words[:2] for words in shown] == [["forebay", "cache"]] * 2
    stats, cleared = [await said(tmp_path, redis_url, key_prefix, *words) for _, _, *words in shown]
    assert "minilm" in stats
    assert cleared == "minilm: dropped 0.\n"


async def test_where_nothing_is_cached_stats_say_how_to(
    tmp_path: Path, redis_url: str, key_prefix: str
) -> None:
    (tmp_path / "models.toml").write_text('[models.echo]\ntask = "echo"\nbackend = "echo"\n')
    told = await said(tmp_path, redis_url, key_prefix, "stats")
    assert "enabled = true" in told
    assert "0 of" not in told
