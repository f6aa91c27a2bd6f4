"""OpenAI's batches, by the unmodified `openai` client, against a real gateway and background."""

import contextlib
import io
import re
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import openai
import pytest
from openai.types import Batch

from forebay.lanes.keys import Keys
from forebay.runtime.settings import Settings
from tests.fixtures.answering import TOO_LONG_WORDS, answering
from tests.fixtures.batching import batches_running, embedding, jsonl, line, read_jsonl
from tests.fixtures.waiting import eventually

ENDED = {"completed", "failed", "expired", "cancelled"}


@pytest.fixture
def settings(redis_url: str, key_prefix: str, tmp_path: Path) -> Settings:
    return Settings(redis_url=redis_url, key_prefix=key_prefix, home=str(tmp_path))


@pytest.fixture
async def background(settings: Settings) -> AsyncIterator[None]:
    async with batches_running(settings):
        yield


async def made(client: openai.AsyncOpenAI, content: bytes, **more: object) -> Batch:
    """A batch of a file that is sent."""
    file = await client.files.create(file=("lines.jsonl", content), purpose="batch")
    asked = {"endpoint": "/v1/embeddings", "completion_window": "24h", **more}
    return await client.batches.create(input_file_id=file.id, **asked)  # type: ignore[arg-type]


async def ended(client: openai.AsyncOpenAI, batch: Batch) -> Batch:
    """The batch, once it has ended."""

    async def ended() -> Batch | None:
        found = await client.batches.retrieve(batch.id)
        return found if found.status in ENDED else None

    return await eventually(ended, what="the batch has ended")


@pytest.mark.usefixtures("background")
async def test_openais_own_example_of_a_batch(
    client: openai.AsyncOpenAI, redis_url: str, keys: Keys
) -> None:
    requests = io.BytesIO(
        jsonl(
            [
                embedding("request-1", "Hello world!"),
                embedding("request-2", "word " * 2 * TOO_LONG_WORDS),
                line("request-3", {"model": "nowhere", "input": "x"}),
                embedding("request-4", "Hello again!", encoding_format="base64"),
            ]
        )
    )
    requests.name = "batchinput.jsonl"
    input_file = await client.files.create(file=requests, purpose="batch")
    batch = await client.batches.create(
        input_file_id=input_file.id,
        endpoint="/v1/embeddings",
        completion_window="24h",
        metadata={"description": "nightly eval job"},
    )
    assert (batch.object, batch.status, batch.endpoint) == ("batch", "validating", "/v1/embeddings")
    assert batch.metadata == {"description": "nightly eval job"}
    assert batch.expires_at == batch.created_at + 86_400
    async with answering(redis_url, keys, "minilm"):
        done = await ended(client, batch)
    assert done.status == "completed", done
    assert done.request_counts is not None
    assert done.request_counts.to_dict() == {"total": 4, "completed": 2, "failed": 2}
    assert done.usage is not None
    assert done.usage.to_dict() == {
        "input_tokens": 8,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": 0,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 8,
    }
    assert None not in (done.in_progress_at, done.finalizing_at, done.completed_at)
    assert done.output_file_id is not None
    assert done.error_file_id is not None

    output = {
        one["custom_id"]: one
        for one in read_jsonl((await client.files.content(done.output_file_id)).read())
    }
    assert output.keys() == {"request-1", "request-4"}
    answer = output["request-1"]
    assert answer["id"].startswith("batch_req_")
    assert answer["error"] is None
    assert answer["response"]["status_code"] == 200
    assert answer["response"]["request_id"].startswith("req_")
    assert answer["response"]["body"]["data"][0]["object"] == "embedding"
    assert isinstance(output["request-4"]["response"]["body"]["data"][0]["embedding"], str)

    errors = {
        one["custom_id"]: one["response"]
        for one in read_jsonl((await client.files.content(done.error_file_id)).read())
    }
    assert errors["request-2"]["status_code"] == 400
    assert errors["request-2"]["body"]["error"]["code"] == "context_length_exceeded"
    assert errors["request-3"]["status_code"] == 404
    assert errors["request-3"]["body"]["error"]["code"] == "model_not_found"
    file = await client.files.retrieve(done.output_file_id)
    assert (file.purpose, file.filename) == ("batch_output", f"{batch.id}_output.jsonl")


