"""What is said of an event: deliveries, with bodies in the words of a dialect."""

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

import msgspec
from cloudevents.core.bindings.http import to_structured_event
from cloudevents.core.v1.event import CloudEvent

from forebay.contract.generation import Finish
from forebay.contract.messages import UnknownWireVersionError
from forebay.contract.notices import (
    Delivery,
    Dialect,
    Event,
    Format,
    Notice,
    delivery_id,
    unpacked,
)
from forebay.contract.prediction import Prediction, PredictionId, Status
from forebay.contract.rows import Generated
from forebay.lanes.events import written
from forebay.lanes.keys import Keys
from forebay.lanes.predictions import Records
from forebay.records.endpoints import Endpoints
from forebay.records.outbox import Written
from forebay.runtime.redis import Commands

CLOUDEVENTS: Final = "application/cloudevents+json"


class Render(Protocol):
    """Shows a prediction as the dialect's API does, in JSON."""

    def __call__(
        self, prediction: Prediction, notice: Notice, *, so_far: str | None = None
    ) -> bytes:
        """Show it.

        Args:
            prediction: as it stands.
            notice: says where its client finds it.
            so_far: the text that it has generated, while it does.
        """
        ...


class EventData(msgspec.Struct, frozen=True):
    """What an event of OpenAI's is about."""

    id: str


class OpenAIEvent(msgspec.Struct, frozen=True):
    """An event as OpenAI's webhooks tell it."""

    id: str
    type: str
    created_at: int
    data: EventData
    object: str = "event"


_RESPONSES: Final = {
    Status.SUCCEEDED: "response.completed",
    Status.FAILED: "response.failed",
    Status.EXPIRED: "response.failed",
    Status.CANCELED: "response.cancelled",
}


class Bodies:
    """Makes deliveries of what outboxes hold.

    Args:
        redis: client whose commands are not retried.
        keys: key builder.
        render: shows predictions.
        form: how bodies of predictions are wrapped.
    """

    def __init__(self, redis: Commands, keys: Keys, render: Render, form: Format) -> None:
        self._redis = redis
        self._keys = keys
        self._records = Records(redis, keys)
        self._endpoints = Endpoints(redis, keys)
        self._render = render
        self._format = form

    async def of(self, told: Written) -> list[tuple[Delivery, str]]:
        """Deliveries of an event, each with its receiver's host; none if nobody is to be told.

        Raises:
            ValueError: what is recorded of it can't be read.
            LookupError: it is no longer kept.
            redis.exceptions.RedisError: Redis is out of reach.
        """
        if not told.notice:
            return await self._for_endpoints(told.subject, told.event)
        try:
            notice = unpacked(told.notice)
            id_ = PredictionId.parse(told.subject)
            prediction = await self._records.prediction(id_)
        except (msgspec.MsgspecError, UnknownWireVersionError) as error:
            raise ValueError(str(error)) from error
        if prediction is None:
            raise LookupError(f"prediction {told.subject} is no longer kept")
        if notice.dialect is Dialect.OPENAI:
            subject = notice.shown(prediction.id)
            return await self._for_endpoints(subject, _response_event(prediction))
        return [await self._of_prediction(id_, prediction, notice, told)]

    async def _of_prediction(
        self, id_: PredictionId, prediction: Prediction, notice: Notice, told: Written
    ) -> tuple[Delivery, str]:
        so_far = None
        if told.event in (Event.OUTPUT, Event.LOGS) and not prediction.status.terminal:
            # It has begun, whoever holds it now.
            prediction = msgspec.structs.replace(prediction, status=Status.PROCESSING)
            if told.event == Event.OUTPUT:
                shard = self._keys.of_prediction(id_)
                chunks = (await written(self._redis, shard, id_.text)).chunks
                so_far = "".join(chunk.text for chunk in chunks)
        body = self._render(prediction, notice, so_far=so_far)
        made = _delivery(
            delivery_id(told.subject, told.event, sequence=told.sequence),
            notice.shown(prediction.id),
            told.event,
            notice.url,
            body,
            form=self._format,
            type_=f"prediction.{told.event}",
            source=notice.shown_at,
        )
        return msgspec.structs.replace(made, trace=notice.trace), host_of(made.url)

    async def _for_endpoints(self, subject: str, event: str) -> list[tuple[Delivery, str]]:
        found: list[tuple[Delivery, str]] = []
        for endpoint in await self._endpoints.all():
            if not endpoint.wants(event):
                continue
            id_ = delivery_id(subject, event, url=endpoint.url)
            body = _json(OpenAIEvent(id_, event, int(time.time()), EventData(subject)))
            made = _delivery(
                id_,
                subject,
                event,
                endpoint.url,
                body,
                form=endpoint.format,
                type_=event,
                source="/v1",
            )
            found.append((made, host_of(made.url)))
        return found


def _delivery(
    id_: str,
    subject: str,
    event: str,
    url: str,
    body: bytes,
    *,
    form: Format,
    type_: str,
    source: str,
) -> Delivery:
    if form is Format.PLAIN:
        return Delivery(id_, subject, event, url, body)
    attributes = {
        "specversion": "1.0",
        "id": id_,
        "source": source,
        "type": f"forebay.{type_}",
        "subject": subject,
        "time": datetime.now(UTC),
        "datacontenttype": "application/json",
    }
    wrapped = to_structured_event(CloudEvent(attributes, msgspec.json.decode(body)))
    return Delivery(id_, subject, event, url, wrapped.body, CLOUDEVENTS)


def _response_event(prediction: Prediction) -> str:
    outputs: Sequence[Any] = prediction.outputs
    if any(isinstance(one, Generated) and one.finish is Finish.LENGTH for one in outputs):
        return "response.incomplete"
    return _RESPONSES[prediction.status]


def host_of(url: str) -> str:
    """Who is called at a URL, as far as places are shared."""
    return urlsplit(url).netloc.lower()


def _json(value: msgspec.Struct) -> bytes:
    return msgspec.json.encode(value)
