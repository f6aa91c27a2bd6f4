"""The unmodified `cohere` client against a real gateway and real lanes."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import cohere
import httpx
import pytest
from cohere.core.api_error import ApiError

from forebay.contract.model import BackendName, ModelSpec
from forebay.contract.rows import Task
from forebay.lanes.keys import Keys
from forebay.runtime.catalog import Catalog
from forebay.runtime.settings import Settings
from tests.fixtures.answering import answering, relevance
from tests.fixtures.gateway import Gateway, running_gateway
from tests.fixtures.lanes import rows_on_lanes
from tests.fixtures.waiting import PATIENCE_S


def spec(name: str, task: Task) -> ModelSpec:
    return ModelSpec(task, BackendName.ONNX, source="package:none", name=name)


MODELS = Catalog(
    {
        "ranker": spec("ranker", Task.RERANKING),
        "minilm": spec("minilm", Task.EMBEDDING),
        "moderator": spec("moderator", Task.CLASSIFICATION),
    }
)
QUERY = "where does the river run"
DOCUMENTS = [
    "a lake",
    "the river does run",
    "does the lake run",
    "the lake",
    "where does the river run to",
]
ORDER = [4, 1, 2, 3, 0]


@pytest.fixture
async def gateway(redis_url: str, key_prefix: str) -> AsyncIterator[Gateway]:
    settings = Settings(redis_url=redis_url, key_prefix=key_prefix)
    async with running_gateway(settings, catalog=MODELS) as running:
        yield running


@pytest.fixture
def executor() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as executor:
        yield executor


@pytest.fixture
async def client(
    gateway: Gateway, executor: ThreadPoolExecutor
) -> AsyncIterator[cohere.AsyncClientV2]:
    async with cohere.AsyncClientV2(
        api_key="none",
        base_url=gateway.url,
        timeout=PATIENCE_S,
        max_retries=0,
        thread_pool_executor=executor,
    ) as client:
        yield client


@pytest.fixture
async def plain(gateway: Gateway) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=gateway.url, timeout=PATIENCE_S) as client:
        yield client


@pytest.fixture
async def ranker(redis_url: str, keys: Keys) -> AsyncIterator[None]:
    async with answering(redis_url, keys, "ranker"):
        yield


async def test_documents_come_the_best_first_and_the_earlier_of_two_as_good(
    client: cohere.AsyncClientV2, ranker: None
) -> None:
    told = await client.rerank(model="ranker", query=QUERY, documents=[*DOCUMENTS, *DOCUMENTS])
    assert [one.index for one in told.results] == [
        index for best in ORDER for index in (best, best + len(DOCUMENTS))
    ]
    for one in told.results:
        expected = relevance(QUERY, DOCUMENTS[one.index % len(DOCUMENTS)])
        assert one.relevance_score == pytest.approx(expected, abs=1e-7)
    assert told.id
    assert told.id.startswith("req_")
    assert told.meta is not None
    assert told.meta.tokens is not None
    assert told.meta.tokens.input_tokens == 2 * sum(len(d.split()) + 8 for d in DOCUMENTS)


async def test_only_the_best_are_told_where_that_is_asked(
    client: cohere.AsyncClientV2, ranker: None
) -> None:
    told = await client.rerank(model="ranker", query=QUERY, documents=DOCUMENTS, top_n=2)
    assert [one.index for one in told.results] == ORDER[:2]
    told = await client.rerank(model="ranker", query=QUERY, documents=DOCUMENTS, top_n=100)
    assert [one.index for one in told.results] == ORDER


async def test_as_many_documents_as_are_allowed_go_in_one_request(
    client: cohere.AsyncClientV2, ranker: None
) -> None:
    documents = ["a lake"] * 2_047 + [QUERY]
    told = await client.rerank(model="ranker", query=QUERY, documents=documents)
    assert [one.index for one in told.results] == [2_047, *range(2_047)]


async def test_the_client_of_the_first_version_gets_its_documents_back(
    gateway: Gateway, executor: ThreadPoolExecutor, ranker: None
) -> None:
    def ask() -> Any:
        with cohere.Client(
            api_key="none", base_url=gateway.url, thread_pool_executor=executor
        ) as client:
            return client.rerank(
                model="ranker",
                query=QUERY,
                documents=[{"text": DOCUMENTS[0]}, DOCUMENTS[1]],
                return_documents=True,
            )

    told = await asyncio.to_thread(ask)
    assert [(one.index, one.document.text) for one in told.results] == [
        (1, DOCUMENTS[1]),
        (0, DOCUMENTS[0]),
    ]


@pytest.mark.parametrize("path", ["/v1/rerank", "/v2/rerank", "/rerank"])
async def test_each_path_answers_in_one_shape(
    plain: httpx.AsyncClient, ranker: None, path: str
) -> None:
    body = {"model": "ranker", "query": "a lake", "documents": [{"text": "river"}, "a lake"]}
    answer = await plain.post(path, json=body)
    assert answer.status_code == 200
    assert answer.headers["server-timing"]
    assert answer.json() == {
        "id": answer.headers["x-request-id"],
        "model": "ranker",
        "results": [{"index": 1, "relevance_score": 1.0}, {"index": 0, "relevance_score": 0.0}],
        "usage": {"total_tokens": 13},
        "meta": {"tokens": {"input_tokens": 13}},
        "object": "list",
    }


@pytest.mark.parametrize(
    ("arguments", "status", "param"),
    [
        ({"model": "nothing"}, 404, "model"),
        ({"model": "minilm"}, 400, "model"),
        ({"model": "moderator"}, 400, "model"),
        ({"query": ""}, 400, "query"),
        ({"query": ["a"]}, 400, "query"),
        ({"query": "x" * 2_000_000, "documents": ["a"] * 6}, 400, "query"),
        ({"documents": []}, 400, "documents"),
        ({"documents": "a"}, 400, "documents"),
        ({"documents": ["a", ""]}, 400, "documents[1]"),
        ({"documents": ["a", {"text": ""}]}, 400, "documents[1]"),
        ({"documents": ["a", {}]}, 400, "documents[1].text"),
        ({"documents": [{"text": "a", "title": "b"}]}, 400, "documents[0].title"),
        ({"documents": ["a", None]}, 400, "documents[1]"),
        ({"documents": ["a"] * 2_049}, 400, "documents"),
        ({"top_n": 0}, 400, "top_n"),
        ({"top_n": "1"}, 400, "top_n"),
        ({"max_tokens_per_doc": 512}, 400, "max_tokens_per_doc"),
        ({"max_chunks_per_doc": 1}, 400, "max_chunks_per_doc"),
        ({"rank_fields": ["text"]}, 400, "rank_fields"),
        ({"return_documents": "yes"}, 400, "return_documents"),
        ({"truncate": "END"}, 400, "truncate"),
    ],
)
async def test_bad_input_is_refused_by_name_and_nothing_is_enqueued(
    plain: httpx.AsyncClient,
    redis_url: str,
    keys: Keys,
    arguments: dict[str, Any],
    status: int,
    param: str,
) -> None:
    body = {"model": "ranker", "query": QUERY, "documents": ["a"], **arguments}
    answer = await plain.post("/v1/rerank", json=body)
    assert answer.status_code == status
    told = answer.json()
    assert set(told) == {"id", "message", "param", "code"}
    assert told["param"] == param
    assert await rows_on_lanes(redis_url, keys, "ranker") == 0


@pytest.mark.parametrize("missing", ["model", "query", "documents"])
async def test_what_must_be_there_is_named(plain: httpx.AsyncClient, missing: str) -> None:
    body = {"model": "ranker", "query": QUERY, "documents": ["a"]}
    del body[missing]
    answer = await plain.post("/v1/rerank", json=body)
    assert (answer.status_code, answer.json()["param"]) == (400, missing)


async def test_a_model_of_another_task_is_refused_with_those_that_can(
    client: cohere.AsyncClientV2,
) -> None:
    with pytest.raises(cohere.BadRequestError) as caught:
        await client.rerank(model="minilm", query=QUERY, documents=DOCUMENTS)
    assert "task is 'embedding'" in caught.value.body["message"]
    assert "'reranking': 'ranker'." in caught.value.body["message"]


async def test_a_model_that_is_not_there_is_not_found(client: cohere.AsyncClientV2) -> None:
    with pytest.raises(cohere.NotFoundError) as caught:
        await client.rerank(model="nothing", query=QUERY, documents=DOCUMENTS)
    assert caught.value.body["code"] == "not_found"


async def test_a_document_over_the_models_limit_is_named_unless_it_may_be_cut(
    client: cohere.AsyncClientV2, plain: httpx.AsyncClient, ranker: None
) -> None:
    documents = ["a lake", "much too long " * 20]
    with pytest.raises(cohere.BadRequestError) as caught:
        await client.rerank(model="ranker", query=QUERY, documents=documents)
    assert caught.value.body["param"] == "documents[1]"
    assert caught.value.body["code"] == "too_long"
    body = {"model": "ranker", "query": QUERY, "documents": documents, "truncate": True}
    assert (await plain.post("/v1/rerank", json=body)).status_code == 200


async def test_null_is_as_good_as_nothing(plain: httpx.AsyncClient, ranker: None) -> None:
    body = {"model": "ranker", "query": QUERY, "documents": ["a"], "top_n": None}
    body |= {"return_documents": None, "max_tokens_per_doc": None, "max_chunks_per_doc": None}
    assert (await plain.post("/v1/rerank", json=body)).status_code == 200


async def test_the_very_same_request_with_a_key_is_answered_once(
    plain: httpx.AsyncClient, redis_url: str, keys: Keys
) -> None:
    body = {"model": "ranker", "query": QUERY, "documents": DOCUMENTS}
    key = {"Idempotency-Key": "a-key"}
    async with answering(redis_url, keys, "ranker") as delivered:
        first = await plain.post("/v1/rerank", json=body, headers=key)
        again = await plain.post("/v1/rerank", json=body, headers=key)
    assert first.json()["results"] == again.json()["results"]
    assert len(delivered) == 1


async def test_another_method_is_an_error_of_this_dialect(plain: httpx.AsyncClient) -> None:
    answer = await plain.get("/v2/rerank")
    assert answer.status_code == 405
    assert answer.headers["allow"] == "POST"
    assert answer.json()["message"]


async def test_a_body_that_is_not_json_is_an_error_of_this_dialect(
    client: cohere.AsyncClientV2, plain: httpx.AsyncClient
) -> None:
    answer = await plain.post("/v1/rerank", content=b"{")
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_input")
    with pytest.raises(ApiError):
        await client.rerank(model="", query="", documents=[])