@pytest.mark.usefixtures("background")
async def test_a_file_at_fault_fails_its_batch_and_says_where(client: openai.AsyncOpenAI) -> None:
    good = jsonl([embedding("a", "one")])
    failed = await ended(client, await made(client, good + b"{'a'}\n" + good))
    assert failed.status == "failed"
    assert failed.failed_at is not None
    assert failed.errors is not None
    assert failed.errors.data is not None
    assert [(one.code, one.line, one.param) for one in failed.errors.data] == [
        ("invalid_json_line", 2, None),
        ("duplicate_custom_id", 3, "custom_id"),
    ]


async def test_batches_are_listed_by_pages_and_cancelled(
    client: openai.AsyncOpenAI, settings: Settings
) -> None:
    content = jsonl([embedding("a", "one")])
    batches = [await made(client, content) for _ in range(5)]
    listed = [batch async for batch in client.batches.list(limit=2)]
    assert [batch.id for batch in listed] == sorted((one.id for one in batches), reverse=True)
    page = await client.batches.list(limit=5)
    assert (len(page.data), page.has_more) == (5, False)

    one = await client.batches.cancel(batches[0].id)
    assert (one.status, (await client.batches.cancel(one.id)).status) == ("cancelling",) * 2
    async with batches_running(settings):
        over = await ended(client, one)
    assert over.status == "cancelled"
    assert None not in (over.cancelling_at, over.cancelled_at)
    assert (over.output_file_id, over.error_file_id) == (None, None)
    with pytest.raises(openai.BadRequestError, match="is cancelled can't be cancelled"):
        await client.batches.cancel(one.id)


async def test_the_file_of_a_batch_stays_until_that_has_ended(
    client: openai.AsyncOpenAI, settings: Settings
) -> None:
    batch = await made(client, b"\n")
    with pytest.raises(openai.BadRequestError, match=batch.id):
        await client.files.delete(batch.input_file_id)
    async with batches_running(settings):
        await ended(client, batch)

        async def deleted() -> bool:
            with contextlib.suppress(openai.BadRequestError):
                return (await client.files.delete(batch.input_file_id)).deleted
            return False

        await eventually(deleted, what="the file is let go")


@pytest.mark.parametrize(
    ("asked", "param", "says"),
    [
        ({"endpoint": "/v1/nowhere"}, "endpoint", "one of /v1/chat/completions"),
        ({"endpoint": "/v1/batches"}, "endpoint", "one of /v1/chat/completions"),
        ({"completion_window": "5m"}, "completion_window", "24h is usual"),
        ({"metadata": {"a": "x" * 513}}, "metadata", "512"),
        ({"metadata": {str(number): "" for number in range(17)}}, "metadata", "16"),
        ({"output_expires_after": {"anchor": "created_at", "seconds": 1}},
         "output_expires_after.seconds", "3600"),
    ],
)  # fmt: skip
async def test_a_batch_that_can_not_be_is_refused_and_says_why(
    client: openai.AsyncOpenAI, asked: dict[str, object], param: str, says: str
) -> None:
    with pytest.raises(openai.BadRequestError, match=re.escape(says)) as refused:
        await made(client, b"{}", **asked)
    assert refused.value.param == param


async def test_a_batch_needs_a_file_for_batches(client: openai.AsyncOpenAI) -> None:
    other = await client.files.create(file=("a.txt", b"text"), purpose="user_data")
    asked = {"endpoint": "/v1/embeddings", "completion_window": "24h"}
    with pytest.raises(openai.BadRequestError, match="with the purpose 'batch'"):
        await client.batches.create(input_file_id=other.id, **asked)  # type: ignore[arg-type]
    await client.files.delete(other.id)  # nobody holds it
    for missing in (other.id, "file-nobody"):
        with pytest.raises(openai.NotFoundError, match="There is no file") as refused:
            await client.batches.create(input_file_id=missing, **asked)  # type: ignore[arg-type]
        assert refused.value.param == "input_file_id"
    with pytest.raises(openai.NotFoundError, match="There is no batch 'batch_nobody'"):
        await client.batches.retrieve("batch_nobody")
    with pytest.raises(openai.NotFoundError, match="There is no batch"):
        await client.batches.cancel(f"batch_{'0' * 32}")


async def test_a_list_is_asked_for_rightly(web: httpx.AsyncClient) -> None:
    assert (await web.get("/v1/batches")).json()["data"] == []
    for limit in ("0", "101", "many", "-1"):
        answer = await web.get("/v1/batches", params={"limit": limit})
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "limit")
    answer = await web.get("/v1/batches", params={"status": "completed"})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "status")
    assert "it takes after, limit" in answer.json()["error"]["message"]
