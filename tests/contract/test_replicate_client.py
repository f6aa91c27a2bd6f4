"""The usage examples of Replicate's client, from its README, with our models' names.

The code of the examples is theirs, word for word where it is code; what is asserted is ours.
"""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from replicate.client import Client
from replicate.exceptions import ModelError, ReplicateError
from replicate.pagination import async_paginate, paginate

from forebay.contract.generation import GenerationTable
from forebay.contract.prediction import Timing
from forebay.inference.generation.echo import EchoGenerator
from forebay.lanes.keys import Keys
from forebay.runtime import catalog as catalogs
from forebay.runtime.catalog import Catalog
from forebay.runtime.settings import Settings
from tests.fixtures.answering import DIMENSIONS, VERSION, answering
from tests.fixtures.gateway import Gateway, running_gateway
from tests.fixtures.generating import generating
from tests.fixtures.lanes import join, read, settlement
from tests.fixtures.replicating import (
    CATALOG,
    DIGEST,
    PARROTS,
    Versions,
    aside,
    client_of,
    hang_up,
)
from tests.fixtures.servers import LaneServer
from tests.fixtures.waiting import PATIENCE_S

HAIKU = "Please write a haiku about llamas."
SPLIT = """
[models.echo]
task = "echo"
backend = "echo"
version = "v1"

[models.echo.versions.v2]
weight = 100

[models.other]
task = "echo"
backend = "echo"
"""


@pytest.fixture
def catalog() -> Catalog:
    return CATALOG


@pytest.fixture
async def gateway(settings: Settings, catalog: Catalog) -> AsyncIterator[Gateway]:
    async with running_gateway(settings, catalog=catalog, versions=Versions()) as running:
        yield running


@pytest.fixture
async def minilm(redis_url: str, keys: Keys) -> AsyncIterator[None]:
    async with answering(redis_url, keys, "minilm"):
        yield


@pytest.fixture
async def worker(redis_url: str, keys: Keys) -> AsyncIterator[None]:
    async with generating(redis_url, keys):
        yield


@pytest.fixture
async def slow(redis_url: str, keys: Keys) -> AsyncIterator[None]:
    async with generating(redis_url, keys, EchoGenerator(GenerationTable(tokens_per_s=20))):
        yield


async def test_run_a_model(replicate: Client, minilm: None, worker: None) -> None:
    def example() -> Any:
        return replicate.run("forebay/parrot", input={"prompt": HAIKU})

    assert "".join(await aside(example)) == HAIKU
    vector: Any = await aside(lambda: replicate.run("forebay/minilm", {"text": "a"}))
    assert len(vector) == DIMENSIONS
    pinned = f"forebay/minilm:{DIGEST}"
    assert await aside(lambda: replicate.run(pinned, {"text": "a"})) == vector
    assert await replicate.async_run("forebay/minilm", {"text": "a"}) == vector
    assert await replicate.async_run(pinned, {"text": "a"}, wait=False) == vector


async def test_an_address_in_an_output_is_a_file_unless_that_is_declined(
    replicate: Client, redis_url: str, keys: Keys
) -> None:
    value = {"value": ["data:text/plain;base64,aGVsbG8=", "plain"]}
    async with answering(redis_url, keys, "echo"):
        file, plain = await aside(lambda: replicate.run("forebay/echo", value))
        assert (file.read(), await file.aread(), plain) == (b"hello", b"hello", "plain")
        said = await aside(lambda: replicate.run("forebay/echo", value, use_file_output=False))
    assert said == value["value"]


async def test_a_prediction_that_fails_is_a_model_error(replicate: Client, minilm: None) -> None:
    def example() -> str:
        try:
            replicate.run("forebay/minilm", {"text": "far too long " * 20})
        except ModelError as e:
            if "(some known issue)" in e.prediction.logs:  # type: ignore[operator]  # theirs
                pass

            return "Failed prediction: " + e.prediction.id
        return ""

    told = await aside(example)
    failed = await replicate.predictions.async_get(told.removeprefix("Failed prediction: "))
    assert (failed.status, failed.error) == ("failed", "Row 0: too long for the model.")
    with pytest.raises(ModelError, match="too long"):
        await replicate.async_run("forebay/minilm", {"text": "far too long " * 20})


