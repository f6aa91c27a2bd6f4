"""The usage examples of OpenAI's client, from its README, with our model's name.

The code of the examples is theirs; what is asserted is ours. Left out are those of what Forebay is
not: other providers' credentials, pictures and sounds, and the Realtime API.
"""

import json
from collections.abc import AsyncIterator

import httpx2
import openai
import pytest
from openai import AsyncOpenAI, DefaultHttpx2Client, OpenAI

from forebay.contract.model import BackendName, LaneLimits, ModelSpec
from forebay.contract.rows import Task
from forebay.lanes.keys import Keys
from forebay.runtime.catalog import Catalog
from tests.fixtures.gateway import Gateway
from tests.fixtures.generating import PARROT, generating
from tests.fixtures.lanes import fill_lane
from tests.fixtures.replicating import aside

TEST = "Say this is a test"
PIRATE = "How do I check if a Python object is an instance of a class?"
STORY = "Write a one-sentence bedtime story about a unicorn."


@pytest.fixture
def catalog() -> Catalog:
    narrow = ModelSpec(
        Task.EMBEDDING,
        BackendName.ONNX,
        source="package:none",
        name="narrow",
        realtime=LaneLimits(max_rows=2),
    )
    return Catalog({**PARROT.models, "narrow": narrow})


