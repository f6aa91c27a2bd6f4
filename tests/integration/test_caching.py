"""The response cache at a gateway: what is answered without running, by what, and what is told."""

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import httpx
import msgspec
import pytest

from forebay.contract.caching import CacheOptions, Scope
from forebay.contract.model import BackendName, ModelSpec
from forebay.contract.rows import Task, TextRow
from forebay.contract.versions import Version
from forebay.gateway import caching
from forebay.gateway.versions import Serving
from forebay.lanes.cache import Cache
from forebay.lanes.depth import counters, depth
from forebay.lanes.keys import Keys
from forebay.lanes.traffic import Traffic, Why
from forebay.runtime.catalog import Catalog
from forebay.runtime.redis import Commands, connect
from forebay.runtime.settings import Settings
from tests.fixtures.answering import VERSION, answering, classify, vector_of
from tests.fixtures.gateway import Gateway, running_gateway
from tests.fixtures.servers import TIMEOUT_S, Server
from tests.fixtures.shapes import ClusterServers
from tests.fixtures.waiting import PATIENCE_S, eventually

MINILM = "minilm"
CACHE = CacheOptions(enabled=True)
MODEL = ModelSpec(Task.EMBEDDING, BackendName.ONNX, source="package:none", name=MINILM, cache=CACHE)


def like(name: str, **fields: Any) -> ModelSpec:
    return msgspec.structs.replace(MODEL, name=name, **fields)


CATALOG = Catalog(
    {
        MINILM: MODEL,
        "private": like("private", cache=CacheOptions(enabled=True, scope=Scope.KEY)),
        "bare": like("bare", cache=CacheOptions()),
        "far": like("far", cache=CacheOptions(enabled=True, gateway_bytes=0)),
        "small": like("small", cache=CacheOptions(enabled=True, max_entry_bytes=31)),
        "labels": like("labels", task=Task.CLASSIFICATION),
        "ranks": like("ranks", task=Task.RERANKING),
        "values": ModelSpec(Task.ECHO, BackendName.ECHO, name="values", cache=CACHE),
        "split": like("split", versions={"v2": Version(), "mute": Version(shadow=True)}),
    },
    {f"split@{version}": like(f"split@{version}", version=version) for version in ("v2", "mute")},
)
WAIT = {"Prefer": "wait"}


class Versions:
    """What serves, as a test sets it."""

    def __init__(self) -> None:
        self.digest: str | None = VERSION + "0" * 52

    def serving(self, spec: ModelSpec) -> Serving | None:
        return None if self.digest is None else Serving(self.digest)


@pytest.fixture
def versions() -> Versions:
    return Versions()


@pytest.fixture
def settings(redis_url: str, key_prefix: str) -> Settings:
    return Settings(redis_url=redis_url, key_prefix=key_prefix)


@pytest.fixture
async def gateway(settings: Settings, versions: Versions) -> AsyncIterator[Gateway]:
    async with running_gateway(settings, catalog=CATALOG, versions=versions) as running:
        yield running


@pytest.fixture
async def client(gateway: Gateway) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=gateway.url, timeout=PATIENCE_S) as client:
        yield client


@pytest.fixture
async def commands(redis_url: str) -> AsyncIterator[Commands]:
    redis = connect(redis_url, timeout_s=TIMEOUT_S)
    yield redis
    await redis.aclose()


async def embed(
    client: httpx.AsyncClient, *texts: str, model: str = MINILM, **headers: str
) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    body = {"model": model, "input": list(texts), "encoding_format": "base64"}
    return await client.post("/v1/embeddings", json=body, headers=named)


async def predict(
    client: httpx.AsyncClient, *texts: str, model: str = MINILM, **headers: str
) -> httpx.Response:
    body = {"version": model, "input": {"text": list(texts)}}
    return await client.post("/v1/predictions", json=body, headers=headers)


def status(answer: httpx.Response) -> str:
    assert answer.is_success, answer.text
    told = answer.headers["cache-status"]
    assert isinstance(told, str)
    return told


def texts_of(delivered: list[Any]) -> list[list[str]]:
    return [[row.text for row in one.computation.rows] for one in delivered]


