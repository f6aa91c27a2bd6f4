"""Events of responses and batches, as the unmodified `openai` client takes them."""

from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest
from cloudevents.core.bindings.http import HTTPMessage, from_structured_event
from redis.asyncio import Redis
from standardwebhooks import Webhook

from forebay.contract.notices import Event, Format, delivery_id
from forebay.lanes.keys import Keys
from forebay.records.endpoints import Endpoint, Endpoints
from forebay.records.outbox import BatchEnd, batch_ended
from forebay.records.signing import SecretStore
from forebay.runtime.catalog import Catalog
from forebay.runtime.redis import connect
from forebay.runtime.settings import Settings
from tests.fixtures.gateway import Gateway
from tests.fixtures.generating import PARROT, generating
from tests.fixtures.hooked import Heard, Receiver, hooked
from tests.fixtures.hooking import hooking
from tests.fixtures.servers import TIMEOUT_S
from tests.fixtures.waiting import eventually

SAID = "A forebay is the pool ahead of a turbine"


@pytest.fixture
def catalog() -> Catalog:
    return PARROT


@pytest.fixture
def settings(redis_url: str, key_prefix: str) -> Settings:
    return Settings(redis_url=redis_url, key_prefix=key_prefix, egress_loopback=True)


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    made = connect(redis_url, timeout_s=TIMEOUT_S)
    yield made
    await made.aclose()


@pytest.fixture
async def receiver(settings: Settings, catalog: Catalog) -> AsyncIterator[Receiver]:
    """Listens, and is called by a background."""
    async with hooked() as made, hooking(settings, catalog):
        yield made


async def heard_of(receiver: Receiver, path: str, subject: str) -> Heard:
    """What was sent of one response or batch."""

    def found() -> list[Heard]:
        return [one for one in receiver.at(path) if one.json["data"]["id"] == subject]

    return (await eventually(found, what=f"{subject} is told of"))[0]


async def test_the_end_of_a_response_in_the_background_is_an_event_that_the_client_unwraps(
    client: openai.AsyncOpenAI, redis: Redis, keys: Keys, redis_url: str, receiver: Receiver
) -> None:
    endpoints, secrets = Endpoints(redis, keys), SecretStore(redis, keys)
    await endpoints.add(Endpoint(receiver.url("/all")))
    await endpoints.add(Endpoint(receiver.url("/failures"), ("response.failed",)))
    made = await client.responses.create(model="parrot", input=SAID, background=True)
    short = await client.responses.create(
        model="parrot", input=SAID, background=True, max_output_tokens=2
    )
    left = await client.responses.create(model="parrot", input=SAID, background=True)
    await client.responses.cancel(left.id)
    waited = await client.responses.cancel(left.id)
    assert waited.status == "cancelled"
    async with generating(redis_url, keys):
        for response, type_ in (
            (made, "response.completed"),
            (short, "response.incomplete"),
            (left, "response.cancelled"),
        ):
            heard = await heard_of(receiver, "/all", response.id)
            event: Any = client.webhooks.unwrap(
                heard.body, heard.headers, secret=(await secrets.read()).current
            )
            assert event.type == type_
            assert event.object == "event"
            assert event.id == heard.id
            shown = await client.responses.retrieve(event.data.id)
            assert type_ == f"response.{shown.status}"
            with pytest.raises(openai.InvalidWebhookSignatureError):
                client.webhooks.unwrap(heard.body + b" ", heard.headers, secret="whsec_AAAA")
    assert receiver.at("/failures") == []
    assert len(receiver.at("/all")) == 3


async def test_the_end_of_a_batch_is_told_once_however_often_it_is_said(
    client: openai.AsyncOpenAI, redis: Redis, keys: Keys, receiver: Receiver
) -> None:
    await Endpoints(redis, keys).add(Endpoint(url := receiver.url("/batches"), ("batch.expired",)))
    for _ in range(3):
        await batch_ended(redis, keys, "batch_1", BatchEnd.EXPIRED)
    await batch_ended(redis, keys, "batch_1", BatchEnd.COMPLETED)  # which nobody asked for
    await batch_ended(redis, keys, "batch_2", BatchEnd.EXPIRED)
    last = await heard_of(receiver, "/batches", "batch_2")
    secret = (await SecretStore(redis, keys).read()).current
    event: Any = client.webhooks.unwrap(last.body, last.headers, secret=secret)
    assert (event.type, event.data.id) == ("batch.expired", "batch_2")
    assert last.id == delivery_id("batch_2", "batch.expired", url=url)
    first = await heard_of(receiver, "/batches", "batch_1")
    assert [one.id for one in receiver.heard].count(first.id) == 1


async def test_an_endpoint_may_want_cloudevents(
    client: openai.AsyncOpenAI, redis: Redis, keys: Keys, receiver: Receiver
) -> None:
    wanted = Endpoint(receiver.url("/cloud"), format=Format.CLOUDEVENTS)
    await Endpoints(redis, keys).add(wanted)
    await batch_ended(redis, keys, "batch_3", BatchEnd.FAILED)
    await eventually(lambda: receiver.heard, what="it is told of")
    (heard,) = receiver.heard
    assert heard.headers["content-type"] == "application/cloudevents+json"
    told = from_structured_event(HTTPMessage(heard.headers, heard.body))
    assert (told.get_id(), told.get_type()) == (heard.id, "forebay.batch.failed")
    assert (told.get_subject(), told.get_source()) == ("batch_3", "/v1")
    data: Any = told.get_data()
    assert (data["type"], data["data"]) == ("batch.failed", {"id": "batch_3"})
    secret = (await SecretStore(redis, keys).read()).current
    assert Webhook(secret).verify(heard.body, heard.headers) == heard.json


async def test_a_text_is_told_of_while_it_grows_and_as_a_whole_in_the_end(
    gateway: Gateway, client: openai.AsyncOpenAI, keys: Keys, redis_url: str, receiver: Receiver
) -> None:
    body = {
        "version": "parrot",
        "input": {"prompt": SAID},
        "webhook": receiver.url("/grows"),
        "webhook_events_filter": ["output", "completed"],
    }
    made = await client.post("/predictions", body=body, cast_to=object)
    assert isinstance(made, dict)
    async with generating(redis_url, keys):
        await eventually(
            lambda: (
                {delivery_id(made["id"], event) for event in (Event.OUTPUT, Event.COMPLETED)}
                < {one.id for one in receiver.at("/grows")}
            ),
            what="its end, and what it was before: they are sent side by side",
        )
    told = {one.id: one.json for one in receiver.at("/grows")}
    last = told.pop(delivery_id(made["id"], Event.COMPLETED))
    assert (last["status"], last["output"]) == ("succeeded", SAID)
    whole = told.pop(delivery_id(made["id"], Event.OUTPUT))
    assert whole["output"] == SAID
    assert told
    for earlier in told.values():
        assert SAID.startswith(earlier["output"])
        assert earlier["status"] in ("processing", "succeeded")
