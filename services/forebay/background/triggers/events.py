"""CloudEvents 1.0 in and out, over whatever broker.

In structured mode (`content-type: application/cloudevents+json`) the body is the whole event; in
binary mode it is the event's data, and attributes are headers: `ce-*`, or `cloudEvents:*` and
`cloudEvents_*` as the AMQP binding has them. The SDK reads and writes; here is what it lets pass
and the specification doesn't.

https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md
"""

import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
from cloudevents.core.base import BaseCloudEvent
from cloudevents.core.bindings import rabbitmq
from cloudevents.core.bindings.rabbitmq import RabbitMQMessage
from cloudevents.core.exceptions import CloudEventValidationError
from cloudevents.core.v1.event import CloudEvent

from forebay.background.triggers.table import Mode, Trigger
from forebay.contract.asking import Predicted
from forebay.contract.errors import InvalidInput

STRUCTURED: Final = "application/cloudevents"
STRUCTURED_JSON: Final = "application/cloudevents+json"
PREFIXES: Final = ("ce-", "cloudevents:", "cloudevents_")
REQUIRED: Final = ("specversion", "id", "source", "type")

CARRIED_ON: Final = ("subject", "traceparent", "tracestate", "correlationid", "partitionkey")
"""Attributes of an event that its result has as well: its subject, and the extensions Distributed
Tracing, Correlation and Partitioning."""

MOST_CARRIED: Final = 32_768
"""Bytes of these that can be headers: a broker's frame has all of a message's, AMQP's 128 KiB."""

NAMESPACE: Final = uuid.UUID("6a6f6b1c-7f0b-5a0e-9a57-0f4b61b4c9d5")
"""Of the ids of result events."""


class ResultData(msgspec.Struct, frozen=True):
    """Data of a result event.

    Attributes:
        id: of the prediction.
        model: as the trigger names it.
        version: that answered; null if none did.
        status: `succeeded`, `failed`, `canceled` or `expired`.
        output: as the job API shows it; null unless succeeded.
        error: why it has not succeeded; null if it has.
    """

    id: str
    model: str
    version: str | None
    status: str
    output: msgspec.Raw
    error: dict[str, Any] | None


def read(body: bytes, headers: Mapping[str, Any], content_type: str) -> CloudEvent:
    """The event that a message is.

    Args:
        body: of the message.
        headers: of the message; what doesn't begin like an attribute of an event is ignored.
        content_type: of the message, which says the mode.

    Raises:
        InvalidInput: it is none; the message says why.
    """
    kind = content_type.partition(";")[0].strip().lower()
    if kind.startswith(STRUCTURED) and kind != STRUCTURED_JSON:
        raise InvalidInput(f"{kind!r} is not read here: send one event, as {STRUCTURED_JSON}.")
    attributes = _of_body(body) if kind == STRUCTURED_JSON else _of_headers(headers)
    _check(attributes)
    if kind != STRUCTURED_JSON and _is_json(kind) and body:
        _decoded(body)
    message = RabbitMQMessage(
        headers={f"ce-{name}": str(value) for name, value in attributes.items()},
        content_type=content_type or None,
        body=body,
    )
    try:
        return rabbitmq.from_rabbitmq_event(message)
    except (CloudEventValidationError, ValueError, TypeError) as error:
        raise InvalidInput(f"This is no CloudEvent: {error}.") from error


def check_carried(trigger: Trigger, event: BaseCloudEvent) -> None:
    """Look whether what its result carries on of an event has room there.

    Raises:
        InvalidInput: it is to be headers, and too much for them.
    """
    told = {name: str(value) for name, value in _carried(event).items()}
    told["causationid"] = event.get_id()
    size = sum(len(value.encode()) for value in told.values())
    if trigger.result.mode is Mode.BINARY and size > MOST_CARRIED:
        raise InvalidInput(
            f"{', '.join(told)} come to {size:,} bytes; as headers of a binary result they may "
            f"have {MOST_CARRIED:,}."
        )


def result(trigger: Trigger, event: BaseCloudEvent, told: Predicted) -> RabbitMQMessage:
    """What an event came to, as the event to publish.

    Its id follows from the trigger and from the event's source and id, which together are unique:
    an event that comes twice has results that can be told to be the same.
    """
    attributes = _carried(event) | {
        "specversion": "1.0",
        "id": str(uuid.uuid5(NAMESPACE, key_of(trigger, event))),
        "source": trigger.source,
        "type": f"{trigger.result.type}.{told.status}",
        "time": datetime.now(UTC),
        "datacontenttype": "application/json",
        "causationid": event.get_id(),
    }
    data = ResultData(
        told.id,
        trigger.model,
        told.version,
        told.status,
        msgspec.Raw(told.output),
        None if told.error is None else msgspec.to_builtins(told.error),
    )
    encoded = msgspec.json.encode(data)
    if trigger.result.mode is Mode.BINARY:
        return rabbitmq.to_binary_event(CloudEvent(attributes, encoded))
    return rabbitmq.to_structured_event(CloudEvent(attributes, msgspec.json.decode(encoded)))


def key_of(trigger: Trigger, event: BaseCloudEvent, retry: int = 0) -> str:
    """What an event is known by at a trigger, and one retry of it: the same whenever it comes."""
    told = (trigger.name, event.get_source(), event.get_id(), *([retry] if retry else []))
    return msgspec.json.encode(told).decode()


def _carried(event: BaseCloudEvent) -> dict[str, Any]:
    return {
        name: value
        for name, value in event.get_attributes().items()
        if name in CARRIED_ON and value is not None
    }


def _of_body(body: bytes) -> dict[str, Any]:
    whole = _decoded(body)
    if not isinstance(whole, dict):
        raise InvalidInput("This is no CloudEvent: its body is no JSON object.")
    return {name: value for name, value in whole.items() if name not in ("data", "data_base64")}


def _of_headers(headers: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for header, value in headers.items():
        lower = header.lower()
        for prefix in PREFIXES:
            if lower.startswith(prefix):
                found[lower.removeprefix(prefix)] = _text(value)
    return found


def _text(value: Any) -> str:
    """A header's value in the form that CloudEvents gives its type as text."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, datetime):
        aware = value if value.tzinfo else value.replace(tzinfo=UTC)
        return aware.isoformat()
    return str(value)


def _check(attributes: Mapping[str, Any]) -> None:
    missing = [name for name in REQUIRED if attributes.get(name) in (None, "")]
    if missing:
        raise InvalidInput(f"This is no CloudEvent: it has no {', '.join(missing)}.")
    if attributes["specversion"] != "1.0":
        told = str(attributes["specversion"])[:20]
        raise InvalidInput(f"This is CloudEvents {told!r}; 1.0 is what is read here.")


def _is_json(kind: str) -> bool:
    return kind in ("", "application/json", "text/json") or kind.endswith("+json")


def _decoded(body: bytes) -> Any:
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise InvalidInput(f"This is no CloudEvent: its body is not JSON: {error}.") from error
