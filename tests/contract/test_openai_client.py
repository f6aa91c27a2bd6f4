"""The unmodified `openai` client against a real gateway and real lanes."""

import asyncio
import base64
import struct
from collections.abc import AsyncIterator
from typing import Any

import httpx
import openai
import pytest

from forebay.contract.model import ModelSpec
from forebay.contract.rows import Row, TextRow, TokensRow
from forebay.gateway.versions import Serving
from forebay.lanes.keys import Keys
from forebay.runtime.settings import Settings
from tests.fixtures.answering import DIMENSIONS, answering, vector_of
from tests.fixtures.gateway import Gateway, running_gateway
from tests.fixtures.lanes import rows_on_lanes
from tests.fixtures.waiting import PATIENCE_S


@pytest.fixture
async def gateway(redis_url: str, key_prefix: str) -> AsyncIterator[Gateway]:
    settings = Settings(redis_url=redis_url, key_prefix=key_prefix, max_body_bytes=1_000_000)
    async with running_gateway(settings) as running:
        yield running


@pytest.fixture
async def client(gateway: Gateway) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(
        base_url=f"{gateway.url}/v1", api_key="none", max_retries=0, timeout=PATIENCE_S
    ) as client:
        yield client


@pytest.fixture
async def minilm(redis_url: str, keys: Keys) -> AsyncIterator[None]:
    async with answering(redis_url, keys, "minilm"):
        yield


class Versions:
    """Says how long embeddings are."""

    def serving(self, spec: ModelSpec) -> Serving | None:
        return Serving("0" * 64, DIMENSIONS)


def floats(row: Row) -> list[float]:
    return list(struct.unpack(f"<{DIMENSIONS}f", vector_of(row)))


async def test_one_text(client: openai.AsyncOpenAI, minilm: None) -> None:
    told = await client.embeddings.create(model="minilm", input="hello big world")
    assert told.object == "list"
    assert told.model == "minilm"
    assert [item.index for item in told.data] == [0]
    assert told.data[0].embedding == floats(TextRow("hello big world"))
    assert (told.usage.prompt_tokens, told.usage.total_tokens) == (5, 5)


async def test_several_texts_keep_their_order(client: openai.AsyncOpenAI, minilm: None) -> None:
    texts = [f"text number {number}" for number in range(40)]
    told = await client.embeddings.create(model="minilm", input=texts)
    assert [item.embedding for item in told.data] == [floats(TextRow(text)) for text in texts]
    assert [item.index for item in told.data] == list(range(40))
    assert told.usage.total_tokens == 5 * 40


async def test_as_many_texts_as_are_allowed_go_in_one_request(
    client: openai.AsyncOpenAI, minilm: None
) -> None:
    texts = [str(number) for number in range(2_048)]
    told = await client.embeddings.create(model="minilm", input=texts)
    assert [item.embedding for item in told.data] == [floats(TextRow(text)) for text in texts]


async def test_one_text_as_tokens(client: openai.AsyncOpenAI, minilm: None) -> None:
    told = await client.embeddings.create(model="minilm", input=[101, 7592, 102])
    assert [item.embedding for item in told.data] == [floats(TokensRow((101, 7592, 102)))]
    assert told.usage.prompt_tokens == 3


async def test_several_texts_as_tokens(client: openai.AsyncOpenAI, minilm: None) -> None:
    told = await client.embeddings.create(model="minilm", input=[[101, 102], [101, 7592, 102]])
    assert [item.embedding for item in told.data] == [
        floats(TokensRow((101, 102))),
        floats(TokensRow((101, 7592, 102))),
    ]


async def test_numbers_and_base64_are_the_same_vector(
    client: openai.AsyncOpenAI, minilm: None
) -> None:
    numbers = await client.embeddings.create(model="minilm", input="a", encoding_format="float")
    encoded = await client.embeddings.create(model="minilm", input="a", encoding_format="base64")
    text: Any = encoded.data[0].embedding
    assert base64.b64decode(text) == vector_of(TextRow("a"))
    assert numbers.data[0].embedding == floats(TextRow("a"))


async def test_the_client_that_blocks_works_as_well(gateway: Gateway, minilm: None) -> None:
    def ask() -> list[float]:
        with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="none") as client:
            return client.embeddings.create(model="minilm", input="a").data[0].embedding

    assert await asyncio.to_thread(ask) == floats(TextRow("a"))


async def test_the_models_own_dimensions_and_a_user_may_be_named(
    client: openai.AsyncOpenAI, minilm: None
) -> None:
    told = await client.embeddings.create(
        model="minilm", input="a", dimensions=DIMENSIONS, user="someone"
    )
    assert len(told.data[0].embedding) == DIMENSIONS


async def test_every_answer_has_a_request_id_and_tells_where_its_time_went(
    client: openai.AsyncOpenAI, minilm: None
) -> None:
    raw = await client.embeddings.with_raw_response.create(model="minilm", input="a")
    assert raw.headers["x-request-id"].startswith("req_")
    assert raw.headers["server-timing"] == "queue;dur=1.00, batch;dur=2.00, compute;dur=3.00"


async def test_models_are_listed_and_shown(client: openai.AsyncOpenAI) -> None:
    models = await client.models.list()
    assert [model.id for model in models.data] == ["echo", "hasty", "minilm", "narrow"]
    model = await client.models.retrieve("minilm")
    assert (model.id, model.object, model.owned_by) == ("minilm", "model", "forebay")
    assert model.created > 0


