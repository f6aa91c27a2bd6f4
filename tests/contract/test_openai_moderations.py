"""Moderations for the unmodified `openai` client, by a classifier's own labels."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import openai
import pytest

from forebay.contract.model import BackendName, ModelSpec
from forebay.contract.rows import Task
from forebay.lanes.keys import Keys
from forebay.runtime.catalog import Catalog
from forebay.runtime.settings import Settings
from tests.fixtures.answering import answering, classify
from tests.fixtures.gateway import Gateway, running_gateway
from tests.fixtures.lanes import rows_on_lanes
from tests.fixtures.waiting import PATIENCE_S


def spec(name: str, task: Task) -> ModelSpec:
    return ModelSpec(task, BackendName.ONNX, source="package:none", name=name)


MODELS = Catalog(
    {
        "moderator": spec("moderator", Task.CLASSIFICATION),
        "minilm": spec("minilm", Task.EMBEDDING),
    }
)


@pytest.fixture
async def gateway(redis_url: str, key_prefix: str) -> AsyncIterator[Gateway]:
    settings = Settings(redis_url=redis_url, key_prefix=key_prefix)
    async with running_gateway(settings, catalog=MODELS) as running:
        yield running


@pytest.fixture
async def client(gateway: Gateway) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(
        base_url=f"{gateway.url}/v1", api_key="none", max_retries=0, timeout=PATIENCE_S
    ) as client:
        yield client


@pytest.fixture
async def moderator(redis_url: str, keys: Keys) -> AsyncIterator[None]:
    async with answering(redis_url, keys, "moderator", answer=classify):
        yield


async def test_each_text_is_flagged_by_each_label(
    client: openai.AsyncOpenAI, moderator: None
) -> None:
    told = await client.moderations.create(
        model="moderator", input=["a river", "a threat", "insult and threat"]
    )
    assert told.model == "moderator"
    assert told.id.startswith("modr-req_")
    results = [result.to_dict() for result in told.results]
    types = {"insult": ["text"], "threat": ["text"]}
    assert results == [
        {
            "flagged": insult or threat,
            "categories": {"insult": insult, "threat": threat},
            "category_scores": {
                "insult": 0.75 if insult else 0.25,
                "threat": 0.75 if threat else 0.25,
            },
            "category_applied_input_types": types,
        }
        for insult, threat in ((False, False), (False, True), (True, True))
    ]


async def test_one_text_gives_one_result(client: openai.AsyncOpenAI, moderator: None) -> None:
    told = await client.moderations.create(model="moderator", input="an insult")
    assert [result.flagged for result in told.results] == [True]


async def test_a_text_over_the_models_limit_is_named_unless_it_may_be_cut(
    client: openai.AsyncOpenAI, moderator: None
) -> None:
    texts = ["short", "much too long " * 20]
    with pytest.raises(openai.BadRequestError, match="too long") as caught:
        await client.moderations.create(model="moderator", input=texts)
    assert (caught.value.param, caught.value.code) == ("input[1]", "context_length_exceeded")
    told = await client.moderations.create(
        model="moderator", input=texts, extra_body={"truncate": True}
    )
    assert len(told.results) == 2


@pytest.mark.parametrize(
    ("arguments", "status", "param"),
    [
        ({"model": "nothing"}, 404, "model"),
        ({"model": "minilm"}, 400, "model"),
        ({"model": openai.omit}, 400, "model"),
        ({"input": ""}, 400, "input"),
        ({"input": []}, 400, "input"),
        ({"input": ["a", ""]}, 400, "input[1]"),
        ({"input": ["a", 1]}, 400, "input[1]"),
        ({"input": ["a"] * 2_049}, 400, "input"),
        ({"input": [{"type": "text", "text": "a"}]}, 400, "input[0]"),
        ({"extra_body": {"threshold": 0.9}}, 400, "threshold"),
    ],
)
async def test_bad_input_is_refused_by_name_and_nothing_is_enqueued(
    client: openai.AsyncOpenAI,
    redis_url: str,
    keys: Keys,
    arguments: dict[str, Any],
    status: int,
    param: str,
) -> None:
    with pytest.raises(openai.APIStatusError) as caught:
        await client.moderations.create(**{"model": "moderator", "input": "a", **arguments})
    assert (caught.value.status_code, caught.value.param) == (status, param)
    assert await rows_on_lanes(redis_url, keys, "moderator") == 0


async def test_a_model_of_another_task_is_refused_with_those_that_can(
    client: openai.AsyncOpenAI,
) -> None:
    with pytest.raises(openai.BadRequestError, match="'classification': 'moderator'") as caught:
        await client.moderations.create(model="minilm", input="a")
    assert caught.value.param == "model"


async def test_the_front_page_lists_what_there_is(gateway: Gateway) -> None:
    async with httpx.AsyncClient(base_url=gateway.url, timeout=PATIENCE_S) as plain:
        told = (await plain.get("/")).json()
    assert {"POST /v1/moderations", "POST /v1/rerank"} <= set(told["endpoints"])
    assert told["clients"]["cohere"] == gateway.url


async def test_where_no_model_can_the_error_says_so(redis_url: str, key_prefix: str) -> None:
    settings = Settings(redis_url=redis_url, key_prefix=key_prefix)
    only = Catalog({"minilm": spec("minilm", Task.EMBEDDING)})
    async with (
        running_gateway(settings, catalog=only) as gateway,
        openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key="none", max_retries=0) as client,
    ):
        with pytest.raises(openai.BadRequestError, match=r"of which models\.toml has none"):
            await client.moderations.create(model="minilm", input="a")
