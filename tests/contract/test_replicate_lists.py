"""Lists of predictions in pages: over HTTP, against real lanes."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import msgspec
import pytest
from replicate.client import Client
from replicate.pagination import paginate

from forebay.gateway import listings
from forebay.lanes import scripts
from forebay.lanes.keys import Keys
from forebay.runtime.catalog import Catalog
from forebay.runtime.redis import Commands, connect
from tests.fixtures.answering import answering
from tests.fixtures.gateway import MODELS, Gateway, running_gateway
from tests.fixtures.lanes import submission
from tests.fixtures.replicating import aside
from tests.fixtures.servers import TIMEOUT_S
from tests.fixtures.waiting import PATIENCE_S

LIST = "/v1/predictions"


@pytest.fixture
def catalog() -> Catalog:
    return MODELS


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Commands]:
    redis = connect(redis_url, timeout_s=TIMEOUT_S)
    yield redis
    await redis.aclose()


async def make(web: httpx.AsyncClient, number: int, *, model: str = "echo") -> str:
    input_ = {"value": number} if model == "echo" else {"text": f"number {number}"}
    answer = await web.post("/v1/predictions", json={"version": model, "input": input_})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


async def page_at(web: httpx.AsyncClient, url: str, **query: str) -> dict[str, Any]:
    answer = await web.get(url, params=query or None)
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = answer.json()
    assert set(told) == {"previous", "next", "results"}
    return told


def ids(page: dict[str, Any]) -> list[str]:
    return [one["id"] for one in page["results"]]


async def test_pages_lead_to_each_other_in_both_directions_over_all_models(
    web: httpx.AsyncClient,
) -> None:
    made = [
        await make(web, number, model=("echo", "minilm", "narrow")[number % 3])
        for number in range(2 * listings.PAGE + 5)
    ]
    first = await page_at(web, LIST)
    second = await page_at(web, first["next"])
    assert first["previous"] is None
    assert [len(ids(page)) for page in (first, second)] == [listings.PAGE] * 2
    # Of several models in the same millisecond nobody can tell which came first.
    assert set(ids(first)) < set(made[listings.PAGE :])
    # What comes meanwhile moves nothing.
    newer = await make(web, 0)
    third = await page_at(web, second["next"])
    assert third["next"] is None
    assert sorted(ids(first) + ids(second) + ids(third)) == sorted(made)
    again = await page_at(web, third["previous"])
    assert ids(again) == ids(second)
    assert ids(await page_at(web, again["next"])) == ids(third)
    back = await page_at(web, again["previous"])
    assert ids(back) == ids(first)
    newest = await page_at(web, back["previous"])
    assert (newest["previous"], ids(newest)) == (None, [newer])
    assert ids(await page_at(web, newest["next"])) == ids(first)
    nothing = await page_at(web, (await page_at(web, LIST))["next"], created_after="2999-01-01")
    assert nothing["results"] == []


async def test_many_that_came_at_once_are_each_told_once(
    web: httpx.AsyncClient, replicate: Client
) -> None:
    made = await asyncio.gather(
        *(make(web, n, model=("echo", "minilm")[n % 2]) for n in range(150))
    )

    def read() -> list[str]:
        return [one.id for page in paginate(replicate.predictions.list) for one in page]

    told = await aside(read)
    assert len(told) == 150
    assert set(told) == set(made)


async def test_an_entry_is_the_prediction_as_it_is_by_itself(
    web: httpx.AsyncClient, redis_url: str, keys: Keys
) -> None:
    async with answering(redis_url, keys, "echo"):
        for value in ("a", None, [1, {"b": 2}]):
            body = {"version": "echo", "input": {"value": value}}
            await web.post("/v1/predictions", json=body, headers={"Prefer": "wait"})
        failed = {"version": "echo", "input": {"value": 1}}
        made = (await web.post("/v1/predictions", json=failed)).json()
        await web.post(made["urls"]["cancel"])
    waiting = await make(web, 0, model="minilm")
    told = await page_at(web, LIST)
    assert ids(told)[0] == waiting
    for one in told["results"]:
        alone = (await web.get(one["urls"]["get"])).json()
        assert one == alone


async def test_what_nobody_can_come_back_for_is_not_listed(
    web: httpx.AsyncClient, redis_url: str, keys: Keys
) -> None:
    async with answering(redis_url, keys, "minilm"):
        body = {"model": "minilm", "input": "a"}
        for headers in ({}, {"Idempotency-Key": "mine"}):
            answer = await web.post("/v1/embeddings", json=body, headers=headers)
            assert answer.status_code == 200
    assert (await page_at(web, LIST))["results"] == []


async def test_a_request_that_comes_again_is_listed_once(web: httpx.AsyncClient) -> None:
    body = {"version": "echo", "input": {"value": 1}}
    key = {"Idempotency-Key": "once"}
    first, second = [(await web.post(LIST, json=body, headers=key)).json() for _ in range(2)]
    assert first["id"] == second["id"]
    own = (await web.put(f"{LIST}/my-own-id", json=body)).json()
    assert own["id"] == "my-own-id"
    told = await page_at(web, LIST)
    # An id of a client's own leads to the one that is listed.
    assert ids(told)[1:] == [first["id"]]
    assert len(told["results"]) == 2


async def test_those_created_in_a_time_are_told(
    web: httpx.AsyncClient, redis: Commands, keys: Keys
) -> None:
    now = datetime.now(UTC).replace(microsecond=0)
    times = [now - timedelta(seconds=seconds) for seconds in (30, 20, 10)]
    made = [
        msgspec.structs.replace(
            submission(input=b'{"value": 1}'), created_at_ms=int(time.timestamp() * 1000)
        )
        for time in times
    ]
    of_echo = keys.of("echo")
    for one in made:
        await scripts.enqueue(
            redis,
            of_echo,
            records=[of_echo.record(one.id.text)],
            bounds=(100, 100),
            args=one.args(),
        )
    oldest, middle, newest = (one.id.text for one in made)
    at = [time.isoformat() for time in times]
    assert ids(await page_at(web, LIST, created_after=at[1])) == [newest, middle]
    assert ids(await page_at(web, LIST, created_before=at[1])) == [middle, oldest]
    both = {"created_after": at[1], "created_before": at[1].replace("+00:00", "Z")}
    assert ids(await page_at(web, LIST, **both)) == [middle]
    later = (now + timedelta(days=1)).date().isoformat()
    assert ids(await page_at(web, LIST, created_after=later)) == []
    for long_ago in ("0001-01-01T00:00:00+14:00", "1969-12-31"):
        assert ids(await page_at(web, LIST, created_before=long_ago)) == []
        assert ids(await page_at(web, LIST, created_after=long_ago)) == [newest, middle, oldest]


async def test_the_times_asked_for_hold_on_the_pages_beside(
    web: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listings, "PAGE", 1)
    made = [await make(web, number) for number in range(3)][::-1]
    first = await page_at(web, LIST, created_after="2020-01-01")
    assert "created_after=2020-01-01" in first["next"]
    second = await page_at(web, first["next"])
    assert ids(first) + ids(second) == made[:2]
    assert ids(await page_at(web, second["previous"])) == ids(first)


async def test_large_outputs_make_pages_short(
    web: httpx.AsyncClient, redis_url: str, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listings, "PAGE_BYTES", 3_000)
    async with answering(redis_url, keys, "echo"):
        for _ in range(5):
            body = {"version": "echo", "input": {"value": "x" * 1_000}}
            await web.post("/v1/predictions", json=body, headers={"Prefer": "wait"})
    sizes, url = [], LIST
    while url:
        page = await page_at(web, url)
        sizes.append(len(page["results"]))
        url = page["next"]
    assert sizes == [2, 2, 1]


async def test_what_is_gone_is_left_out_and_the_page_filled_from_what_follows(
    web: httpx.AsyncClient, redis: Commands, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = [await make(web, number) for number in range(40)][::-1]
    for id_ in made[:30]:
        await redis.execute_command("DEL", keys.of("echo").record(id_))
    # A record of another release's, or a damaged one, hides no other.
    await redis.execute_command("HSET", keys.of("echo").record(made[31]), "er", b"\xff")
    assert ids(await page_at(web, LIST)) == [made[30], *made[32:]]
    monkeypatch.setattr(listings, "MOST_LOOKED_UP", 20)
    first = await page_at(web, LIST)
    assert ids(first) == []
    assert ids(await page_at(web, first["next"])) == [made[30], *made[32:]]


async def test_what_a_model_had_that_is_in_the_catalog_no_more_is_listed_once_it_was_swept(
    web: httpx.AsyncClient, gateway: Gateway, redis: Commands, keys: Keys
) -> None:
    made = await make(web, 1)
    await redis.execute_command("SADD", keys.models, "echo")
    without = Catalog({"minilm": MODELS.models["minilm"]})
    async with (
        running_gateway(gateway.settings, catalog=without) as other,
        httpx.AsyncClient(base_url=other.url, timeout=PATIENCE_S) as elsewhere,
    ):
        assert ids(await page_at(elsewhere, LIST)) == [made]


@pytest.mark.parametrize(
    ("query", "param", "said"),
    [
        ({"cursor": "nonsense"}, "cursor", "no cursor"),
        ({"cursor": "é"}, "cursor", "no cursor"),
        ({"cursor": "b2xkZXIgLTEgMCBlY2hv"}, "cursor", "no cursor"),
        ({"cursor": "c2lkZXdheXMgMSAwIGVjaG8"}, "cursor", "no cursor"),
        ({"created_after": "yesterday"}, "created_after", "ISO 8601"),
        ({"created_before": ""}, "created_before", "ISO 8601"),
        ({"limit": "5"}, "limit", "only cursor, created_after, created_before"),
    ],
)
async def test_a_parameter_that_is_wrong_is_named(
    web: httpx.AsyncClient, query: dict[str, str], param: str, said: str
) -> None:
    answer = await web.get(LIST, params=query)
    assert (answer.status_code, answer.json()["param"]) == (422, param)
    assert said in answer.json()["detail"]


async def test_lists_of_models_have_pages_too(settings: Any) -> None:
    echo = MODELS.models["echo"]
    many = Catalog(
        {
            name: msgspec.structs.replace(echo, name=name)
            for name in (f"echo{number:03}" for number in range(205))
        }
    )
    async with (
        running_gateway(settings, catalog=many) as running,
        httpx.AsyncClient(base_url=f"{running.url}/replicate", timeout=PATIENCE_S) as web,
    ):
        for path in ("/v1/models", "/v1/deployments"):
            first = await page_at(web, path)
            second = await page_at(web, first["next"])
            third = await page_at(web, second["next"])
            names = [one["name"] for page in (first, second, third) for one in page["results"]]
            assert names == sorted(many.models)
            assert (first["previous"], third["next"]) == (None, None)
            assert await page_at(web, third["previous"]) == second
            assert await page_at(web, second["previous"]) == first
        answer = await web.get("/v1/models", params={"cursor": "~"})
        assert (answer.status_code, answer.json()["param"]) == (422, "cursor")
        assert (await web.head("/v1/deployments")).status_code == 200