async def test_the_same_again_is_answered_without_running_it(
    client: httpx.AsyncClient, redis_url: str, keys: Keys
) -> None:
    async with answering(redis_url, keys, MINILM) as delivered:
        first = await embed(client, "a")
        again = await embed(client, "a")
    assert status(first) == "forebay; fwd=miss; stored"
    hit, _, left_s = status(again).partition("; ttl=")
    assert hit == "forebay; hit"
    assert 3_600 - PATIENCE_S < int(left_s) <= 3_600
    assert first.json() == again.json()
    assert texts_of(delivered) == [["a"]]
    assert "server-timing" not in again.headers


async def test_another_gateway_finds_it_in_redis(
    settings: Settings,
    versions: Versions,
    client: httpx.AsyncClient,
    redis_url: str,
    keys: Keys,
    commands: Commands,
) -> None:
    async with (
        answering(redis_url, keys, MINILM) as delivered,
        running_gateway(settings, catalog=CATALOG, versions=versions) as gateway,
        httpx.AsyncClient(base_url=gateway.url, timeout=PATIENCE_S) as other,
    ):
        first = await embed(client, "a", "b")
        assert (await embed(other, "b", "a")).json()["data"][0]["index"] == 0
        assert status(await embed(other, "b")).startswith("forebay; hit")
        assert first.json()["usage"] == (await embed(other, "a", "b")).json()["usage"]
        assert texts_of(delivered) == [["a", "b"]]

        async def counted() -> bool:
            told = await Cache(commands, keys).standing(MINILM)
            return (told.near, told.far, told.missed, told.entries) == (3, 2, 2, 2)

        await eventually(counted)


async def test_of_a_list_only_what_is_not_there_is_run(
    client: httpx.AsyncClient, redis_url: str, keys: Keys
) -> None:
    async with answering(redis_url, keys, MINILM) as delivered:
        await embed(client, "b", "d")
        answer = await embed(client, "a", "b", "c", "d")
        again = await embed(client, "d", "c", "b", "a")
    assert status(answer) == 'forebay; fwd=partial; stored; detail="2 of 4 cached"'
    assert texts_of(delivered) == [["b", "d"], ["a", "c"]]
    vectors = [item["embedding"] for item in answer.json()["data"]]
    assert vectors == [item["embedding"] for item in again.json()["data"]][::-1]
    assert len(set(vectors)) == 4


async def test_a_row_at_fault_is_named_as_the_client_sent_it(
    client: httpx.AsyncClient, redis_url: str, keys: Keys
) -> None:
    long = "word " * 30
    async with answering(redis_url, keys, MINILM):
        await embed(client, "a", "b")
        answer = await embed(client, "a", "b", "c", long)
        made = (await predict(client, "a", "b", long, **WAIT)).json()
        shown = (await client.get(f"/v1/predictions/{made['id']}")).json()
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "input[3]"
    assert answer.json()["error"]["message"].startswith("Row 3:")
    assert "Row 2:" in made["error"]
    assert made["error"] == shown["error"]


async def test_a_text_that_no_model_takes_is_named_as_the_client_sent_it(
    client: httpx.AsyncClient, redis_url: str, keys: Keys
) -> None:
    async with answering(redis_url, keys, MINILM):
        await embed(client, "a")
        answer = await embed(client, "a", "x" * 1_000_001)
    assert answer.json()["error"]["param"] == "input[1]"
    assert answer.json()["error"]["message"].startswith("Row 1:")


async def test_predictions_are_complete_whatever_was_cached(
    client: httpx.AsyncClient, redis_url: str, keys: Keys
) -> None:
    async with answering(redis_url, keys, MINILM) as delivered:
        await predict(client, "a", **WAIT)
        for texts, what in ((("a", "b"), "fwd=partial"), (("b", "a"), "hit")):
            answer = await predict(client, *texts, **WAIT)
            made = answer.json()
            assert what in status(answer)
            assert made["status"] == "succeeded"
            expected = [list(vector(text)) for text in texts]
            assert made["output"] == expected
            shown = (await client.get(f"/v1/predictions/{made['id']}")).json()
            assert shown["output"] == expected
            assert shown["input"] == {"text": list(texts)}
    assert shown["completed_at"] == shown["started_at"] == made["completed_at"]
    assert texts_of(delivered) == [["a"], ["b"]]


def vector(text: str) -> tuple[float, ...]:
    made = vector_of(TextRow(text))
    return tuple(memoryview(made).cast("f"))