async def test_run_several_predictions_at_once(replicate: Client, worker: None) -> None:
    model_version = f"forebay/parrot:{PARROTS}"
    prompts = [
        f"A chariot pulled by a team of {count} rainbow unicorns"
        for count in ["two", "four", "six", "eight"]
    ]

    async with asyncio.TaskGroup() as tg:
        tasks = [
            tg.create_task(replicate.async_run(model_version, input={"prompt": prompt}))
            for prompt in prompts
        ]

    results = await asyncio.gather(*tasks)
    assert ["".join([piece async for piece in pieces]) for pieces in results] == prompts


async def test_run_a_model_and_stream_its_output(
    replicate: Client, worker: None, capsys: pytest.CaptureFixture[str]
) -> None:
    def example() -> None:
        for event in replicate.stream(
            "forebay/parrot",
            input={
                "prompt": "Please write a haiku about llamas.",
            },
        ):
            print(str(event), end="")

    await aside(example)
    assert capsys.readouterr().out == HAIKU

    def afterwards() -> None:
        prediction = replicate.predictions.create(
            model="forebay/parrot",
            input={"prompt": "Please write a haiku about llamas."},
            stream=True,
        )

        for event in prediction.stream():
            print(str(event), end="")

    await aside(afterwards)
    assert capsys.readouterr().out == HAIKU
    events = [e async for e in await replicate.async_stream("forebay/parrot", {"prompt": HAIKU})]
    assert "".join(map(str, events)) == HAIKU
    assert events[-1].data == "{}"
    made = await replicate.predictions.async_create(
        model="forebay/parrot", input={"prompt": HAIKU}, stream=True
    )
    assert "".join([str(event) async for event in made.async_stream()]) == HAIKU


async def test_run_a_model_in_the_background(
    replicate: Client, real_lanes: LaneServer, capsys: pytest.CaptureFixture[str]
) -> None:
    def begin() -> Any:
        model = replicate.models.get("forebay/echo")
        version = model.versions.get("echo")
        return replicate.predictions.create(
            version=version, input={"value": "Watercolor painting of an underwater submarine"}
        )

    prediction = await aside(begin)
    assert prediction.status == "starting"
    assert dict(prediction)["status"] == "starting"
    assert prediction.model == "forebay/echo"
    worker = await join(real_lanes)
    (delivery,) = await read(worker, 1)

    def look() -> None:
        prediction.reload()
        print(prediction.logs)

    await aside(look)
    assert (prediction.status, prediction.output) == ("processing", None)
    assert capsys.readouterr().out == "\n"
    waiting = asyncio.create_task(prediction.async_wait())
    done = settlement(delivery, started_at_ms=1, timing=Timing(1, 2, 250))
    await worker.settle([done])
    await asyncio.wait_for(waiting, PATIENCE_S)
    assert (prediction.status, prediction.output) == ("succeeded", 0)
    assert prediction.metrics["predict_time"] == 0.25
    assert prediction.metrics["total_time"] >= 0
    assert prediction.completed_at >= prediction.started_at


async def test_get_output_from_a_running_model(replicate: Client, slow: None) -> None:
    def example() -> list[str]:
        iterator = replicate.run(
            f"forebay/parrot:{PARROTS}", input={"prompt": "san francisco sunset"}, wait=False
        )

        return [piece for index, piece in enumerate(iterator)]

    assert "".join(await aside(example)) == "san francisco sunset"


async def test_cancel_a_prediction(replicate: Client) -> None:
    def example() -> tuple[str, str, str]:
        model = replicate.models.get("forebay/minilm")
        version = model.versions.get(VERSION)
        prediction = replicate.predictions.create(version=version, input={"text": "a"})
        first = prediction.status

        prediction.cancel()
        then = prediction.status

        prediction.reload()
        return first, then, prediction.status

    assert await aside(example) == ("starting", "canceled", "canceled")
    made = await replicate.predictions.async_create(VERSION, {"text": "a"})
    await made.async_cancel()
    assert (made.status, made.output) == ("canceled", None)
    # A second time, and after the end, it stays as it is.
    await made.async_cancel()
    await made.async_reload()
    await made.async_wait()
    assert made.status == "canceled"


