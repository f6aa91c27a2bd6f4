"""The page on clients does what it says: its blocks are run, each in a program of its own."""

import asyncio
import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from forebay.contract.model import BackendName, ModelSpec
from forebay.contract.rows import Task
from forebay.lanes.keys import Keys
from forebay.runtime.catalog import Catalog
from tests.fixtures.answering import DIMENSIONS, answering
from tests.fixtures.gateway import Gateway
from tests.fixtures.generating import MODEL, generating
from tests.fixtures.replicating import CATALOG
from tests.fixtures.waiting import PATIENCE_S

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "clients.md").read_text("utf-8")
SECTION = re.compile(r"^## (\w+)\n.*?^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SECTIONS = dict(SECTION.findall(PAGE))
SAID = "Where does the river go?"


@pytest.fixture
def catalog() -> Catalog:
    ranker = ModelSpec(Task.RERANKING, BackendName.ONNX, source="package:none", name="ranker")
    return Catalog({**CATALOG.models, "ranker": ranker})


@pytest.fixture
async def workers(redis_url: str, keys: Keys) -> AsyncIterator[None]:
    async with (
        answering(redis_url, keys, "minilm"),
        answering(redis_url, keys, "ranker"),
        generating(redis_url, keys),
    ):
        yield


async def printed(section: str, gateway: Gateway) -> list[str]:
    """The lines that a section's block prints; the model that writes is the suite's own."""
    code = SECTIONS[section].replace("127.0.0.1:8000", gateway.url.removeprefix("http://"))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "error", "-c", code.replace("smollm2", MODEL)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        out, errors = await asyncio.wait_for(process.communicate(), PATIENCE_S)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, errors.decode()
    return out.decode().splitlines()


async def test_openai(gateway: Gateway, workers: None) -> None:
    *models, vector, chat = await printed("openai", gateway)
    assert models == ["echo", "minilm", MODEL, "ranker"]
    assert vector == f"{DIMENSIONS} numbers for 7 tokens"
    assert chat.startswith(f"{SAID} req_")


async def test_replicate(gateway: Gateway, workers: None) -> None:
    vector, said, ended, *earlier = await printed("replicate", gateway)
    assert (vector, said) == (f"{DIMENSIONS} numbers", SAID)
    assert ended == "succeeded 5"
    assert [line.split()[1:] for line in earlier] == [
        [f"forebay/{MODEL}", "succeeded"],
        ["forebay/minilm", "succeeded"],
    ]


async def test_tritonclient(gateway: Gateway, workers: None) -> None:
    assert await printed("tritonclient", gateway) == ["True text", f"(2, {DIMENSIONS})"]


async def test_cohere(gateway: Gateway, workers: None) -> None:
    assert await printed("cohere", gateway) == ["1"]


def test_each_section_has_a_block_that_is_run() -> None:
    titles = re.findall(r"^## (\w+)$", PAGE, re.MULTILINE)
    assert titles == list(SECTIONS)
    tried = {name.removeprefix("test_") for name in globals() if name.startswith("test_")}
    assert set(titles) <= tried