async def test_a_prediction_that_nobody_waits_for_has_ended_when_it_is_made(
    client: httpx.AsyncClient, redis_url: str, keys: Keys
) -> None:
    async with answering(redis_url, keys, MINILM):
        await embed(client, "a")
    made = (await predict(client, "a")).json()
    assert made["status"] == "succeeded"
    waits = (await predict(client, "a", "b")).json()
    assert waits["status"] == "starting"
    async with answering(redis_url, keys, MINILM):

        async def ended() -> bool:
            shown = (await client.get(f"/v1/predictions/{waits['id']}")).json()
            return bool(shown["output"] == [list(vector("a")), list(vector("b"))])

        await eventually(ended)


async def test_a_request_that_comes_again_is_the_same_prediction(
    client: httpx.AsyncClient, redis_url: str, keys: Keys
) -> None:
    async with answering(redis_url, keys, MINILM) as delivered:
        await embed(client, "a", "b")
        named = [await embed(client, "a", Idempotency_Key="one") for _ in range(2)]
        made = [await predict(client, "b", **WAIT, **{"Idempotency-Key": "two"}) for _ in range(2)]
    assert named[0].json() == named[1].json()
    assert made[0].json()["id"] == made[1].json()["id"]
    assert len(delivered) == 1


async def test_what_the_client_says_of_caching_holds(
    client: httpx.AsyncClient, redis_url: str, keys: Keys, commands: Commands
) -> None:
    async with answering(redis_url, keys, MINILM) as delivered:
        secret = await embed(client, "s", cache_control="no-store")
        assert status(secret) == "forebay; fwd=bypass"
        assert (await Cache(commands, keys).standing(MINILM)).entries == 0
        missing = await embed(client, "a", cache_control="only-if-cached")
        assert len(delivered) == 1
        await embed(client, "a")
        assert "hit" in status(await embed(client, "a", cache_control="only-if-cached"))
        anew = await embed(client, "a", cache_control="no-cache")
        assert status(anew) == "forebay; fwd=request; stored"
        assert "hit" in status(await embed(client, "a", cache_control="max-age=600"))
        stale = await embed(client, "a", cache_control="max-age=0")
        assert status(stale) == "forebay; fwd=stale; stored"
        assert len(delivered) == 4
    assert missing.status_code == 504
    assert missing.json()["error"]["param"] == "cache-control"
    assert "only-if-cached" in missing.json()["error"]["message"]
    assert missing.headers["cache-status"] == 'forebay; detail="only-if-cached"'


async def on_lane(commands: Commands, keys: Keys, model: str, *, rows: int, joined: int) -> None:
    """Wait until so many rows are on a model's lanes, and so many requests have joined others."""

    async def there() -> bool:
        told = await depth(commands, keys.of(model), now_ms=0)
        have = (await counters(commands, keys.of(model))).get("joined", 0)
        return (told.realtime + told.bulk, have) == (rows, joined)

    await eventually(there, what=lambda: f"{rows} rows are there, {joined} have joined")


@pytest.mark.parametrize("model", [MINILM, "bare"])
@pytest.mark.parametrize("directive", ["no-cache", "no-store", "max-age=5, No-Store"])
async def test_who_wants_a_run_of_its_own_shares_none(
    client: httpx.AsyncClient,
    redis_url: str,
    keys: Keys,
    commands: Commands,
    model: str,
    directive: str,
) -> None:
    asked: list[asyncio.Task[httpx.Response]] = []
    # What is under way before is not what it wants, and others don't get what it is given.
    own = {"cache_control": directive}
    told: tuple[dict[str, str], ...] = ({}, own, {}, own)
    for headers, rows, joined in zip(told, (1, 2, 2, 3), (0, 0, 1, 1), strict=True):
        asked.append(asyncio.create_task(embed(client, "a", model=model, **headers)))
        await on_lane(commands, keys, model, rows=rows, joined=joined)
    async with answering(redis_url, keys, model) as delivered:
        answers = [await one for one in asked]
    assert len({answer.text for answer in answers}) == 1
    assert len(delivered) == 3


async def test_nobody_joins_what_is_not_to_be_stored(
    client: httpx.AsyncClient, redis_url: str, keys: Keys, commands: Commands
) -> None:
    secret = asyncio.create_task(embed(client, "a", cache_control="no-store"))
    await on_lane(commands, keys, MINILM, rows=1, joined=0)
    other = asyncio.create_task(embed(client, "a"))
    await on_lane(commands, keys, MINILM, rows=2, joined=0)
    async with answering(redis_url, keys, MINILM) as delivered:
        assert status(await secret) == "forebay; fwd=bypass"
        assert status(await other) == "forebay; fwd=miss; stored"
    assert len(delivered) == 2