async def test_list_predictions(replicate: Client, minilm: None) -> None:
    def example() -> list[list[Any]]:
        page1 = replicate.predictions.list()

        pages = [page1.results]
        if page1.next:
            page2 = replicate.predictions.list(page1.next)
            pages.append(page2.results)
        return pages

    assert await aside(example) == [[]]
    for text in ("first", "second"):
        await replicate.async_run("forebay/minilm", {"text": text})
    ((second, first),) = await aside(example)
    assert (first.input, second.input) == ({"text": "first"}, {"text": "second"})
    await aside(second.reload)
    assert (second.status, len(second.output)) == ("succeeded", DIMENSIONS)
    (page,) = [page async for page in async_paginate(replicate.predictions.async_list)]
    assert [one.id for one in page] == [second.id, first.id]


async def test_list_models(replicate: Client) -> None:
    def example() -> list[Any]:
        # Automatic pagination using `replicate.paginate` (recommended)
        models: list[Any] = []
        for page in paginate(replicate.models.list):
            models.extend(page.results)
            if len(models) > 100:
                break

        # Manual pagination using `next` cursors
        page = replicate.models.list()
        while page:
            models.extend(page.results)
            if len(models) > 100:
                break
            page = replicate.models.list(page.next) if page.next else None  # type: ignore[assignment]  # theirs
        return models

    models = await aside(example)
    assert [model.id for model in models] == 2 * [
        "forebay/echo",
        "forebay/minilm",
        "forebay/parrot",
    ]
    assert (await replicate.models.async_get("forebay/minilm")).description == "Embeds short texts."
    found = await aside(lambda: replicate.models.search("short TEXTS"))
    assert [model.name for model in found] == ["minilm"]
    assert len(await replicate.models.async_search("nothing of the kind")) == 0
    (version,) = await aside(models[1].versions.list)
    assert version.id == VERSION
    assert {"Input", "Output"} <= version.openapi_schema["components"]["schemas"].keys()


async def test_collections_hardware_and_whose_all_this_is(replicate: Client) -> None:
    def example() -> list[Any]:
        return [collection for page in paginate(replicate.collections.list) for collection in page]

    collections = await aside(example)
    assert [one.slug for one in collections] == ["echo", "embedding", "generation"]
    assert collections[1].description == "Models of the task 'embedding'."
    models = (await aside(lambda: replicate.collections.get("embedding"))).models or []
    assert [model.id for model in models] == ["forebay/minilm"]
    assert [hw.sku for hw in await aside(replicate.hardware.list)] == ["cpu"]
    assert (await aside(replicate.accounts.current)).username == "forebay"
    with pytest.raises(ReplicateError, match="Collections: echo, embedding, generation"):
        await replicate.collections.async_get("text-to-image")


async def test_deployments_are_models_with_their_bounds(replicate: Client, minilm: None) -> None:
    def example() -> Any:
        deployment = replicate.deployments.get("forebay/minilm")
        prediction = deployment.predictions.create(input={"text": "a"})
        prediction.wait()
        return deployment, prediction

    deployment, prediction = await aside(example)
    assert (prediction.status, prediction.model) == ("succeeded", "forebay/minilm")
    release = deployment.current_release
    assert (release.number, release.model, release.version) == (1, "forebay/minilm", VERSION)
    bounds = release.configuration
    assert (bounds.hardware, bounds.min_instances, bounds.max_instances) == ("cpu", 0, 4)
    (page,) = [page async for page in async_paginate(replicate.deployments.async_list)]
    assert [one.id for one in page] == ["forebay/echo", "forebay/minilm", "forebay/parrot"]
    made = await replicate.deployments.predictions.async_create("forebay/minilm", {"text": "a"})
    await made.async_wait()
    assert made.output == prediction.output
    also = await aside(
        lambda: replicate.predictions.create(deployment="forebay/minilm", input={"text": "a"})
    )
    assert also.status == "starting"


