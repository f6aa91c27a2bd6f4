"""Webhooks from end to end: processes as users run them, and receivers of every kind."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest
from replicate.client import Client as Replicate
from replicate.webhook import Webhooks as ReplicateWebhooks
from standardwebhooks import Webhook, WebhookVerificationError

from forebay.contract.errors import ErrorInfo, ErrorKind
from forebay.contract.messages import Reply
from forebay.contract.notices import DeliveryState, delivery_id
from forebay.contract.prediction import Status
from forebay.lanes.consumer import Delivery, Settlement
from forebay.lanes.keys import Keys
from forebay.records.deliveries import Deliveries, Told
from forebay.runtime.redis import connect
from tests.fixtures.answering import answering
from tests.fixtures.fleet import Fleet, fleet
from tests.fixtures.hooked import BROKEN, GONE, Receiver, hooked
from tests.fixtures.servers import TIMEOUT_S, new_prefix
from tests.fixtures.waiting import PATIENCE_S, eventually

RETRIES = 3
PREFIX = new_prefix()
EVENTS = ("start", "output", "completed")


@pytest.fixture(scope="module")
def running(redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """A gateway, a worker and a background that sends webhooks again at once."""
    with fleet(
        tmp_path_factory.mktemp("webhooks"),
        redis_url=redis_url,
        key_prefix=PREFIX,
        egress_loopback="true",
        webhook_timeout_s="60",
        webhook_retries_s=",".join(["0.01"] * RETRIES),
    ) as made:
        made.start("gateway")
        made.start("worker", "echo")
        made.start("background")
        yield made


class Client:
    """A client of the gateway, and an operator beside it."""

    def __init__(self, running: Fleet, http: httpx.AsyncClient, deliveries: Deliveries) -> None:
        self.http = http
        self.fleet = running
        self.deliveries = deliveries

    async def create(self, url: str, *events: str, **headers: str) -> dict[str, Any]:
        """Make a prediction."""
        body: dict[str, Any] = {"version": "echo", "input": {"value": "a"}, "webhook": url}
        if events:
            body["webhook_events_filter"] = list(events)
        answer = await self.http.post("/v1/predictions", json=body, headers=headers)
        assert answer.status_code == 201, answer.text
        return dict(answer.json())

    async def told(self, prediction: str, event: str = "completed") -> Told:
        """The delivery of an event, once it is over."""
        id_ = delivery_id(prediction, event)

        async def over() -> Told | None:
            told = await self.deliveries.told(id_)
            return told if told and told.state is not DeliveryState.WAITING else None

        return await eventually(over, what=lambda: self.fleet.said)

    def cli(self, *words: str) -> str:
        """What `forebay webhooks …` prints."""
        done = self.run(*words)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def run(self, *words: str, verb: str = "webhooks") -> subprocess.CompletedProcess[str]:
        """Run `forebay webhooks …`, or another verb."""
        return subprocess.run(
            [sys.executable, "-m", "forebay.cli", verb, *words],
            cwd=self.fleet.folder,
            env={
                **os.environ,
                "FOREBAY_REDIS_URL": self.fleet.redis_url,
                "FOREBAY_KEY_PREFIX": PREFIX,
                "FOREBAY_REDIS_TIMEOUT_S": "10",
            },
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )


@pytest.fixture
async def client(running: Fleet, redis_url: str) -> AsyncIterator[Client]:
    await running.ready()
    redis = connect(redis_url, timeout_s=TIMEOUT_S)
    async with httpx.AsyncClient(base_url=running.url, timeout=PATIENCE_S) as http:
        yield Client(running, http, Deliveries(redis, Keys(PREFIX)))
    await redis.aclose()


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with hooked() as made:
        yield made


async def test_a_receiver_is_told_of_each_event_in_a_body_as_clients_see_it_and_can_check_it(
    client: Client, receiver: Receiver
) -> None:
    made = await client.create(receiver.url("/all"))
    for event in EVENTS:
        told = await client.told(made["id"], event)
        assert told.state is DeliveryState.DELIVERED
        (attempt,) = told.attempts
        assert (attempt.status, attempt.answer) == (200, "ok")
    heard = {one.id: one for one in receiver.at("/all")}
    assert heard.keys() == {delivery_id(made["id"], event) for event in EVENTS}
    last = heard[delivery_id(made["id"], "completed")]
    shown = (await client.http.get(f"/v1/predictions/{made['id']}")).json()
    assert last.json == shown
    assert (shown["status"], shown["output"]) == ("succeeded", "a")
    assert (await client.http.get(shown["urls"]["get"])).json() == shown

    found = Replicate(api_token="x", base_url=f"{client.fleet.url}/replicate")
    secret = await asyncio.to_thread(found.webhooks.default.secret)
    found._client.close()
    assert secret.key == client.cli("secret").strip()
    assert secret.key.startswith("whsec_")
    assert len(secret.key.split("_")) == 2
    for one in heard.values():
        assert one.headers["content-type"] == "application/json"
        ReplicateWebhooks.validate(headers=one.headers, body=one.body.decode(), secret=secret)
        assert Webhook(secret.key).verify(one.body, one.headers) == one.json
        with pytest.raises(WebhookVerificationError):
            Webhook(secret.key).verify(one.body + b" ", one.headers)


async def test_only_events_that_are_asked_for_are_told(client: Client, receiver: Receiver) -> None:
    made = await client.create(receiver.url("/some"), "completed", prefer="wait=60")
    assert (await client.told(made["id"])).state is DeliveryState.DELIVERED
    assert [one.id for one in receiver.at("/some")] == [delivery_id(made["id"], "completed")]
    assert await client.deliveries.told(delivery_id(made["id"], "start")) is None


async def test_replicates_client_names_a_webhook_and_knows_the_body(
    client: Client, receiver: Receiver
) -> None:
    found = Replicate(api_token="x", base_url=f"{client.fleet.url}/replicate")
    made = await asyncio.to_thread(
        found.predictions.create,
        version="echo",
        input={"value": "b"},
        webhook=receiver.url("/hosted"),
        webhook_events_filter=["completed"],
    )
    assert (await client.told(made.id)).state is DeliveryState.DELIVERED
    await asyncio.to_thread(made.reload)
    found._client.close()
    (heard,) = receiver.at("/hosted")
    shown = await client.http.get(f"/replicate/v1/predictions/{made.id}")
    assert heard.json == shown.json()
    assert (heard.json["model"], made.output) == ("forebay/echo", "b")


async def test_what_is_canceled_is_told_of_under_the_id_that_its_client_gave(
    client: Client, receiver: Receiver
) -> None:
    body = {"version": "idle", "input": {"value": 1}, "webhook": receiver.url("/canceled")}
    body["webhook_events_filter"] = ["completed"]
    made = await client.http.put("/v1/predictions/my-own", json=body)
    assert made.status_code == 201, made.text
    assert (await client.http.post("/v1/predictions/my-own/cancel")).status_code == 200
    await eventually(lambda: receiver.at("/canceled"), what=lambda: client.fleet.said)
    (heard,) = receiver.at("/canceled")
    assert (heard.json["id"], heard.json["status"]) == ("my-own", "canceled")
    assert heard.json["urls"]["get"].endswith("/v1/predictions/my-own")


async def test_a_receiver_that_fails_is_tried_again_under_the_same_id(
    client: Client, receiver: Receiver
) -> None:
    receiver.answers["/fails"] = lambda before: BROKEN if before < 3 else b"HTTP/1.1 204 .\r\n\r\n"
    made = await client.create(receiver.url("/fails"), "completed")
    told = await client.told(made["id"])
    assert told.state is DeliveryState.DELIVERED
    assert [attempt.status for attempt in told.attempts] == [500, 500, 500, 204]
    heard = receiver.at("/fails")
    assert len(heard) == 4
    assert len({one.id for one in heard}) == 1
    assert len({one.body for one in heard}) == 1


async def test_who_never_answers_well_has_failed_and_can_be_sent_it_once_more(
    client: Client, receiver: Receiver
) -> None:
    receiver.answers["/down"] = lambda before: BROKEN if before <= RETRIES else None
    made = await client.create(url := receiver.url("/down"), "completed")
    told = await client.told(made["id"])
    assert told.state is DeliveryState.FAILED
    assert [attempt.status for attempt in told.attempts] == [500] * (RETRIES + 1)
    assert {attempt.answer for attempt in told.attempts} == {"oops"}

    id_ = told.delivery.id
    (listed,) = json.loads(client.cli("list", "--state", "failed", "--to", url, "--json"))
    assert (listed["id"], listed["of"], listed["state"]) == (id_, made["id"], "failed")
    assert id_ in client.cli("list", "--since", "1h")
    shown = client.cli("show", id_)
    assert "oops" in shown
    assert made["id"] in shown
    del receiver.answers["/down"]
    assert client.cli("replay", "--state", "failed", "--to", url) == "1 are sent again.\n"
    assert (await client.told(made["id"])).state is DeliveryState.DELIVERED
    assert client.cli("replay", id_) == "1 are sent again.\n"
    await eventually(lambda: len(receiver.at("/down")) == RETRIES + 3, what="the third time")
    assert {one.id for one in receiver.at("/down")} == {id_}


async def test_a_receiver_that_hangs_delays_nobody_else(client: Client, receiver: Receiver) -> None:
    async with hooked() as hanging:
        hanging.answers["/hangs"] = lambda _: None
        for _ in range(20):
            await client.create(hanging.url("/hangs"), "completed")
        await eventually(lambda: len(hanging.heard) >= 2, what=lambda: client.fleet.said)
        made = await client.create(receiver.url("/after"), "completed")
        assert (await client.told(made["id"])).state is DeliveryState.DELIVERED
        assert len(hanging.heard) == 2


async def test_who_wants_no_more_gets_no_more_until_it_is_enabled(
    client: Client, receiver: Receiver
) -> None:
    receiver.answers["/gone"] = lambda before: GONE if not before else b"HTTP/1.1 204 .\r\n\r\n"
    made = await client.create(url := receiver.url("/gone"), "completed")
    assert (await client.told(made["id"])).state is DeliveryState.DISABLED
    made = await client.create(url, "completed")
    told = await client.told(made["id"])
    assert (told.state, told.attempts) == (DeliveryState.DISABLED, ())
    assert len(receiver.at("/gone")) == 1
    client.cli("endpoints", "enable", url)
    made = await client.create(url, "completed")
    assert (await client.told(made["id"])).state is DeliveryState.DELIVERED


@pytest.mark.parametrize("own", ["", "my-order"])
async def test_who_was_told_of_a_dead_letter_is_told_of_its_replay(
    client: Client, receiver: Receiver, redis_url: str, own: str
) -> None:
    def die(delivery: Delivery) -> Settlement:
        error = ErrorInfo(ErrorKind.WORKER_LOST, "It killed its worker 4 times.")
        reply = Reply(delivery.prediction, Status.FAILED, completed_at_ms=1, error=error)
        return Settlement(delivery, reply, dead=error.message)

    body: dict[str, Any] = {"version": "idle", "input": {"value": 7}}
    body |= {"webhook": receiver.url("/dead"), "webhook_events_filter": ["completed"]}
    async with answering(redis_url, Keys(PREFIX), "idle", answer=die) as died:
        if own:
            made = await client.http.put(f"/v1/predictions/{own}", json=body)
        else:
            made = await client.http.post("/v1/predictions", json=body)
        assert made.status_code == 201, made.text
        await eventually(lambda: receiver.at("/dead"), what=lambda: client.fleet.said)
    dead = died[-1].prediction
    replayed = client.run("replay", dead, verb="dead")
    assert replayed.returncode == 0, replayed.stderr
    new = replayed.stdout.split()[-1]
    async with answering(redis_url, Keys(PREFIX), "idle"):
        await eventually(lambda: len(receiver.at("/dead")) == 2, what=lambda: client.fleet.said)
    first, second = (one.json for one in receiver.at("/dead"))
    assert (first["id"], first["status"]) == (own or dead, "failed")
    assert (second["id"], second["status"], second["output"]) == (own or new, "succeeded", 7)
    assert second["retry_of"] == dead
    shown = (await client.http.get(second["urls"]["get"])).json()
    assert shown == {**second, "id": new}
    assert len({one.id for one in receiver.at("/dead")}) == 2


async def test_a_redirect_to_this_machine_is_not_followed(
    client: Client, receiver: Receiver
) -> None:
    receiver.answers["/moved"] = lambda _: (
        f"HTTP/1.1 302 Found\r\nlocation: {receiver.url('/secret')}\r\n"
        "content-length: 0\r\n\r\n".encode()
    )
    made = await client.create(receiver.url("/moved"), "completed")
    told = await client.told(made["id"])
    assert told.state is DeliveryState.FAILED
    assert {attempt.status for attempt in told.attempts} == {302}
    assert receiver.at("/secret") == []
