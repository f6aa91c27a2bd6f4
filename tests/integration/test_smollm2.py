"""The shipped model that writes, under `forebay up`, asked by the unmodified `openai` client."""

import asyncio
import re
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import openai
import pytest

from tests.fixtures.catalogs import SHIPPED
from tests.fixtures.stack import ROOT, Stack, running_stack
from tests.fixtures.waiting import PATIENCE_S, eventually
from tests.integration.test_readme import BLOCK, WRITES, blocks, here, run

pytestmark = pytest.mark.slow

QUESTIONS = (
    "What is the capital of France?",
    "Name three colors.",
    "Who wrote Hamlet?",
    "Describe the moon.",
)


@pytest.fixture(scope="module")
def writing(smollm2_home: Path) -> Iterator[Stack]:
    with (
        tempfile.TemporaryDirectory(prefix="forebay-writing-") as folder,
        running_stack(smollm2_home, Path(folder), models_file=str(SHIPPED)) as stack,
    ):
        yield stack


@pytest.fixture
async def client(writing: Stack) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(
        base_url=f"{writing.url}/v1", api_key="none", max_retries=0, timeout=PATIENCE_S
    ) as client:
        yield client


class Told:
    """What a question's stream has told."""

    def __init__(self) -> None:
        self.pieces: list[str] = []
        self.tokens = 0

    @property
    def text(self) -> str:
        return "".join(self.pieces)


async def ask(client: openai.AsyncOpenAI, question: str, told: Told | None = None) -> Told:
    told = told or Told()
    stream = await client.chat.completions.create(
        model="smollm2",
        messages=[{"role": "user", "content": question}],
        temperature=0,
        max_tokens=32,
        stream=True,
        stream_options={"include_usage": True},
    )
    async for chunk in stream:
        told.pieces += [choice.delta.content or "" for choice in chunk.choices]
        if chunk.usage is not None:
            told.tokens = chunk.usage.completion_tokens
    return told


async def test_chats_are_streamed_and_say_in_company_what_they_say_alone(
    client: openai.AsyncOpenAI,
) -> None:
    alone = [await ask(client, question) for question in QUESTIONS]
    assert "Paris" in alone[0].text
    assert all(len([piece for piece in told.pieces if piece]) > 2 for told in alone)
    together = await asyncio.gather(*(ask(client, question) for question in QUESTIONS))
    assert [told.text for told in together] == [told.text for told in alone]
    assert [told.tokens for told in together] == [told.tokens for told in alone]


async def test_the_page_has_an_answer_in_the_form_that_it_asks_for(writing: Stack) -> None:
    page = (ROOT / "docs" / "generation.md").read_text("utf-8")
    (block,) = (body for kind, body in BLOCK.findall(page) if kind == "python" and "City" in body)
    printed = await asyncio.to_thread(run, [sys.executable, "-c", here(block, writing)], writing)
    assert re.fullmatch(r"name='.*' country='.*' founded=\d+\n", printed)


def test_the_chat_in_the_readme_runs(writing: Stack) -> None:
    (block,) = (block for block in blocks("python") if WRITES in block)
    assert "Paris" in run([sys.executable, "-c", here(block, writing)], writing)
    assert not [block for block in blocks("sh") if WRITES in block]


async def test_chats_go_on_where_their_worker_was_killed(
    client: openai.AsyncOpenAI, writing: Stack
) -> None:
    alone = [await ask(client, question) for question in QUESTIONS]
    several = [Told() for _ in QUESTIONS]
    asking = [
        asyncio.create_task(ask(client, question, told))
        for question, told in zip(QUESTIONS, several, strict=True)
    ]
    await eventually(lambda: all(told.text for told in several), what="all have begun")
    writing.child("worker", "smollm2").kill()
    await asyncio.gather(*asking)
    assert [told.text for told in several] == [told.text for told in alone]
