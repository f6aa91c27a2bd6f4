"""A worker that writes a long text stays while another comes and goes, and goes when it is done."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import openai
import pytest

from tests.fixtures.catalogs import shipped, write
from tests.fixtures.processes import workers_of
from tests.fixtures.stack import Stack, running_stack
from tests.fixtures.waiting import PATIENCE_S, eventually

pytestmark = pytest.mark.slow

LONG = 700
"""Tokens of the long text: so many that the others are gone before."""


@pytest.fixture
def stack(smollm2_home: Path, tmp_path: Path) -> Iterator[Stack]:
    """SmolLM2 alone, from zero: two texts at a time in each of two workers, which don't stay."""
    models = shipped("smollm2")
    smollm2 = models["smollm2"]
    smollm2["generation"]["slots"] = 2
    smollm2["replicas"] = {"min": 0, "max": 2, "stable_s": 1, "idle_s": 1}
    # Work that is to be done at once: what is behind it asks for more than one worker.
    smollm2["realtime"] = {"deadline_s": 5}
    path = write(models, tmp_path / "models.toml")
    with running_stack(smollm2_home, tmp_path, models_file=str(path), sync_wait_s="120") as made:
        yield made


@pytest.fixture
async def client(stack: Stack) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(
        base_url=f"{stack.url}/v1", api_key="none", max_retries=0, timeout=PATIENCE_S
    ) as made:
        yield made


async def write_text(client: openai.AsyncOpenAI, tokens: int, first: asyncio.Event) -> int:
    """Read a text of exactly so many tokens as it is written; returns how many are told."""
    stream = await client.completions.create(
        model="smollm2",
        prompt="The river",
        max_tokens=tokens,
        stream=True,
        stream_options={"include_usage": True},
        extra_body={"ignore_eos": True},
    )
    told = 0
    async for chunk in stream:
        first.set()
        if chunk.usage is not None:
            told = chunk.usage.completion_tokens
    return told


async def test_a_long_text_is_written_to_its_end_while_the_other_worker_goes(
    stack: Stack, client: openai.AsyncOpenAI
) -> None:
    assert workers_of(stack.process, "smollm2") == []
    begun = asyncio.Event()
    long = asyncio.create_task(write_text(client, LONG, begun))
    await asyncio.wait_for(begun.wait(), PATIENCE_S)
    (busy,) = workers_of(stack.process, "smollm2")

    short = [asyncio.create_task(write_text(client, 30, asyncio.Event())) for _ in range(12)]
    await eventually(
        lambda: len(workers_of(stack.process, "smollm2")) == 2, what=lambda: stack.output
    )
    assert await asyncio.gather(*short) == [30] * 12
    await eventually(
        lambda: workers_of(stack.process, "smollm2") == [busy], what=lambda: stack.output
    )
    assert not long.done(), "it was to be written still: make LONG longer"

    assert await long == LONG
    await eventually(lambda: workers_of(stack.process, "smollm2") == [], what=lambda: stack.output)