@pytest.fixture(autouse=True)
def environment(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a user sets, so that the examples need not say it."""
    monkeypatch.setenv("OPENAI_BASE_URL", f"{gateway.url}/v1")
    monkeypatch.setenv("OPENAI_API_KEY", "My API Key")


@pytest.fixture
async def worker(redis_url: str, keys: Keys) -> AsyncIterator[None]:
    async with generating(redis_url, keys):
        yield


async def test_usage(worker: None, capsys: pytest.CaptureFixture[str]) -> None:
    def responses() -> None:
        with OpenAI() as client:
            response = client.responses.create(
                model="parrot",
                instructions="You are a coding assistant that talks like a pirate.",
                input="How do I check if a Python object is an instance of a class?",
            )

            print(response.output_text)

    await aside(responses)
    assert capsys.readouterr().out == f"{PIRATE}\n"

    def chat() -> None:
        with OpenAI() as client:
            completion = client.chat.completions.create(
                model="parrot",
                messages=[
                    {"role": "developer", "content": "Talk like a pirate."},
                    {
                        "role": "user",
                        "content": "How do I check if a Python object is an instance of a class?",
                    },
                ],
            )

            print(completion.choices[0].message.content)
            told = json.loads(completion.to_json())
            assert told == completion.to_dict()

    await aside(chat)
    assert capsys.readouterr().out == f"{PIRATE}\n"


async def test_async_usage_and_request_ids(worker: None) -> None:
    async with AsyncOpenAI() as client:
        response = await client.responses.create(model="parrot", input=TEST)
        assert response.output_text == TEST
        assert (response._request_id or "").startswith("req_")
        completion = await client.chat.completions.create(
            messages=[{"role": "user", "content": "Say this is a test"}], model="parrot"
        )
        assert completion.choices[0].message.content == TEST
        assert completion._request_id != response._request_id
        if completion.service_tier is None:
            assert "service_tier" not in completion.model_fields_set


async def test_streaming_responses(worker: None) -> None:
    def example() -> str:
        with OpenAI() as client:
            stream = client.responses.create(
                model="parrot",
                input="Write a one-sentence bedtime story about a unicorn.",
                stream=True,
            )

            return "".join(
                event.delta for event in stream if event.type == "response.output_text.delta"
            )

    assert await aside(example) == STORY
    async with AsyncOpenAI() as client:
        stream = await client.responses.create(model="parrot", input=STORY, stream=True)
        types = [event.type async for event in stream]
    assert (types[0], types[-1]) == ("response.created", "response.completed")


async def test_raw_and_streaming_responses(worker: None) -> None:
    def raw() -> None:
        with OpenAI() as client:
            response = client.chat.completions.with_raw_response.create(
                messages=[
                    {
                        "role": "user",
                        "content": "Say this is a test",
                    }
                ],
                model="parrot",
            )
            assert response.headers.get("x-request-id")

            completion = (
                response.parse()
            )  # get the object that `chat.completions.create()` would have returned
            assert completion.choices[0].message.content == TEST

    await aside(raw)

    def lines() -> None:
        with (
            OpenAI() as client,
            client.chat.completions.with_streaming_response.create(
                messages=[
                    {
                        "role": "user",
                        "content": "Say this is a test",
                    }
                ],
                model="parrot",
            ) as response,
        ):
            assert response.headers.get("server-timing")

            (line,) = response.iter_lines()
            assert json.loads(line)["choices"][0]["message"]["content"] == TEST

    await aside(lines)


async def test_pagination() -> None:
    def example() -> list[str]:
        with OpenAI() as client:
            # Automatically fetches more pages as needed.
            return [model.id for model in client.models.list()]

    assert await aside(example) == ["narrow", "parrot"]
    async with AsyncOpenAI() as client:
        first_page = await client.models.list()
        assert not first_page.has_next_page()
        assert [model.id for model in first_page.data] == ["narrow", "parrot"]
        assert [model.id async for model in client.models.list()] == ["narrow", "parrot"]


async def test_handling_errors(
    redis_url: str, keys: Keys, capsys: pytest.CaptureFixture[str]
) -> None:
    def example(url: str | None = None) -> None:
        with OpenAI(base_url=url, max_retries=0) as client:
            try:
                client.fine_tuning.jobs.create(
                    model="gpt-4o",
                    training_file="file-abc123",
                )
            except openai.APIConnectionError as e:
                print("The server could not be reached")
                print(e.__cause__)  # an underlying Exception, likely raised within HTTPX2.
            except openai.RateLimitError:
                print("A 429 status code was received; we should back off a bit.")
            except openai.APIStatusError as e:
                print("Another non-200-range status code was received")
                print(e.status_code)
                print(e.response)

    await aside(example)
    assert capsys.readouterr().out.splitlines()[:2] == [
        "Another non-200-range status code was received",
        "404",
    ]
    await aside(lambda: example("http://127.0.0.1:1/v1"))
    assert capsys.readouterr().out.startswith("The server could not be reached\n")

    await fill_lane(redis_url, keys, "narrow", 2)
    async with AsyncOpenAI(max_retries=0) as client:
        with pytest.raises(openai.RateLimitError) as full:
            await client.embeddings.create(model="narrow", input="a")
        assert full.value.response.headers["retry-after"]
        assert (full.value.request_id or "").startswith("req_")
        with pytest.raises(openai.NotFoundError):
            await client.responses.create(model="gpt-5.5", input=TEST)
        with pytest.raises(openai.BadRequestError) as wrong:
            await client.embeddings.create(model="parrot", input="a")
        assert wrong.value.param == "model"


async def test_retries_and_timeouts(redis_url: str, keys: Keys) -> None:
    def impatient() -> None:
        with OpenAI(timeout=httpx2.Timeout(60.0, read=5.0, write=10.0, connect=2.0)) as client:
            client.with_options(timeout=0.2, max_retries=0).chat.completions.create(
                messages=[
                    {
                        "role": "user",
                        "content": "How can I list all files in a directory using Python?",
                    }
                ],
                model="parrot",
            )

    with pytest.raises(openai.APITimeoutError):  # nobody works for it yet
        await aside(impatient)

    def patient() -> str | None:
        with OpenAI(max_retries=0) as client:
            # Or, configure per-request:
            completion = client.with_options(max_retries=5).chat.completions.create(
                messages=[
                    {
                        "role": "user",
                        "content": "How can I get the name of the current day in JavaScript?",
                    }
                ],
                model="parrot",
            )
            return completion.choices[0].message.content

    async with generating(redis_url, keys):
        said = await aside(patient)
    assert said == "How can I get the name of the current day in JavaScript?"


async def test_requests_that_the_client_has_no_method_for(gateway: Gateway, worker: None) -> None:
    def example() -> httpx2.Response:
        with OpenAI(
            # Or use the `OPENAI_BASE_URL` env var
            base_url=f"{gateway.url}/v1",
            http_client=DefaultHttpx2Client(
                transport=httpx2.HTTPTransport(local_address="127.0.0.1")
            ),
        ) as client:
            return client.post(
                "/predictions",
                cast_to=httpx2.Response,
                body={"version": "parrot", "input": {"prompt": TEST}},
                options={"headers": {"Prefer": "wait"}},
            )

    response = await aside(example)
    assert response.headers.get("x-request-id")
    assert response.json()["output"] == TEST

    async with AsyncOpenAI() as client:
        cut = await client.chat.completions.create(
            model="parrot",
            messages=[{"role": "user", "content": TEST}],
            extra_body={"max_tokens": 2},
            extra_headers={"Idempotency-Key": "once"},
        )
    assert cut.choices[0].message.content == "Say this"