async def test_a_model_that_is_not_there_is_not_found(client: openai.AsyncOpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        await client.models.retrieve("nothing")
    assert caught.value.code == "model_not_found"


TEXT = "a"


@pytest.mark.parametrize(
    ("arguments", "status", "param", "code"),
    [
        ({"model": "nothing", "input": TEXT}, 404, "model", "model_not_found"),
        ({"model": "echo", "input": TEXT}, 400, "model", "invalid_input"),
        ({"input": ""}, 400, "input", "invalid_input"),
        ({"input": []}, 400, "input", "invalid_input"),
        ({"input": ["a", ""]}, 400, "input[1]", "invalid_input"),
        ({"input": [[]]}, 400, "input[0]", "invalid_input"),
        ({"input": ["a"] * 2_049}, 400, "input", "invalid_input"),
        ({"input": {"text": "a"}}, 400, "input", "invalid_input"),
        ({"input": [True]}, 400, "input[0]", "invalid_input"),
        ({"input": ["a", 1]}, 400, "input", "invalid_input"),
        ({"input": TEXT, "dimensions": 0}, 400, "dimensions", "invalid_input"),
        ({"input": TEXT, "extra_body": {"temperature": 1}}, 400, "temperature", "invalid_input"),
        ({"input": TEXT, "encoding_format": "hex"}, 400, "encoding_format", "invalid_input"),
    ],
)
async def test_bad_input_is_refused_by_name_and_nothing_is_enqueued(
    client: openai.AsyncOpenAI,
    redis_url: str,
    keys: Keys,
    arguments: dict[str, Any],
    status: int,
    param: str,
    code: str,
) -> None:
    with pytest.raises(openai.APIStatusError) as caught:
        await client.embeddings.create(**{"model": "minilm", **arguments})
    assert caught.value.status_code == status
    assert (caught.value.param, caught.value.code) == (param, code)
    assert caught.value.type == "invalid_request_error"
    assert caught.value.request_id
    assert await rows_on_lanes(redis_url, keys, "minilm") == 0


async def test_other_dimensions_than_the_models_own_are_refused(
    client: openai.AsyncOpenAI, minilm: None
) -> None:
    with pytest.raises(openai.BadRequestError, match="makes 8 dimensions") as caught:
        await client.embeddings.create(model="minilm", input="a", dimensions=4)
    assert caught.value.param == "dimensions"


async def test_dimensions_that_are_known_to_be_others_are_refused_before_anything_runs(
    redis_url: str, key_prefix: str, keys: Keys
) -> None:
    settings = Settings(redis_url=redis_url, key_prefix=key_prefix)
    # No worker is there: what is enqueued would wait.
    async with (
        running_gateway(settings, versions=Versions()) as gateway,
        openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key="none", max_retries=0) as client,
    ):
        with pytest.raises(openai.BadRequestError, match="makes 8 dimensions") as caught:
            await client.embeddings.create(model="minilm", input="a", dimensions=4)
        assert caught.value.param == "dimensions"
        assert await rows_on_lanes(redis_url, keys, "minilm") == 0
        async with answering(redis_url, keys, "minilm"):
            told = await client.embeddings.create(model="minilm", input="a", dimensions=DIMENSIONS)
        assert len(told.data[0].embedding) == DIMENSIONS


async def test_a_text_over_the_models_limit_is_named_by_its_index(
    client: openai.AsyncOpenAI, minilm: None
) -> None:
    with pytest.raises(openai.BadRequestError, match="too long") as caught:
        await client.embeddings.create(model="minilm", input=["short", "much too long " * 20])
    assert (caught.value.param, caught.value.code) == ("input[1]", "context_length_exceeded")


async def test_a_text_over_the_models_limit_is_cut_if_asked(
    client: openai.AsyncOpenAI, minilm: None
) -> None:
    told = await client.embeddings.create(
        model="minilm", input="much too long " * 20, extra_body={"truncate": True}
    )
    assert len(told.data) == 1


async def test_a_body_over_the_bound_is_refused_whether_or_not_its_length_is_announced(
    client: openai.AsyncOpenAI, gateway: Gateway
) -> None:
    with pytest.raises(openai.APIStatusError) as caught:
        await client.embeddings.create(model="minilm", input="x" * 1_100_000)
    assert caught.value.status_code == 413

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(110):
            yield b"x" * 10_000

    async with httpx.AsyncClient(base_url=gateway.url, timeout=PATIENCE_S) as plain:
        answer = await plain.post("/v1/embeddings", content=chunks())
        assert answer.status_code == 413
        assert answer.json()["error"]["type"] == "invalid_request_error"
        assert (await plain.get("/health/live")).status_code == 200


@pytest.mark.parametrize(
    "body", [b"", b"{", b"nonsense", b'{"model": "\xff"}', b"[" * 100_000, b'{"a":' * 100_000]
)
async def test_a_body_that_is_not_json_is_a_400(gateway: Gateway, body: bytes) -> None:
    async with httpx.AsyncClient(base_url=gateway.url, timeout=PATIENCE_S) as plain:
        answer = await plain.post("/v1/embeddings", content=body)
    assert answer.status_code == 400
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/embeddings", 405),
        ("POST", "/v1/models", 405),
        ("DELETE", "/v1/models/minilm", 405),
        ("POST", "/v1/audio/speech", 404),
        ("GET", "/v1/models/", 404),
    ],
)
async def test_paths_and_methods_that_are_not_there_are_errors_of_this_dialect(
    gateway: Gateway, method: str, path: str, status: int
) -> None:
    async with httpx.AsyncClient(base_url=gateway.url, timeout=PATIENCE_S) as plain:
        answer = await plain.request(method, path)
    assert answer.status_code == status
    assert answer.json()["error"]["type"] == "invalid_request_error"
    assert answer.headers["x-request-id"]
    if status == 405:
        assert answer.headers["allow"]
