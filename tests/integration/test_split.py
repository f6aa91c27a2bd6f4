"""The split at a gateway: following what operators set, outages, names that stay, and shadows."""

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import msgspec
import pytest

from forebay.contract.errors import ForebayError, NotFound, Unavailable
from forebay.contract.model import BackendName, ModelSpec
from forebay.contract.prediction import PredictionId
from forebay.contract.rows import Task
from forebay.contract.versions import Version
from forebay.gateway.names import fingerprint
from forebay.lanes import traffic as traffic_module
from forebay.lanes.claims import Claims
from forebay.lanes.keys import Keys
from forebay.lanes.shadows import Shadows
from forebay.lanes.traffic import AS_THE_CATALOG_SAYS, Traffic, Why
from forebay.runtime.catalog import Catalog
from forebay.runtime.redis import Commands, connect
from forebay.runtime.settings import Settings
from tests.fixtures.answering import answering
from tests.fixtures.gateway import Gateway, running_gateway
from tests.fixtures.servers import TIMEOUT_S, LaneServer, Server
from tests.fixtures.waiting import PATIENCE_S, eventually

MODEL = ModelSpec(
    Task.EMBEDDING,
    BackendName.ONNX,
    source="package:none",
    name="minilm",
    versions={"v2": Version(weight=10), "mute": Version(shadow=True)},
)
CATALOG = Catalog(
    {"minilm": MODEL},
    {
        f"minilm@{version}": msgspec.structs.replace(
            MODEL, name=f"minilm@{version}", version=version, versions={}
        )
        for version in MODEL.versions
    },
)
ALL_V2 = {"v2": 100.0}


@pytest.fixture
def settings(private_server: Server, key_prefix: str) -> Settings:
    return Settings(
        redis_url=private_server.url, key_prefix=key_prefix, redis_timeout_s=4, drain_s=3
    )


@pytest.fixture
async def gateway(settings: Settings) -> AsyncIterator[Gateway]:
    async with running_gateway(settings, catalog=CATALOG) as running:
        yield running


async def change(server: Server, keys: Keys, shares: dict[str, float]) -> None:
    redis = connect(server.url, timeout_s=TIMEOUT_S)
    try:
        traffic, lanes = Traffic(redis), keys.of("minilm")
        await traffic.change(lanes, shares, Why.SET, after=await traffic.current(lanes))
    finally:
        await redis.aclose()


def embed(text: str | list[str]) -> dict[str, Any]:
    return {"version": "minilm", "input": {"text": text}}


async def test_every_gateway_follows_and_keeps_what_it_knew_while_redis_is_away(
    gateway: Gateway, settings: Settings, private_server: Server, keys: Keys
) -> None:
    async with running_gateway(settings, catalog=CATALOG) as other:
        both = [gateway.app.dispatch.registry, other.app.dispatch.registry]
        assert [one.shares(MODEL)["v2"] for one in both] == [10, 10]
        await change(private_server, keys, ALL_V2)
        await eventually(lambda: [one.shares(MODEL)["v2"] for one in both] == [100, 100])
    private_server.kill()
    async with httpx.AsyncClient(base_url=gateway.url, timeout=PATIENCE_S) as client:

        async def unready() -> bool:
            return (await client.get("/health/ready")).status_code == 503

        await eventually(unready)
        assert gateway.app.dispatch.registry.shares(MODEL)["v2"] == 100
        told = (await client.get("/v1/models/minilm")).json()["forebay"]["versions"]
        assert [one["share"] for one in told] == [0, 100, 0]


async def test_a_gateway_that_has_never_read_the_shares_answers_nothing_rather_than_guess(
    settings: Settings, private_server: Server
) -> None:
    private_server.kill()
    async with (
        running_gateway(settings, catalog=CATALOG) as gateway,
        httpx.AsyncClient(base_url=gateway.url, timeout=PATIENCE_S) as client,
    ):
        with pytest.raises(Unavailable):
            gateway.app.dispatch.registry.shares(MODEL)
        assert (await client.post("/v1/predictions", json=embed("a"))).status_code == 503
        told = (await client.get("/v1/models/minilm")).json()["forebay"]["versions"]
        assert [one["share"] for one in told] == [None, None, None]
        private_server.start()
        await eventually(lambda: bool(gateway.app.dispatch.registry._split._shares))


