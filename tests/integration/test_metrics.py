"""What a gateway counts is what it was asked: `GET /metrics`, read as Prometheus would."""

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from forebay.lanes.keys import Keys
from forebay.records.api_keys import ApiKeys, Limits, Scopes
from forebay.runtime.redis import connect
from forebay.runtime.settings import Auth, Settings
from tests.fixtures.answering import answering
from tests.fixtures.gateway import MODELS, running_gateway
from tests.fixtures.servers import TIMEOUT_S

BODY = {"version": "echo", "input": {"value": 1}}
WAIT = {"Prefer": "wait"}
REQUESTS = "http_server_request_duration_seconds"
PREDICTIONS = "forebay_prediction_duration_seconds"

LABELS = {
    REQUESTS: {"forebay_dialect", "http_response_status_code", "le"},
    "http_server_active_requests": {"forebay_dialect"},
    PREDICTIONS: {"forebay_model", "forebay_lane", "forebay_outcome", "le"},
}
"""Every metric of ours, as docs/observability.md has it."""


@pytest.fixture(autouse=True)
async def worker(redis_url: str, keys: Keys) -> AsyncIterator[None]:
    async with answering(redis_url, keys, "echo"):
        yield


async def counts(web: httpx.AsyncClient) -> dict[tuple[str, ...], float]:
    """Every sample there is, by its name and the values of its labels, these by their names."""
    text = (await web.get("/metrics")).text
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def test_counts_are_what_was_sent(web: httpx.AsyncClient) -> None:
    for number in range(200):
        headers = WAIT if number % 2 else {}
        assert (await web.post("/v1/predictions", json=BODY, headers=headers)).is_success
    assert (await web.post("/v1/predictions", content=b"{")).status_code == 400
    assert (await web.get("/v1/models")).is_success
    assert (await web.get("/v2/models/none")).status_code == 404
    found = await counts(web)
    assert found[f"{REQUESTS}_count", "replicate", "201"] == 200
    assert found[f"{REQUESTS}_count", "replicate", "400"] == 1
    assert found[f"{REQUESTS}_count", "openai", "200"] == 1
    assert found[f"{REQUESTS}_count", "oip", "404"] == 1
    assert found[f"{PREDICTIONS}_count", "realtime", "echo", "succeeded"] == 100
    assert found[f"{PREDICTIONS}_count", "bulk", "echo", "starting"] == 100
    assert found[f"{REQUESTS}_bucket", "replicate", "201", "+Inf"] == 200
    assert found["http_server_active_requests", "replicate"] == 0
    assert found["http_server_active_requests", "none"] == 1  # who asks this
    assert found["process_cpu_seconds_total",] > 0


PAGE = (Path(__file__).parents[2] / "docs" / "observability.md").read_text("utf-8")


async def test_every_metric_is_on_the_page_with_its_labels(web: httpx.AsyncClient) -> None:
    await web.post("/v1/predictions", json=BODY, headers=WAIT)
    seen: dict[str, set[str]] = {}
    for family in text_string_to_metric_families((await web.get("/metrics")).text):
        if family.name.startswith("process_"):
            continue
        labels = {name for sample in family.samples for name in sample.labels}
        seen[family.name] = labels
        assert f"| `{family.name}` | {family.type} | " in PAGE
        assert all(f"`{label}`" in PAGE for label in labels - {"le"})
    assert seen == LABELS


async def test_where_keys_are_asked_for_metrics_take_one_of_who_may_watch(
    settings: Settings, keys: Keys, redis_url: str
) -> None:
    redis = connect(redis_url, timeout_s=TIMEOUT_S)
    store = ApiKeys(redis, keys)
    tokens = {
        name: (await store.create(name=name, scopes=scopes, limits=Limits()))[1]
        for name, scopes in (("plain", Scopes()), ("watching", Scopes(dashboard=True)))
    }
    await redis.aclose()
    own = msgspec.structs.replace(settings, auth=Auth.KEYS)
    async with (
        running_gateway(own, catalog=MODELS) as gateway,
        httpx.AsyncClient(base_url=gateway.url) as web,
    ):
        assert (await web.get("/metrics")).status_code == 401
        for name, status in (("plain", 403), ("watching", 200)):
            web.headers["authorization"] = f"Bearer {tokens[name]}"
            assert (await web.get("/metrics")).status_code == status
        found = await counts(web)
    assert found[f"{REQUESTS}_count", "none", "401"] == 1
    assert found[f"{REQUESTS}_count", "none", "403"] == 1
