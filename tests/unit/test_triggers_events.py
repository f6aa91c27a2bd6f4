"""CloudEvents as triggers read and write them, held against the SDK; and inputs made of them."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from cloudevents.core.bindings import rabbitmq
from cloudevents.core.v1.event import CloudEvent

from forebay.background.triggers import events
from forebay.background.triggers.inputs import check_template, input_of
from forebay.background.triggers.table import Mode, ResultTable, Trigger
from forebay.contract.asking import Predicted
from forebay.contract.errors import ErrorInfo, ErrorKind, InvalidInput
from forebay.contract.prediction import Status

JSON = "application/cloudevents+json"
ATTRIBUTES = {"specversion": "1.0", "id": "7", "source": "/shop", "type": "order.placed"}
HEADERS = {f"ce-{name}": value for name, value in ATTRIBUTES.items()}
TRIGGER = Trigger("memory://", "asked", "echo", ResultTable("told"), name="one")
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def structured(**more: Any) -> bytes:
    return json.dumps(ATTRIBUTES | more).encode()


def event(data: Any = None, **more: Any) -> CloudEvent:
    return CloudEvent(ATTRIBUTES | more, data)


@pytest.mark.parametrize("written", [rabbitmq.to_structured_event, rabbitmq.to_binary_event])
@pytest.mark.parametrize("data", [{"a": [1, None, "é"]}, "plain", b"\x00\xff", [1, 2]])
def test_what_the_sdk_writes_is_read(written: Any, data: Any) -> None:
    plain = {str: "text/plain", bytes: "image/png"}
    kind = next((kind for of, kind in plain.items() if isinstance(data, of)), "application/json")
    body = json.dumps(data).encode() if isinstance(data, list) else data
    sent = event(body if written is rabbitmq.to_binary_event else data, datacontenttype=kind)
    message = written(sent)
    found = events.read(message.body, message.headers, message.content_type)
    assert (found.get_id(), found.get_source(), found.get_type()) == ("7", "/shop", "order.placed")
    assert found.get_data() == data
    assert found.get_datacontenttype() == kind


@pytest.mark.parametrize("prefix", ["ce-", "CE-", "cloudEvents:", "cloudEvents_"])
def test_attributes_come_as_headers_of_any_binding_and_type(prefix: str) -> None:
    headers: dict[str, Any] = {f"{prefix}{name}": value for name, value in ATTRIBUTES.items()}
    headers |= {
        f"{prefix}time": datetime(2026, 1, 2),
        f"{prefix}sequence": 3,
        f"{prefix}urgent": True,
        f"{prefix}subject": b"it",
        "x-death": [{"count": 1}],
    }
    found = events.read(b'{"value": 1}', headers, "")
    assert found.get_data() == {"value": 1}
    assert found.get_time() == datetime(2026, 1, 2, tzinfo=UTC)
    assert found.get_subject() == "it"
    assert (found.get_extension("sequence"), found.get_extension("urgent")) == ("3", "true")


@pytest.mark.parametrize(
    ("body", "headers", "kind", "why"),
    [
        (b"{}", {}, JSON, "it has no specversion, id, source, type"),
        (b"{}", {}, "application/json", "it has no specversion, id, source, type"),
        (structured(id=""), {}, JSON, "it has no id"),
        (structured(id=7), {}, JSON, "Attribute 'id' must be"),
        (structured(specversion="0.3"), {}, JSON, "CloudEvents '0.3'; 1.0 is what is read"),
        (structured(time="noon"), {}, JSON, "This is no CloudEvent"),
        (structured(time=7), {}, JSON, "This is no CloudEvent"),
        (structured(Big=1), {}, JSON, "lowercase letters and numbers"),
        (structured(data_base64="A"), {}, JSON, "This is no CloudEvent"),
        (b"[]", {}, JSON, "its body is no JSON object"),
        (b"{", {}, JSON, "its body is not JSON"),
        (b"\xff", {}, JSON, "its body is not JSON"),
        (b"[" * 10_000, {}, JSON, "its body is not JSON"),
        (b"[]", {}, "application/cloudevents-batch+json", "send one event"),
        (b"{", HEADERS, "application/json", "its body is not JSON"),
        (b'{"a": NaN}', HEADERS, "", "its body is not JSON"),
    ],
)
def test_what_is_no_event_is_refused_with_the_reason(
    body: bytes, headers: dict[str, Any], kind: str, why: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        events.read(body, headers, kind)
    assert why in caught.value.message


@pytest.mark.parametrize("mode", Mode)
def test_a_result_is_an_event_that_the_sdk_reads(mode: Mode) -> None:
    trigger = Trigger(
        "memory://", "asked", "echo", ResultTable("told", type="org.shop", mode=mode), name="one"
    )
    asked = event(subject="order/7", traceparent=TRACE, correlationid="c", own="o")
    told = Predicted("p1", Status.SUCCEEDED, b'{"a": [1, "\xc3\xa9"]}', version="abc")
    found = rabbitmq.from_rabbitmq_event(events.result(trigger, asked, told))
    assert found.get_data() == {
        "id": "p1",
        "model": "echo",
        "version": "abc",
        "status": "succeeded",
        "output": {"a": [1, "é"]},
        "error": None,
    }
    attributes = found.get_attributes()
    assert attributes.pop("time") <= datetime.now(UTC)
    assert attributes == {
        "specversion": "1.0",
        "id": found.get_id(),
        "source": "/forebay/triggers/one",
        "type": "org.shop.succeeded",
        "datacontenttype": "application/json",
        "subject": "order/7",
        "traceparent": TRACE,
        "correlationid": "c",
        "causationid": "7",
    }


def test_a_failure_is_told_with_its_reason() -> None:
    error = ErrorInfo(ErrorKind.TOO_LONG, "too long", row=0)
    told = Predicted("p1", Status.FAILED, b"null", error)
    found = rabbitmq.from_rabbitmq_event(events.result(TRIGGER, event(), told))
    assert found.get_type() == "dev.forebay.prediction.failed"
    data: Any = found.get_data()
    assert data["output"] is None
    assert data["error"] == {"kind": "too_long", "message": "too long", "row": 0}


def test_a_results_id_is_the_same_again_and_another_for_another_event_or_trigger() -> None:
    told = Predicted("p1", Status.SUCCEEDED, b"1")
    other = Trigger("memory://", "asked", "echo", ResultTable("told"), name="two")

    def id_of(trigger: Trigger, **more: str) -> str:
        made = events.result(trigger, event(**more), told)
        return rabbitmq.from_rabbitmq_event(made).get_id()

    assert id_of(TRIGGER) == id_of(TRIGGER, subject="else")
    ids = {id_of(TRIGGER), id_of(TRIGGER, id="8"), id_of(TRIGGER, source="/"), id_of(other)}
    assert len(ids) == 4
    keys = {events.key_of(TRIGGER, event(), 1), events.key_of(TRIGGER, event(id="7 1"))}
    assert len(keys | {events.key_of(TRIGGER, event(source="/shop 7", id="1"))}) == 3


@pytest.mark.parametrize(
    ("data", "template", "made"),
    [
        ({"value": 1}, None, {"value": 1}),
        ({"a": {"b": ["x", "y"]}}, {"text": "$data.a.b.1"}, {"text": "y"}),
        ({"a": [1]}, {"value": "$data", "who": "$source"}, {"value": {"a": [1]}, "who": "/shop"}),
        ("words", {"text": ["$data", "$$data", 1, True]}, {"text": ["words", "$data", 1, True]}),
        (b"\x00", {"image": "$data"}, {"image": "data:image/png;base64,AA=="}),
    ],
)
def test_an_input_is_the_data_or_a_template_filled_in(data: Any, template: Any, made: Any) -> None:
    check_template(template or {})
    kind = {"datacontenttype": "image/png"} if isinstance(data, bytes) else {}
    assert json.loads(input_of(event(data, **kind), template)) == made


@pytest.mark.parametrize(
    ("data", "template", "why"),
    [
        (None, None, "no data"),
        ({"a": 1}, {"text": "$data.b"}, "no data.b"),
        ({"a": ["x"]}, {"text": "$data.a.1"}, "no data.a.1"),
        ("words", {"text": "$data.a"}, "no data.a"),
        ("words", {"text": "$subject"}, "no attribute subject"),
    ],
)
def test_what_a_template_asks_for_and_an_event_lacks_is_named(
    data: Any, template: Any, why: str
) -> None:
    with pytest.raises(InvalidInput, match=why):
        input_of(event(data), template)


@pytest.mark.parametrize("value", ["$", "$Data", "$data.", "$data..a", "$subject.a", "$a b"])
def test_a_template_that_no_event_can_fill_in_is_refused(value: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        check_template({"a": {"b": [value]}})
    assert caught.value.param == "a.b"
