"""Gateways that ask for API keys, as their clients meet them: who is let in, to what, how often."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import httpx
import msgspec
import openai
import pytest
import replicate
import replicate.client
import replicate.exceptions
import tritonclient.grpc.aio as triton_grpc
import tritonclient.http.aio as triton_http
from redis.asyncio import Redis
from tritonclient.utils import InferenceServerException

from forebay.contract.prediction import Lane
from forebay.gateway.access import keyring
from forebay.gateway.access.keyring import Keyring
from forebay.gateway.reads import Reads
from forebay.lanes.keys import Keys
from forebay.local.server import free_port
from forebay.records.api_keys import ApiKey, ApiKeys, Limits, Scopes
from forebay.runtime.clock import Clock
from forebay.runtime.redis import Link, connect
from forebay.runtime.settings import Auth, Settings
from tests.fixtures.answering import answering
from tests.fixtures.gateway import MODELS, Gateway, running_gateway
from tests.fixtures.servers import TIMEOUT_S
from tests.fixtures.waiting import PATIENCE_S, eventually

BODY = {"version": "echo", "input": {"value": 1}}
WAIT = {"Prefer": "wait"}


@pytest.fixture
def settings(redis_url: str, key_prefix: str, tmp_path: Path) -> Settings:
    return Settings(redis_url=redis_url, key_prefix=key_prefix, auth=Auth.KEYS, home=str(tmp_path))


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    client = connect(redis_url, timeout_s=TIMEOUT_S)
    yield client
    await client.aclose()


@pytest.fixture
def store(redis: Redis, keys: Keys) -> ApiKeys:
    return ApiKeys(redis, keys)


@pytest.fixture
async def other(settings: Settings) -> AsyncIterator[Gateway]:
    async with running_gateway(settings, catalog=MODELS) as running:
        yield running


@pytest.fixture(autouse=True)
async def worker(redis_url: str, keys: Keys) -> AsyncIterator[None]:
    async with answering(redis_url, keys, "echo"), answering(redis_url, keys, "minilm"):
        yield


Make = Callable[..., Awaitable[tuple[ApiKey, str]]]


@pytest.fixture
def make(store: ApiKeys) -> Make:
    async def make(*, lives_ms: int = 0, limits: Limits | None = None, **scopes: Any) -> Any:
        return await store.create(
            name="tests", scopes=Scopes(**scopes), limits=limits or Limits(), lives_ms=lives_ms
        )

    return make


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def openai_client(gateway: Gateway, token: str, *, max_retries: int = 0) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(
        base_url=f"{gateway.url}/v1", api_key=token, max_retries=max_retries, timeout=PATIENCE_S
    )


async def test_without_a_valid_key_openais_client_raises_its_own_error(
    gateway: Gateway, make: Make, store: ApiKeys
) -> None:
    _, good = await make()
    expired = (await make(lives_ms=1))[1]
    revoked, gone = await make()
    await store.revoke(revoked.id)
    last = "0" if good[-1] != "0" else "1"
    for token in (good[:-1] + last, expired, gone, "fb_none", "none", f"fb_{'0' * 12}_{'0' * 64}"):
        async with openai_client(gateway, token) as client:
            with pytest.raises(openai.AuthenticationError) as refused:
                await client.embeddings.create(model="minilm", input="a")
            assert refused.value.response.headers["www-authenticate"] == "Bearer"
    async with openai_client(gateway, good) as client:
        assert (await client.embeddings.create(model="minilm", input="a")).data
        assert [model.id async for model in await client.models.list()]


async def test_health_is_told_to_anybody_and_nothing_else_is(
    gateway: Gateway, web: httpx.AsyncClient
) -> None:
    for path in ("/", "/health/live", "/health/ready", "/v2/health/live", "/v2/health/ready"):
        assert (await web.get(path)).is_success
    for path in ("/v1/models", "/v1/predictions", "/v2", "/replicate/v1/models", "/v1/files"):
        answer = await web.get(path)
        assert answer.status_code == 401, path
    # In a query string a key would stand in logs.
    assert (await web.get("/v1/models?api_key=fb_1")).status_code == 401


@pytest.mark.parametrize(
    "headers",
    [
        lambda token: {"Authorization": f"Bearer {token}"},
        lambda token: {"Authorization": f"Token {token}"},
        lambda token: {"Authorization": f"bearer  {token}"},
        lambda token: {"X-API-Key": token},
        lambda token: {"Api-Key": token},
    ],
)
async def test_a_key_may_come_as_any_client_sends_one(
    web: httpx.AsyncClient, make: Make, headers: Callable[[str], dict[str, str]]
) -> None:
    _, token = await make()
    assert (await web.get("/v1/models", headers=headers(token))).status_code == 200


async def test_a_key_is_for_its_models_and_lanes_and_no_more_rows_than_it_may(
    gateway: Gateway, make: Make, web: httpx.AsyncClient
) -> None:
    limits = Limits(batch_rows=2)
    _, token = await make(models=("minilm",), lanes=(Lane.REALTIME,), limits=limits)
    async with openai_client(gateway, token) as client:
        assert len((await client.embeddings.create(model="minilm", input=["a", "b"])).data) == 2
        with pytest.raises(openai.PermissionDeniedError, match="may ask for 2 at once"):
            await client.embeddings.create(model="minilm", input=["a", "b", "c"])
    answer = await web.post("/v1/predictions", json=BODY, headers=bearer(token) | WAIT)
    assert (answer.status_code, "not for the model 'echo'" in answer.text) == (403, True)
    later = {"version": "minilm", "input": {"text": "a"}}
    answer = await web.post("/v1/predictions", json=later, headers=bearer(token))
    assert (answer.status_code, "not for the bulk lane" in answer.text) == (403, True)


async def test_what_one_key_has_made_is_not_there_for_another(
    gateway: Gateway, make: Make, web: httpx.AsyncClient
) -> None:
    (mine, token), (_, theirs), (_, admin) = await make(), await make(), await make(admin=True)
    made = await web.post("/v1/predictions", json=BODY, headers=bearer(token))
    id_ = made.json()["id"]
    assert id_.endswith(mine.id)
    path = f"/v1/predictions/{id_}"
    for who, status in ((token, 200), (theirs, 404), (admin, 200)):
        assert (await web.get(path, headers=bearer(who))).status_code == status
        listed = (await web.get("/v1/predictions", headers=bearer(who))).json()["results"]
        assert [one["id"] for one in listed] == ([id_] if status == 200 else [])
    for action in (f"{path}/cancel",):
        assert (await web.post(action, headers=bearer(theirs))).status_code == 404
    assert (await web.get(f"{path}/stream", headers=bearer(theirs))).status_code == 404
    # As for one that never was.
    never = f"/v1/predictions/{id_[:-33]}{'0' * 20}{mine.id}"
    refused = [(await web.get(one, headers=bearer(theirs))).json() for one in (path, never)]
    assert refused[0].keys() == refused[1].keys()
    # An id that is made up to be one's own leads nowhere.
    own = (await make())[0].id
    assert (await web.get(path[: -len(mine.id)] + own, headers=bearer(theirs))).status_code == 404


async def test_what_belongs_to_nobody_takes_an_admins_key(
    gateway: Gateway, make: Make, web: httpx.AsyncClient
) -> None:
    """Files, uploads, batches, and the secret that all webhooks are signed with."""
    (_, plain), (_, admin) = await make(), await make(admin=True)
    async with openai_client(gateway, plain) as client:
        for asked in (
            client.files.create(file=("a.jsonl", b"{}"), purpose="batch"),
            client.files.list(),
            client.files.retrieve("file-1"),
            client.files.content(f"file-{'0' * 32}"),
            client.files.delete(f"file-{'0' * 32}"),
            client.batches.list(),
            client.batches.retrieve("batch_1"),
            client.batches.cancel("batch_1"),
            client.batches.create(
                input_file_id="file-1", endpoint="/v1/embeddings", completion_window="24h"
            ),
            client.uploads.create(
                bytes=3, filename="a.jsonl", mime_type="text/plain", purpose="batch"
            ),
            client.uploads.cancel("upload_1"),
        ):
            with pytest.raises(openai.PermissionDeniedError, match="scope `admin`"):
                await asked
    for token, status in ((plain, 403), (admin, 200)):
        path = "/replicate/v1/webhooks/default/secret"
        assert (await web.get(path, headers=bearer(token))).status_code == status
    async with openai_client(gateway, admin) as client:
        assert await client.files.create(file=("a.jsonl", b"{}"), purpose="batch")


async def test_names_that_two_keys_give_are_two(web: httpx.AsyncClient, make: Make) -> None:
    (_, first), (_, second) = await make(), await make()
    made = []
    for token in (first, first, second):
        headers = bearer(token) | WAIT | {"Idempotency-Key": "the same"}
        made.append((await web.post("/v1/predictions", json=BODY, headers=headers)).json()["id"])
    assert made[0] == made[1] != made[2]
    ids = []
    for token in (first, second):
        answer = await web.put("/v1/predictions/mine", json=BODY, headers=bearer(token) | WAIT)
        ids.append(answer.json()["id"])
        got = await web.get("/v1/predictions/mine", headers=bearer(token))
        assert got.status_code == 200
    assert ids == ["mine", "mine"]


async def test_replicates_client_uses_its_token(gateway: Gateway, make: Make) -> None:
    _, token = await make()
    client = replicate.client.Client(api_token=token, base_url=f"{gateway.url}/replicate")
    prediction = await client.predictions.async_create(version="echo", input={"value": 3})
    wrong = replicate.client.Client(api_token="r8_none", base_url=f"{gateway.url}/replicate")
    with pytest.raises(replicate.exceptions.ReplicateError) as refused:
        await wrong.predictions.async_get(prediction.id)
    assert refused.value.status == 401
    _, theirs = await make()
    other = replicate.client.Client(api_token=theirs, base_url=f"{gateway.url}/replicate")
    with pytest.raises(replicate.exceptions.ReplicateError) as refused:
        await other.predictions.async_get(prediction.id)
    assert refused.value.status == 404
    assert (await client.predictions.async_get(prediction.id)).input == {"value": 3}
    for each in (client, wrong, other):
        if opened := each._Client__async_client:  # type: ignore[attr-defined]  # made when used
            await opened.aclose()


async def test_tritons_clients_send_it_in_their_headers(
    settings: Settings, make: Make, redis_url: str
) -> None:
    port = free_port()
    own = msgspec.structs.replace(settings, grpc_port=port)
    _, token = await make(models=("echo",))
    _, admin = await make(admin=True)
    async with running_gateway(own, catalog=MODELS) as gateway:
        address = gateway.url.removeprefix("http://")
        async with triton_http.InferenceServerClient(address) as client:
            assert await client.is_server_live()
            with pytest.raises(InferenceServerException) as refused:
                await client.get_server_metadata()
            assert refused.value.status() == "401"
            assert await client.get_server_metadata(headers=bearer(token))
            with pytest.raises(InferenceServerException) as refused:
                await client.unload_model("echo", headers=bearer(token))
            assert refused.value.status() == "403"
        async with triton_grpc.InferenceServerClient(f"127.0.0.1:{port}") as client:
            assert await client.is_server_live()
            for headers, code in (
                ({}, grpc.StatusCode.UNAUTHENTICATED),
                ({"authorization": "Bearer fb_no"}, grpc.StatusCode.UNAUTHENTICATED),
            ):
                with pytest.raises(InferenceServerException) as refused:
                    await client.get_model_metadata("echo", headers=headers)
                assert refused.value.status() == str(code)
            said = {"authorization": f"Bearer {token}"}
            assert await client.get_model_metadata("echo", headers=said)
            with pytest.raises(InferenceServerException) as refused:
                await client.unload_model("echo", headers=said)
            assert refused.value.status() == str(grpc.StatusCode.PERMISSION_DENIED)
            with pytest.raises(InferenceServerException) as refused:
                await client.unload_model("echo", headers={"x-api-key": admin})
            assert refused.value.status() != str(grpc.StatusCode.PERMISSION_DENIED)


async def test_a_key_that_is_revoked_or_rotated_is_refused_at_every_gateway(
    gateway: Gateway, other: Gateway, make: Make, store: ApiKeys
) -> None:
    key, token = await make()

    async def status(at: Gateway, token: str) -> int:
        async with httpx.AsyncClient(base_url=at.url) as web:
            return (await web.get("/v1/models", headers=bearer(token))).status_code

    both = (gateway, other)
    assert [await status(at, token) for at in both] == [200, 200]
    _, new = await store.rotate(key.id, grace_ms=0)
    for at in both:

        async def rotated(at: Gateway = at) -> bool:
            return (await status(at, token), await status(at, new)) == (401, 200)

        await eventually(rotated, what="only the new secret is taken")
    await store.revoke(key.id)
    for at in both:

        async def revoked(at: Gateway = at) -> bool:
            return await status(at, new) == 401

        await eventually(revoked, what="it is refused")


async def test_requests_a_minute_hold_at_all_gateways_together(
    gateway: Gateway, other: Gateway, make: Make
) -> None:
    _, token = await make(limits=Limits(requests_per_minute=6))
    answers = []
    async with httpx.AsyncClient() as web:
        for number in range(10):
            at = (gateway, other)[number % 2]
            answers.append(await web.get(f"{at.url}/v1/models", headers=bearer(token)))
    codes = [answer.status_code for answer in answers]
    # Another comes every ten seconds.
    assert codes.count(200) in (6, 7)
    assert codes[:6] == [200] * 6
    first, last = answers[0], answers[-1]
    assert first.headers["ratelimit-policy"] == '"minute";q=6;w=60'
    assert first.headers["ratelimit"].startswith('"minute";r=5;t=')
    assert last.status_code == 429
    assert 1 <= int(last.headers["retry-after"]) <= 10
    assert last.headers["ratelimit"].startswith('"minute";r=0;t=')
    assert "6 requests a minute" in last.text


async def test_a_client_that_waits_as_it_is_told_gets_its_answer(
    gateway: Gateway, make: Make
) -> None:
    _, token = await make(limits=Limits(requests_per_minute=120))
    async with httpx.AsyncClient(base_url=gateway.url, headers=bearer(token)) as web:
        while (await web.get("/v1/models")).status_code != 429:
            pass
    async with openai_client(gateway, token, max_retries=5) as client:
        assert (await client.embeddings.create(model="minilm", input="a")).data


async def test_requests_at_once_hold_at_all_gateways_together(
    gateway: Gateway, other: Gateway, make: Make
) -> None:
    _, token = await make(limits=Limits(concurrency=1))
    # Nobody works for that model: the first waits, until its client goes.
    waits = {"version": "narrow", "input": {"text": "a"}}
    headers = bearer(token)
    async with httpx.AsyncClient(timeout=PATIENCE_S, headers=headers) as web:

        async def ask_in_vain() -> None:
            await web.post(f"{gateway.url}/v1/predictions", json=waits, headers=WAIT)

        waiting = asyncio.create_task(ask_in_vain())

        async def waits_on_its_lane() -> bool:
            told = (await web.get(f"{other.url}/health/ready")).json()["models"]["narrow"]
            return bool(told["demand"]["realtime"])

        await eventually(waits_on_its_lane, what="the first is let in")

        async def refused() -> bool:
            return (await web.get(f"{other.url}/v1/models")).status_code == 429

        await eventually(refused, what="the other gateway has no slot left")
        answer = await web.get(f"{gateway.url}/v1/models")
        assert (answer.status_code, "1 requests answered at once" in answer.text) == (429, True)
        waiting.cancel()
        await asyncio.wait([waiting])

        async def let_in() -> bool:
            return (await web.get(f"{other.url}/v1/models")).status_code == 200

        await eventually(let_in, what="the slot comes back")


async def test_no_secret_is_in_redis_or_in_logs(
    gateway: Gateway,
    make: Make,
    redis: Redis,
    key_prefix: str,
    web: httpx.AsyncClient,
    caplog: pytest.LogCaptureFixture,
) -> None:
    _, token = await make(limits=Limits(requests_per_minute=100, concurrency=10))
    with caplog.at_level(logging.DEBUG):
        assert (await web.post("/v1/predictions", json=BODY, headers=bearer(token))).is_success
        wrong = token[:-2] + "zz"
        assert (await web.get("/v1/models", headers=bearer(wrong))).status_code == 401
    secret = token.rpartition("_")[2]
    logged = [r for r in caplog.records if secret in r.getMessage() and r.name != "httpx"]
    assert logged == []
    ask: Any = redis.execute_command
    names = await ask("KEYS", f"{key_prefix}:*")
    assert any(b"{keys}" in name for name in names)
    for name in names:
        assert secret.encode() not in bytes(await ask("DUMP", name) or b"")


class Counted(ApiKeys):
    """Counts how often it is asked."""

    asked = 0

    async def some(self, ids: Any) -> Any:
        """Likewise."""
        self.asked += 1
        await asyncio.sleep(0.01)  # as if Redis were far
        return await super().some(ids)


async def test_a_key_is_known_for_less_than_two_seconds(
    redis: Redis, keys: Keys, make: Make, store: ApiKeys
) -> None:
    """By its own clock, which here stands still unless it is told to go on."""
    now = [100.0]
    ring = Keyring(store, Reads(Link(redis, Clock())), now=lambda: now[0])
    running = asyncio.create_task(ring.run())
    key, _ = await make()
    assert await ring.find(key.id) == key
    running.cancel()  # nobody reads it again
    await asyncio.wait([running])
    now[0] += 1.7
    assert await ring.find(key.id) == key
    gone = await store.revoke(key.id)
    now[0] += 0.2
    running = asyncio.create_task(ring.run())
    assert await ring.find(key.id) == gone
    running.cancel()
    await asyncio.wait([running])


async def test_many_wrong_keys_at_once_are_few_commands(redis: Redis, keys: Keys) -> None:
    store = Counted(redis, keys)
    ring = Keyring(store, Reads(Link(redis, Clock())))
    running = asyncio.create_task(ring.run())
    found = await asyncio.gather(*(ring.find(f"{number:012x}") for number in range(1_200)))
    assert found == [None] * 1_200
    assert store.asked <= 2 + 1_200 / keyring.AT_ONCE
    assert await ring.find("0" * 12) is None
    assert store.asked <= 3 + 1_200 / keyring.AT_ONCE
    running.cancel()
    await asyncio.wait([running])