async def test_who_joins_is_told_so_and_not_that_anything_is_stored(
    settings: Settings,
    client: httpx.AsyncClient,
    redis_url: str,
    keys: Keys,
    commands: Commands,
) -> None:
    unknown = Versions()
    unknown.digest = None
    async with (
        running_gateway(settings, catalog=CATALOG, versions=unknown) as gateway,
        httpx.AsyncClient(base_url=gateway.url, timeout=PATIENCE_S) as other,
    ):
        # It doesn't know which version serves, and so keeps nothing.
        first = asyncio.create_task(embed(other, "a", model="far"))
        await on_lane(commands, keys, "far", rows=1, joined=0)
        second = asyncio.create_task(embed(client, "a", model="far"))
        await on_lane(commands, keys, "far", rows=1, joined=1)
        third = await predict(client, "a", model="far")
        assert status(third) == "forebay; fwd=miss; collapsed"
        async with answering(redis_url, keys, "far"):
            assert "fwd=bypass" in status(await first)
            assert status(await second) == "forebay; fwd=miss; collapsed"
            assert status(await embed(client, "a", model="far")) == "forebay; fwd=miss; stored"
            assert status(await embed(client, "a", model="far")).startswith("forebay; hit")


async def test_rows_that_join_beside_others_that_are_cached(
    client: httpx.AsyncClient, redis_url: str, keys: Keys, commands: Commands
) -> None:
    async with answering(redis_url, keys, MINILM):
        await embed(client, "a")
    first = asyncio.create_task(embed(client, "b"))
    await on_lane(commands, keys, MINILM, rows=1, joined=0)
    second = asyncio.create_task(embed(client, "a", "b"))
    await on_lane(commands, keys, MINILM, rows=1, joined=1)
    async with answering(redis_url, keys, MINILM):
        assert status(await first) == "forebay; fwd=miss; stored"
        told = 'forebay; fwd=partial; collapsed; detail="1 of 2 cached"'
        assert status(await second) == told


async def test_a_value_is_found_however_it_is_written(
    client: httpx.AsyncClient, redis_url: str, keys: Keys
) -> None:
    ways = ('{"a": 1, "b": ["\\u00e9", 1.50]}', '{ "b":["é",1.50],"\\u0061":1 }', '{"a":1}')
    async with answering(redis_url, keys, "values") as delivered:
        told = [
            status(
                await client.post(
                    "/v1/predictions",
                    content=f'{{"version": "values", "input": {{"value": {way}}}}}',
                    headers=WAIT,
                )
            )
            for way in ways
        ]
    assert told[1].startswith("forebay; hit")
    assert (told[0], told[2]) == ("forebay; fwd=miss; stored",) * 2
    assert len(delivered) == 2


async def test_a_prediction_that_is_not_cached_can_be_asked_for_again(
    client: httpx.AsyncClient, redis_url: str, keys: Keys
) -> None:
    key = {"Idempotency-Key": "once"}
    wants = {"Cache-Control": "only-if-cached"}
    refused = await predict(client, "a", **WAIT, **key, **wants)
    assert (refused.status_code, refused.json()["status"]) == (504, 504)
    async with answering(redis_url, keys, MINILM):
        assert (await predict(client, "a", **WAIT, **key)).json()["status"] == "succeeded"


async def test_within_a_key_nobody_else_is_answered_from_the_cache(
    client: httpx.AsyncClient, redis_url: str, keys: Keys
) -> None:
    def ask(authorization: str = "") -> Any:
        headers = {"authorization": authorization} if authorization else {}
        return embed(client, "a", model="private", **headers)

    async with answering(redis_url, keys, "private") as delivered:
        assert "miss" in status(await ask("Bearer one"))
        assert "hit" in status(await ask("Bearer one"))
        assert "miss" in status(await ask("Bearer two"))
        for _ in range(2):
            assert status(await ask()) == 'forebay; fwd=bypass; detail="no API key"'
    assert len(delivered) == 4