async def test_a_version_that_is_named_is_the_one_that_runs(
    settings: Settings, tmp_path: Path
) -> None:
    (tmp_path / "models.toml").write_text(SPLIT)
    async with running_gateway(settings, catalog=catalogs.read(tmp_path / "models.toml")) as split:
        replicate = client_of(split)
        for name, served in (("echo", "echo@v2"), ("echo@v2", "echo@v2"), ("echo@v1", "echo")):
            made = await replicate.models.predictions.async_create(("forebay", name), {"value": 1})
            assert made.id.startswith(f"{served}-0-"), name
            assert made.model == "forebay/echo"
        # What has no digest is asked for by its name, which is no other model's.
        other = await replicate.models.async_get("forebay/other")
        assert other.latest_version is not None
        for version in (other.latest_version, await other.versions.async_get("other")):
            made = await replicate.predictions.async_create(version, {"value": 1})
            assert made.id.startswith("other-0-")
        await hang_up(replicate)


async def test_what_forebay_does_not_offer_says_where_the_same_is_done(replicate: Client) -> None:
    def model() -> None:
        replicate.models.create(
            owner="your-username", name="my-model", visibility="public", hardware="gpu-a40-large"
        )

    def training() -> None:
        replicate.trainings.create(
            model="stability-ai/sdxl",
            version="39ed52f2a78e934b3ba6e2a89f5b1c712de7dfea535525255b1aa35c5565e08b",
            input={
                "input_images": "https://my-domain/training-images.zip",
                "token_string": "TOK",
                "caption_prefix": "a photo of TOK",
                "max_train_steps": 1000,
                "use_face_detection_instead": False,
            },
            destination="your-username/model-name",
        )

    def deployment() -> None:
        replicate.deployments.create(
            name="x",
            model="forebay/minilm",
            version=VERSION,
            hardware="cpu",
            min_instances=0,
            max_instances=9,
        )

    owner, name = "forebay", "minilm"
    for refused, said in (
        (model, "models build NAME"),
        (training, "does not train"),
        (replicate.trainings.list, "does not train"),
        (lambda: replicate.trainings.get("x"), "does not train"),
        (lambda: replicate.trainings.cancel("x"), "does not train"),
        (lambda: replicate.models.delete(f"{owner}/{name}"), "take it out of models.toml"),
        (
            lambda: replicate.models.get(owner, name).versions.delete(VERSION),
            "versions in models.toml",
        ),
        (deployment, r"\[models\.NAME\.replicas\]"),
        (lambda: replicate.deployments.update(owner, name, max_instances=9), "replicas"),
        (lambda: replicate.deployments.delete(owner, name), "replicas"),
    ):
        with pytest.raises(ReplicateError, match=said) as caught:
            await aside(refused)
        assert (caught.value.status, caught.value.title) == (501, "Not Implemented")


async def test_an_error_of_the_api_has_all_that_its_class_has(replicate: Client) -> None:
    with pytest.raises(ReplicateError) as caught:
        await aside(lambda: replicate.run("forebay/minilm", {"texts": "a"}))
    error = caught.value
    assert (error.type, error.status) == ("urn:forebay:problem:invalid_input", 422)
    assert error.title == "The input is not valid"
    assert error.detail is not None
    assert "texts" in error.detail
    assert (error.instance or "").startswith("urn:forebay:request:req_")
    for ref in ("meta/meta-llama-3-70b-instruct", "forebay/nothing", "forebay/minilm:0123456789ab"):
        with pytest.raises(ReplicateError) as missing:
            await replicate.async_run(ref, {"text": "a"})
        assert missing.value.status == 404, ref
    with pytest.raises(ReplicateError, match="forebay/x") as of_others:
        await replicate.predictions.async_create("somebody/x:1", {"text": "a"})
    assert of_others.value.status == 404


async def test_headers_of_a_clients_own_are_sent(gateway: Gateway, minilm: None) -> None:
    replicate = Client(
        api_token="r8_none",
        base_url=f"{gateway.url}/replicate",
        headers={"User-Agent": "my-app/1.0", "Prefer": "wait=9"},
    )
    try:
        made = await replicate.predictions.async_create(VERSION, {"text": "a"})
        assert made.status == "succeeded"
    finally:
        await replicate._async_client.aclose()