async def test_a_name_whose_first_request_died_is_run_by_the_version_it_was_given_to(
    gateway: Gateway, private_server: Server, keys: Keys
) -> None:
    body = json.dumps(embed("a")).encode()
    first = PredictionId.new("minilm@v2")
    redis = connect(private_server.url, timeout_s=TIMEOUT_S)
    claims = Claims(redis, keys)
    await claims.claim("key:mine", first, fingerprint("/v1/predictions", body), ttl_ms=60_000)
    await redis.aclose()
    await change(private_server, keys, {"default": 100})
    await eventually(lambda: gateway.app.dispatch.registry.shares(MODEL)["default"] == 100)
    async with httpx.AsyncClient(base_url=gateway.url, timeout=PATIENCE_S) as client:
        headers = {"Idempotency-Key": "mine"}
        answer = await client.post("/v1/predictions", content=body, headers=headers)
    assert answer.json()["id"] == first.text
    assert answer.headers["x-forebay-version"] == "v2"


async def test_a_shadow_that_nobody_works_for_costs_clients_nothing_and_is_bounded(
    gateway: Gateway, private_server: Server, keys: Keys
) -> None:
    redis = connect(private_server.url, timeout_s=TIMEOUT_S)
    books, lanes = Shadows(redis), keys.of("minilm@mute")
    async with (
        answering(private_server.url, keys, "minilm"),
        answering(private_server.url, keys, "minilm@v2"),
        httpx.AsyncClient(base_url=gateway.url, timeout=PATIENCE_S) as client,
    ):
        for size in (600, 600, 1_500):
            body = {"model": "minilm", "input": ["a"] * size}
            answer = await client.post("/v1/embeddings", json=body)
            assert answer.status_code == 200, answer.text
            assert answer.headers["x-forebay-version"] in ("default", "v2")

        async def told() -> bool:
            told = await books.disagreement(lanes)
            return (told.sent, told.dropped, told.waiting) == (1, 2, 1)

        await eventually(told)
    await redis.aclose()


async def test_a_model_without_versions_asks_redis_for_no_shares(
    private_server: Server, settings: Settings
) -> None:
    alone = Catalog({"minilm": msgspec.structs.replace(MODEL, versions={})})
    client_ = connect(private_server.url, timeout_s=TIMEOUT_S)
    redis: Commands = client_
    calls: dict[Catalog, set[str]] = {}
    for catalog in (alone, CATALOG):
        await redis.execute_command("CONFIG", "RESETSTAT")
        async with (
            running_gateway(settings, catalog=catalog) as gateway,
            httpx.AsyncClient(base_url=gateway.url, timeout=PATIENCE_S) as client,
        ):
            for _ in range(5):
                answer = await client.post("/v1/predictions", json=embed("a"))
                assert answer.status_code == 201
            stats = await redis.execute_command("INFO", "commandstats")
        calls[catalog] = {line.partition(":")[0] for line in stats.decode().split()}
    await client_.aclose()
    assert calls[CATALOG] - calls[alone] == {"cmdstat_xrevrange"}


async def test_of_two_operators_at_once_the_second_is_told(lanes: LaneServer) -> None:
    traffic, keys = Traffic(lanes.redis), lanes.echo
    now = await traffic.current(keys)
    assert now == AS_THE_CATALOG_SAYS
    await traffic.change(keys, ALL_V2, Why.PROMOTE, after=now)
    with pytest.raises(ForebayError, match="Somebody else has just changed"):
        await traffic.change(keys, {"v1": 100}, Why.SET, after=now)
    assert (await traffic.current(keys)).shares == ALL_V2


async def test_rolling_back_goes_one_change_further_back_each_time(lanes: LaneServer) -> None:
    traffic, keys = Traffic(lanes.redis), lanes.echo
    with pytest.raises(NotFound, match="nothing to roll back to"):
        await traffic.roll_back(keys, after=AS_THE_CATALOG_SAYS)
    now = AS_THE_CATALOG_SAYS
    for share in (10.0, 50.0, 100.0):
        now = await traffic.change(keys, {"v2": share}, Why.SET, after=now)
    seen = []
    for _ in range(3):
        now = await traffic.roll_back(keys, after=now)
        seen.append(now.shares)
    assert seen == [{"v2": 50.0}, {"v2": 10.0}, {}]
    with pytest.raises(NotFound, match="nothing to roll back to"):
        await traffic.roll_back(keys, after=now)
    again = await traffic.change(keys, ALL_V2, Why.SET, after=now)
    assert (await traffic.roll_back(keys, after=again)).shares == {}
    assert [one.why for one in await traffic.history(keys)][:2] == [Why.ROLLBACK, Why.SET]


async def test_what_is_no_longer_kept_can_not_be_rolled_back_to(
    real_lanes: LaneServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(traffic_module, "MOST_KEPT", 2)
    traffic, keys = Traffic(real_lanes.redis), real_lanes.echo
    now = AS_THE_CATALOG_SAYS
    for share in (10.0, 50.0, 100.0):
        now = await traffic.change(keys, {"v2": share}, Why.SET, after=now)
    now = await traffic.roll_back(keys, after=now)
    with pytest.raises(NotFound, match="no longer kept"):
        await traffic.roll_back(keys, after=now)