async def test_within_a_key_only_its_own_requests_join(
    client: httpx.AsyncClient, redis_url: str, keys: Keys, commands: Commands
) -> None:
    asked = [
        asyncio.create_task(embed(client, "a", model="private", authorization=who))
        for who in ("Bearer one", "Bearer two")
        for _ in range(3)
    ]

    async def all_there() -> bool:
        counted = await commands.execute_command("HGET", keys.of("private").counters, "joined")
        return int(counted or 0) == 4

    await eventually(all_there)
    async with answering(redis_url, keys, "private") as delivered:
        assert {(await one).status_code for one in asked} == {200}
    assert len(delivered) == 2


async def test_a_new_version_never_answers_with_what_the_old_one_has_made(
    client: httpx.AsyncClient, versions: Versions, redis_url: str, keys: Keys
) -> None:
    async with answering(redis_url, keys, MINILM) as delivered:
        await embed(client, "a")
        versions.digest = "f" * 64
        # The worker still has the old artifact: what it answers is not taken for the new one's.
        for _ in range(2):
            assert status(await embed(client, "a")) == "forebay; fwd=miss"
        versions.digest = None
        unknown = 'forebay; fwd=bypass; detail="the version that serves is not known here"'
        assert status(await embed(client, "a")) == unknown
        versions.digest = VERSION + "0" * 52
        assert "hit" in status(await embed(client, "a"))
    assert len(delivered) == 4


async def test_each_version_of_a_split_has_answers_of_its_own(
    client: httpx.AsyncClient, redis_url: str, keys: Keys
) -> None:
    async with (
        answering(redis_url, keys, "split") as own,
        answering(redis_url, keys, "split@v2") as other,
        answering(redis_url, keys, "split@mute") as mute,
    ):
        for model in ("split", "split@v2"):
            assert "miss" in status(await embed(client, "a", model=model))
            again = await embed(client, "a", model=model)
            assert "hit" in status(again)
        assert again.headers.get("x-forebay-version") is None
        redis = connect(redis_url, timeout_s=TIMEOUT_S)
        traffic = Traffic(redis)
        change = await traffic.current(keys.of("split"))
        await traffic.change(keys.of("split"), {"v2": 100.0}, Why.SET, after=change)
        await redis.aclose()

        async def goes_to_v2() -> bool:
            answer = await embed(client, "a", model="split")
            assert "hit" in status(answer)
            return answer.headers["x-forebay-version"] == "v2"

        await eventually(goes_to_v2)

        async def copied() -> bool:
            return len(mute) == 1

        # A shadow gets what ran, once, and nothing of what was answered from the cache.
        await eventually(copied)
    assert (len(own), len(other), len(mute)) == (1, 1, 1)


async def test_what_cannot_be_read_is_run_and_told_in_the_log(
    client: httpx.AsyncClient,
    redis_url: str,
    keys: Keys,
    commands: Commands,
    caplog: pytest.LogCaptureFixture,
) -> None:
    hash_ = keys.of("far").cache
    async with answering(redis_url, keys, "far") as delivered:
        await embed(client, "a", model="far")
        assert "hit" in status(await embed(client, "a", model="far"))
        for key in await commands.execute_command("HKEYS", hash_):
            if key != b"bytes":
                await commands.execute_command("HSET", hash_, key, b"poison")
        with caplog.at_level(logging.WARNING, logger=caching.__name__):
            assert "miss" in status(await embed(client, "a", model="far"))
        assert "can't be read" in caplog.text
        assert "hit" in status(await embed(client, "a", model="far"))

        async def counted() -> bool:
            return (await Cache(commands, keys).standing("far")).unreadable == 1

        await eventually(counted)
    assert len(delivered) == 2


async def test_what_a_worker_could_not_keep_is_only_run_again(
    client: httpx.AsyncClient, redis_url: str, keys: Keys, commands: Commands
) -> None:
    async with answering(redis_url, keys, "far") as delivered:
        await embed(client, "a", model="far")
        await commands.execute_command("DEL", keys.of("far").cache)
        assert "miss" in status(await embed(client, "a", model="far"))
        assert "hit" in status(await embed(client, "a", model="far"))
    assert len(delivered) == 2


async def test_a_gateway_keeps_nothing_that_is_too_large(
    client: httpx.AsyncClient, redis_url: str, keys: Keys, commands: Commands
) -> None:
    async with answering(redis_url, keys, "small") as delivered:
        for _ in range(2):
            assert status(await embed(client, "a", model="small")) == "forebay; fwd=miss"
            await commands.execute_command("DEL", keys.of("small").cache)
    assert len(delivered) == 2


