"""The unmodified `openai` client: answers that are expected come to the same, and are told so."""

import asyncio
import sys
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest
from openai.types.completion_usage import CompletionUsage

from forebay.lanes.keys import Keys
from forebay.runtime.catalog import Catalog
from tests.fixtures.calling import Caller
from tests.fixtures.gateway import Gateway
from tests.fixtures.generating import MODEL, PARROT, generating
from tests.fixtures.stack import ROOT
from tests.integration.test_readme import BLOCK

ASKED: dict[str, Any] = {
    "model": MODEL,
    "messages": [{"role": "user", "content": "Is there a train to the coast tonight?"}],
    "temperature": 0,
    "max_tokens": 60,
}


@pytest.fixture
def catalog() -> Catalog:
    return PARROT


@pytest.fixture
async def worker(redis_url: str, keys: Keys, caller: Caller) -> AsyncIterator[None]:
    generator = caller.generator()
    generator.warm()  # drafts, where that is worth it here
    async with generating(redis_url, keys, generator):
        yield


def told(usage: CompletionUsage | None) -> tuple[int, int]:
    assert usage is not None
    details = usage.completion_tokens_details
    assert details is not None
    assert details.accepted_prediction_tokens is not None
    assert details.rejected_prediction_tokens is not None
    return details.accepted_prediction_tokens, details.rejected_prediction_tokens


def of(content: Any) -> Any:
    return {"type": "content", "content": content}


@pytest.mark.usefixtures("worker")
async def test_an_answer_is_the_same_whatever_is_expected_of_it(
    client: openai.AsyncOpenAI,
) -> None:
    plain = await client.chat.completions.create(**ASKED)
    text = plain.choices[0].message.content
    assert text
    expecting = await client.chat.completions.create(**ASKED, prediction=of(text))
    assert expecting.choices[0].message.content == text
    accepted, rejected = told(expecting.usage)
    assert accepted > rejected
    other = await client.chat.completions.create(**ASKED, prediction=of("No train today, sorry."))
    assert other.choices[0].message.content == text
    assert sum(told(other.usage)) > 0
    assert told(other.usage)[1] > told(other.usage)[0]


@pytest.mark.usefixtures("worker")
async def test_an_answer_that_is_expected_is_streamed_with_what_it_has_of_it(
    client: openai.AsyncOpenAI,
) -> None:
    plain = await client.chat.completions.create(**ASKED)
    text = plain.choices[0].message.content or ""
    prediction = of([{"type": "text", "text": text[: len(text) // 2]}])
    once = await client.chat.completions.create(**ASKED, prediction=prediction)
    stream = await client.chat.completions.create(
        **ASKED, prediction=prediction, stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]
    grown = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert grown == text
    assert told(chunks[-1].usage) == told(once.usage)


@pytest.mark.usefixtures("worker")
async def test_what_is_expected_goes_with_everything_else(client: openai.AsyncOpenAI) -> None:
    asked: dict[str, Any] = {
        **ASKED,
        "temperature": 1,
        "seed": 5,
        "n": 2,
        "logprobs": True,
        "top_logprobs": 2,
        "presence_penalty": 0.5,
        "response_format": {"type": "regex", "regex": "[a-z ]{20,40}"},
    }
    plain = await client.chat.completions.create(**asked)
    text = plain.choices[1].message.content
    expecting = await client.chat.completions.create(**asked, prediction=of(text))
    assert expecting.choices == plain.choices
    assert sum(told(expecting.usage)) > 0


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize(
    ("prediction", "param"),
    [
        ("text", "prediction"),
        ({"type": "text", "content": "x"}, "prediction.type"),
        ({"type": "content", "content": []}, "prediction.content"),
        (
            {"type": "content", "content": [{"type": "image_url", "image_url": {"url": "x"}}]},
            "prediction.content[0].type",
        ),
        # Longer than the model has room for.
        ({"type": "content", "content": "x " * 200_000}, "prediction"),
    ],
)
async def test_what_cannot_be_expected_is_refused_by_its_name(
    client: openai.AsyncOpenAI, prediction: Any, param: str
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        await client.chat.completions.create(**ASKED, prediction=prediction)
    assert caught.value.param == param


@pytest.mark.usefixtures("worker")
async def test_the_page_says_how(gateway: Gateway) -> None:
    page = (ROOT / "docs" / "generation.md").read_text("utf-8")
    (block,) = (body for kind, body in BLOCK.findall(page) if kind == "python" and "code =" in body)
    code = block.replace("http://127.0.0.1:8000", gateway.url).replace("smollm2", MODEL)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE
    )
    said, _ = await process.communicate()
    assert process.returncode == 0
    assert said.decode().endswith(" tokens as predicted\n")


async def test_where_nothing_is_drafted_it_is_taken_and_changes_nothing(
    gateway: Gateway, client: openai.AsyncOpenAI, redis_url: str, keys: Keys
) -> None:
    async with generating(redis_url, keys):  # an echo
        answer = await client.chat.completions.create(**ASKED, prediction=of("Is there a tram?"))
    assert answer.choices[0].message.content == ASKED["messages"][0]["content"]
