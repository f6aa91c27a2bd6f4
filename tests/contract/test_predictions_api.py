"""The predictions API over a real socket, against real lanes."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from forebay.contract.model import ModelSpec
from forebay.gateway.versions import Serving
from forebay.lanes.depth import depth
from forebay.lanes.keys import Keys
from forebay.runtime.redis import connect
from forebay.runtime.settings import Settings
from tests.fixtures.answering import DIMENSIONS, VERSION, answering
from tests.fixtures.gateway import Gateway, running_gateway
from tests.fixtures.servers import TIMEOUT_S
from tests.fixtures.waiting import PATIENCE_S, eventually

FIELDS = {
    "id",
    "model",
    "version",
    "status",
    "input",
    "output",
    "error",
    "logs",
    "metrics",
    "created_at",
    "started_at",
    "completed_at",
    "urls",
    "data_removed",
    "deadline",
}
WAIT = {"Prefer": "wait"}


DIGEST = VERSION + "0" * 52


class Versions:
    """Says that the version of this suite's worker serves `minilm`; of others it can't tell."""

    def serving(self, spec: ModelSpec) -> Serving | None:
        return Serving(DIGEST, DIMENSIONS) if spec.name == "minilm" else None


@pytest.fixture
async def gateway(redis_url: str, key_prefix: str) -> AsyncIterator[Gateway]:
    settings = Settings(redis_url=redis_url, key_prefix=key_prefix)
    async with running_gateway(settings, versions=Versions()) as running:
        yield running


@pytest.fixture
async def client(gateway: Gateway) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=gateway.url, timeout=PATIENCE_S) as client:
        yield client


@pytest.fixture
async def minilm(redis_url: str, keys: Keys) -> AsyncIterator[None]:
    async with answering(redis_url, keys, "minilm"):
        yield


async def rows_on_lanes(redis_url: str, keys: Keys, model: str) -> int:
    redis = connect(redis_url, timeout_s=TIMEOUT_S)
    try:
        told = await depth(redis, keys.of(model), now_ms=0)
    finally:
        await redis.aclose()
    return told.realtime + told.bulk


@pytest.mark.parametrize(("mount", "model"), [("", "minilm"), ("/replicate", "forebay/minilm")])
async def test_a_prediction_that_is_waited_for_comes_with_its_output(
    client: httpx.AsyncClient, minilm: None, mount: str, model: str
) -> None:
    answer = await client.post(
        f"{mount}/v1/predictions",
        json={"version": "minilm", "input": {"text": "hello world"}},
        headers=WAIT,
    )
    assert answer.status_code == 201
    told = answer.json()
    assert set(told) == FIELDS
    assert told["status"] == "succeeded"
    assert (told["model"], told["version"]) == (model, VERSION)
    assert told["input"] == {"text": "hello world"}
    assert len(told["output"]) == DIMENSIONS
    assert told["metrics"]["predict_time"] == 0.003
    assert told["urls"]["get"] == f"{client.base_url}{mount}/v1/predictions/{told['id']}"
    assert answer.headers["server-timing"] == "queue;dur=1.00, batch;dur=2.00, compute;dur=3.00"
    assert answer.headers["x-request-id"]


async def test_a_prediction_can_be_read_back_as_it_was_answered(
    client: httpx.AsyncClient, minilm: None
) -> None:
    body = {"version": "minilm", "input": {"text": ["one", "two words"], "truncate": False}}
    made = (await client.post("/v1/predictions", json=body, headers=WAIT)).json()
    answer = await client.get(made["urls"]["get"])
    assert answer.status_code == 200
    read = answer.json()
    for moving in ("created_at", "deadline", "completed_at", "metrics"):
        # The server's clock has the last word on these; both are told to the millisecond.
        made.pop(moving)
        assert read.pop(moving)
    assert read == made
    assert len(read["output"]) == 2


async def test_any_json_value_comes_back_from_echo_as_it_was(
    client: httpx.AsyncClient, redis_url: str, keys: Keys
) -> None:
    values: list[Any] = [None, 1, "é\n", [1, [2.5, {}]], {"a": {"b": [True, False, None]}}]
    async with answering(redis_url, keys, "echo"):
        for value in values:
            body = {"version": "echo", "input": {"value": value}}
            told = (await client.post("/v1/predictions", json=body, headers=WAIT)).json()
            assert told["output"] == value
            read = (await client.get(f"/v1/predictions/{told['id']}")).json()
            assert (read["output"], read["input"]) == (value, {"value": value})


async def test_without_prefer_the_answer_comes_at_once_and_the_result_later(
    client: httpx.AsyncClient, redis_url: str, keys: Keys
) -> None:
    body = {"version": "minilm", "input": {"text": "later"}}
    answer = await client.post("/v1/predictions", json=body)
    assert answer.status_code == 201
    made = answer.json()
    assert (made["status"], made["output"], made["completed_at"]) == ("starting", None, None)
    path = f"/v1/predictions/{made['id']}"
    assert (await client.get(path)).json()["status"] == "starting"

    async def status() -> bool:
        told: dict[str, Any] = (await client.get(path)).json()
        return bool(told["status"] == "succeeded" and len(told["output"]) == DIMENSIONS)

    async with answering(redis_url, keys, "minilm"):
        await eventually(status)


async def test_when_the_wait_runs_out_the_prediction_is_still_starting_and_goes_on(
    client: httpx.AsyncClient, redis_url: str, keys: Keys
) -> None:
    body = {"version": "minilm", "input": {"text": "slow"}}
    answer = await client.post("/v1/predictions", json=body, headers={"Prefer": "wait=1"})
    assert answer.status_code == 201
    made = answer.json()
    assert made["status"] == "starting"

    async def succeeded() -> bool:
        told = (await client.get(f"/v1/predictions/{made['id']}")).json()
        return bool(told["status"] == "succeeded")

    async with answering(redis_url, keys, "minilm"):
        await eventually(succeeded)


async def test_a_prediction_that_fails_is_answered_with_its_error(
    client: httpx.AsyncClient, minilm: None
) -> None:
    body = {"version": "minilm", "input": {"text": ["short", "far too long " * 20]}}
    answer = await client.post("/v1/predictions", json=body, headers=WAIT)
    assert answer.status_code == 201
    told = answer.json()
    assert (told["status"], told["output"]) == ("failed", None)
    assert told["error"] == "Row 1: too long for the model."
    read = (await client.get(f"/v1/predictions/{told['id']}")).json()
    assert (read["status"], read["error"]) == ("failed", told["error"])


async def test_what_is_too_long_is_cut_if_asked(client: httpx.AsyncClient, minilm: None) -> None:
    body = {"version": "minilm", "input": {"text": "far too long " * 20, "truncate": True}}
    told = (await client.post("/v1/predictions", json=body, headers=WAIT)).json()
    assert told["status"] == "succeeded"


@pytest.mark.parametrize(
    "version", [f"minilm:{VERSION}", f"minilm:{DIGEST}", VERSION, DIGEST, DIGEST[:20]]
)
async def test_the_version_that_serves_may_be_asked_for_with_a_name_or_alone(
    client: httpx.AsyncClient, minilm: None, version: str
) -> None:
    body = {"version": version, "input": {"text": "a"}}
    told = (await client.post("/v1/predictions", json=body, headers=WAIT)).json()
    assert (told["status"], told["model"]) == ("succeeded", "minilm")
    assert told["version"] == VERSION


async def test_the_version_is_the_same_from_the_start_to_the_end_and_may_be_asked_for_again(
    client: httpx.AsyncClient, redis_url: str, keys: Keys
) -> None:
    body = {"version": "minilm", "input": TEXT}
    made = (await client.post("/v1/predictions", json=body)).json()
    path = f"/v1/predictions/{made['id']}"
    waiting = (await client.get(path)).json()
    assert (made["status"], waiting["status"]) == ("starting", "starting")
    assert (made["version"], waiting["version"]) == (VERSION, VERSION)

    async def done() -> dict[str, Any] | None:
        told: dict[str, Any] = (await client.get(path)).json()
        return told if told["status"] == "succeeded" else None

    async with answering(redis_url, keys, "minilm"):
        ended = await eventually(done)
        assert ended["version"] == VERSION
        again = {"version": ended["version"], "input": TEXT}
        told = (await client.post("/v1/predictions", json=again, headers=WAIT)).json()
    assert (told["status"], told["model"], told["version"]) == ("succeeded", "minilm", VERSION)


async def test_where_the_gateway_can_not_tell_the_version_is_the_models_name_until_it_has_run(
    client: httpx.AsyncClient, redis_url: str, keys: Keys
) -> None:
    body = {"version": "echo", "input": {"value": 1}}
    made = (await client.post("/v1/predictions", json=body)).json()
    assert made["version"] == "echo"
    path = f"/v1/predictions/{made['id']}"
    assert (await client.get(path)).json()["version"] == "echo"

    async def ran_by() -> bool:
        told: dict[str, Any] = (await client.get(path)).json()
        return bool(told["status"] == "succeeded" and told["version"] == VERSION)

    async with answering(redis_url, keys, "echo"):
        await eventually(ran_by)


TEXT = {"text": "a"}


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        ({"version": "nothing", "input": TEXT}, 404, "version"),
        ({"version": "minilm:ffffffffffff", "input": TEXT}, 404, "version"),
        ({"version": "minilm:abc", "input": TEXT}, 422, "version"),
        ({"version": "f" * 12, "input": TEXT}, 404, "version"),
        ({"version": VERSION[:11], "input": TEXT}, 404, "version"),
        ({"version": "minilm", "input": {"text": []}}, 422, "input.text"),
        ({"version": "minilm", "input": {"text": ""}}, 422, "input.text"),
        ({"version": "minilm", "input": {"text": ["a"] * 2_049}}, 422, "input.text"),
        ({"version": "minilm", "input": {"text": 5}}, 422, "input.text"),
        ({"version": "minilm", "input": {"text": ["a", None]}}, 422, "input.text[1]"),
        ({"version": "minilm", "input": {"texts": "a"}}, 422, "input.texts"),
        ({"version": "minilm", "input": []}, 422, "input"),
        ({"version": "minilm"}, 422, "input"),
        ({"input": TEXT}, 422, "version"),
        ({"version": "minilm", "input": TEXT, "webhook": "x.test"}, 422, "webhook"),
        ({"version": "minilm", "input": TEXT, "webhook": "http://10.0.0.1"}, 422, "webhook"),
        ({"version": "minilm", "input": TEXT, "webhook": 7}, 422, "webhook"),
        ({"version": "minilm", "input": TEXT, "stream": True}, 422, "stream"),
    ],
)
async def test_bad_input_is_a_problem_that_names_the_field_and_nothing_is_enqueued(
    client: httpx.AsyncClient,
    redis_url: str,
    keys: Keys,
    body: dict[str, Any],
    status: int,
    param: str,
) -> None:
    answer = await client.post("/v1/predictions", json=body, headers=WAIT)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    told = answer.json()
    assert set(told) == {"type", "title", "status", "detail", "instance", "param"}
    assert (told["status"], told["param"]) == (status, param)
    assert await rows_on_lanes(redis_url, keys, "minilm") == 0


@pytest.mark.parametrize("body", [b"", b"{", b"nonsense", b'{"version": "\xff"}', b"[" * 100_000])
async def test_a_body_that_is_not_json_is_a_400(client: httpx.AsyncClient, body: bytes) -> None:
    answer = await client.post("/v1/predictions", content=body, headers=WAIT)
    assert answer.status_code in {400, 422}
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    "path", ["/v1/predictions/nothing", "/v1/predictions/minilm-0-" + "0" * 20]
)
async def test_a_prediction_that_is_not_there_is_a_404(
    client: httpx.AsyncClient, path: str
) -> None:
    answer = await client.get(path)
    assert answer.status_code == 404
    assert answer.json()["type"] == "urn:forebay:problem:not_found"


async def test_a_wait_out_of_range_is_refused(client: httpx.AsyncClient) -> None:
    body = {"version": "minilm", "input": TEXT}
    answer = await client.post("/v1/predictions", json=body, headers={"Prefer": "wait=100"})
    assert answer.status_code == 422
    assert answer.json()["param"] == "Prefer"


async def test_many_at_once_each_get_their_own_answer(
    client: httpx.AsyncClient, redis_url: str, keys: Keys
) -> None:
    async def ask(number: int) -> bool:
        body = {"version": "echo", "input": {"value": number}}
        told = (await client.post("/v1/predictions", json=body, headers=WAIT)).json()
        return bool(told["output"] == number)

    async with answering(redis_url, keys, "echo"):
        assert all(await asyncio.gather(*(ask(number) for number in range(200))))


async def test_a_result_can_be_read_from_another_gateway(
    client: httpx.AsyncClient, gateway: Gateway, minilm: None
) -> None:
    body = {"version": "minilm", "input": TEXT}
    made = (await client.post("/v1/predictions", json=body, headers=WAIT)).json()
    async with (
        running_gateway(gateway.settings) as other,
        httpx.AsyncClient(base_url=other.url, timeout=PATIENCE_S) as elsewhere,
    ):
        read = (await elsewhere.get(f"/v1/predictions/{made['id']}")).json()
    assert read["output"] == made["output"]