async def test_emptying_it_reaches_every_gateway(
    client: httpx.AsyncClient, gateway: Gateway, redis_url: str, keys: Keys, commands: Commands
) -> None:
    async with answering(redis_url, keys, MINILM) as delivered:
        await embed(client, "a")

        async def counted() -> bool:
            return (await Cache(commands, keys).standing(MINILM)).missed == 1

        await eventually(counted)
        assert await Cache(commands, keys).clear(MINILM) == 1

        async def runs_again() -> bool:
            await embed(client, "a")
            return len(delivered) == 2

        await eventually(runs_again)


async def test_while_redis_stands_still_the_gateways_own_memory_answers(
    private_server: Server, key_prefix: str, keys: Keys, versions: Versions
) -> None:
    settings = Settings(
        redis_url=private_server.url, key_prefix=key_prefix, redis_timeout_s=4, drain_s=3
    )
    async with (
        running_gateway(settings, catalog=CATALOG, versions=versions) as gateway,
        httpx.AsyncClient(base_url=gateway.url, timeout=PATIENCE_S) as client,
    ):
        async with answering(private_server.url, keys, MINILM):
            await embed(client, "a")
        private_server.pause()
        try:
            assert "hit" in status(await embed(client, "a"))
            assert (await embed(client, "b")).status_code == 503
            wants = await embed(client, "b", cache_control="only-if-cached")
            assert wants.status_code == 504
        finally:
            private_server.resume()


async def test_a_model_without_a_cache_says_nothing_of_one(
    client: httpx.AsyncClient, redis_url: str, keys: Keys, commands: Commands
) -> None:
    async with answering(redis_url, keys, "bare") as delivered:
        for _ in range(2):
            answer = await embed(client, "a", model="bare", cache_control="no-cache")
            assert "cache-status" not in answer.headers
    assert len(delivered) == 2
    assert await commands.execute_command("EXISTS", keys.of("bare").cache) == 0


DIALECTS = {
    "/v1/embeddings": (MINILM, {"model": MINILM, "input": "a"}),
    "/v1/moderations": ("labels", {"model": "labels", "input": "an insult"}),
    "/v1/rerank": ("ranks", {"model": "ranks", "query": "a b", "documents": ["a", "c"]}),
    "/v1/predictions": (MINILM, {"version": MINILM, "input": {"text": "a"}}),
    f"/v2/models/{MINILM}/infer": (
        MINILM,
        {"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": ["a"]}]},
    ),
}


@pytest.mark.parametrize("path", DIALECTS)
async def test_every_dialect_answers_from_it(
    path: str, client: httpx.AsyncClient, redis_url: str, keys: Keys
) -> None:
    model, body = DIALECTS[path]
    how = {"answer": classify} if model == "labels" else {}
    async with answering(redis_url, keys, model, **how) as delivered:
        answers = [await client.post(path, json=body, headers=WAIT) for _ in range(2)]
        refused = await client.post(
            path, json=body, headers=WAIT | {"Cache-Control": "no-cache, only-if-cached"}
        )
    assert status(answers[0]) == "forebay; fwd=miss; stored"
    assert status(answers[1]).startswith("forebay; hit; ttl=")
    for field in ("data", "results", "output", "outputs"):
        assert answers[0].json().get(field) == answers[1].json().get(field)
    assert refused.status_code == 504
    assert len(delivered) == 1


async def test_in_a_cluster_it_lies_where_its_model_does(
    cluster: ClusterServers, key_prefix: str, keys: Keys, versions: Versions
) -> None:
    settings = Settings(redis_url=cluster.url, key_prefix=key_prefix, drain_s=3)
    async with (
        answering(cluster.url, keys, MINILM) as delivered,
        answering(cluster.url, keys, "far") as others,
        running_gateway(settings, catalog=CATALOG, versions=versions) as gateway,
        httpx.AsyncClient(base_url=gateway.url, timeout=PATIENCE_S) as client,
    ):
        for model in (MINILM, "far"):
            await embed(client, "a", "b", model=model)
            assert "hit" in status(await embed(client, "b", model=model))
        assert "2 of 3" in status(await embed(client, "a", "b", "c", model="far"))
        made = (await predict(client, "a", "c", model="far", **WAIT)).json()
        shown = (await client.get(f"/v1/predictions/{made['id']}")).json()
    assert shown["output"] == [list(vector("a")), list(vector("c"))]
    assert (len(delivered), len(others)) == (1, 2)
