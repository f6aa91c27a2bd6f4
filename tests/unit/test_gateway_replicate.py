"""The predictions dialect's translation: bodies and headers in, predictions out."""

import struct
from typing import Any

import msgspec
import pytest

from forebay.contract.errors import ErrorInfo, ErrorKind, InvalidInput
from forebay.contract.model import BackendName, ModelSpec
from forebay.contract.notices import Event, Notice
from forebay.contract.prediction import Prediction, Status, Timing
from forebay.contract.rows import Embedding, Output, Task, TextRow, Value, ValueRow
from forebay.egress.rules import Rules
from forebay.gateway.dialects.replicate.inputs import rows_of
from forebay.gateway.dialects.replicate.notices import notice_of
from forebay.gateway.dialects.replicate.outputs import is_single
from forebay.gateway.dialects.replicate.rendering import render
from forebay.gateway.dialects.replicate.requests import cancel_after_of, read, wait_of

EMBEDDER = ModelSpec(Task.EMBEDDING, BackendName.ONNX, source="x", name="minilm")
PYTHON = ModelSpec(Task.PYTHON, BackendName.PYTHON, source="model.py:Model", name="own")
ECHO = ModelSpec(Task.ECHO, BackendName.ECHO, name="echo")


@pytest.mark.parametrize(
    ("prefer", "wait_s"),
    [
        (b"", None),
        (b"wait", 60.0),
        (b"wait=1", 1.0),
        (b"wait=60", 60.0),
        (b"Wait = 5", 5.0),
        (b'wait="7"', 7.0),
        (b"handling=lenient, wait=3", 3.0),
        (b"wait=3;foo=bar", 3.0),
        (b"respond-async", None),
        (b"waiting=3", None),
    ],
)
def test_prefer_wait_says_how_long(prefer: bytes, wait_s: float | None) -> None:
    assert wait_of(prefer) == wait_s


@pytest.mark.parametrize(
    "prefer",
    [
        b"wait=0",
        b"wait=61",
        b"wait=00601",
        b"wait=",
        b"wait=-1",
        b"wait=1.5",
        b"wait=x",
        b"wait=\xb2",
    ],
)
def test_a_wait_that_is_out_of_range_is_refused(prefer: bytes) -> None:
    with pytest.raises(InvalidInput, match="1 to 60") as caught:
        wait_of(prefer)
    assert caught.value.param == "Prefer"


def notice(webhook: str | None, events: tuple[str, ...] | None = None) -> Notice | None:
    """What a request's fields come to, where nothing but what is public may be called."""
    return notice_of(webhook, events, rules=Rules(), shown_at="http://g/v1/predictions", own_id="")


def test_who_says_nothing_of_events_is_told_of_all() -> None:
    told = notice("https://hooks.example/a?b=c")
    assert told is not None
    assert (told.url, told.events) == ("https://hooks.example/a?b=c", tuple(Event))
    told = notice("https://hooks.example", ("completed", "start", "completed"))
    assert told is not None
    assert told.events == (Event.COMPLETED, Event.START)
    assert notice(None) is None
    assert notice("", ()) is None


@pytest.mark.parametrize(
    ("webhook", "events", "param"),
    [
        ("ftp://hooks.example", None, "webhook"),
        ("hooks.example/a", None, "webhook"),
        ("https://me:word@hooks.example", None, "webhook"),
        ("http://169.254.169.254/latest", None, "webhook"),
        ("http://[::ffff:127.0.0.1]/", None, "webhook"),
        ("https://hooks.example", ("finished",), "webhook_events_filter"),
        (None, ("completed",), "webhook_events_filter"),
    ],
)
def test_a_webhook_that_can_not_be_is_refused_and_named(
    webhook: str | None, events: tuple[str, ...] | None, param: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        notice(webhook, events)
    assert caught.value.param == param


def test_what_is_not_wanted_may_be_null() -> None:
    body = b'{"version": "m", "input": {}, "stream": false, "webhook": null}'
    assert read(body).version == "m"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b'{"input": {}}', "version"),
        (b'{"version": "m"}', "input"),
        (b'{"version": 1, "input": {}}', "version"),
        (b'{"version": "m", "input": {}, "model": "x"}', "model"),
    ],
)
def test_a_body_of_the_wrong_shape_names_the_field(body: bytes, param: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        read(body)
    assert caught.value.param == param


def test_one_text_is_one_row_and_one_output() -> None:
    asked = rows_of(EMBEDDER, msgspec.Raw(b'{"text": "a"}'), most=5)
    assert (asked.rows, asked.single, asked.truncate) == ((TextRow("a"),), True, False)


def test_a_list_of_one_text_is_answered_with_a_list() -> None:
    asked = rows_of(EMBEDDER, msgspec.Raw(b'{"text": ["a"], "truncate": true}'), most=5)
    assert (asked.rows, asked.single, asked.truncate) == ((TextRow("a"),), False, True)


@pytest.mark.parametrize(
    ("text", "param"),
    [
        (b'{"text": ""}', "input.text"),
        (b'{"text": []}', "input.text"),
        (b'{"text": ["a", ""]}', "input.text[1]"),
        (b'{"text": ["a", 1]}', "input.text[1]"),
        (b'{"text": ["a", "a", "a", "a", "a", "a"]}', "input.text"),
        (b'{"text": "a", "prompt": "b"}', "input.prompt"),
        (b"{}", "input.text"),
        (b'"a"', "input"),
    ],
)
def test_a_wrong_input_names_the_field(text: bytes, param: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        rows_of(EMBEDDER, msgspec.Raw(text), most=5)
    assert caught.value.param == param


def test_an_echo_keeps_the_values_own_bytes() -> None:
    asked = rows_of(ECHO, msgspec.Raw('{"value": {"a":  [1, "é"]}}'.encode()), most=5)
    assert asked.rows == (ValueRow('{"a":  [1, "é"]}'.encode()),)
    assert asked.single


@pytest.mark.parametrize("value", [b'"\xff"', b"1e999", b"[" * 200 + b"]" * 200, b"1" * 10_000])
def test_an_echo_refuses_a_value_that_could_not_be_read_back(value: bytes) -> None:
    with pytest.raises(InvalidInput):
        rows_of(ECHO, msgspec.Raw(b'{"value": %s}' % value), most=5)


def prediction(**fields: Any) -> Prediction:
    defaults: dict[str, Any] = {
        "id": "minilm-0-00",
        "model": "minilm",
        "status": Status.STARTING,
        "created_at_ms": 1_700_000_000_123,
        "deadline_at_ms": 1_700_000_030_123,
    }
    return Prediction(**{**defaults, **fields})


def shown(given: Prediction, *, single: bool = True) -> dict[str, Any]:
    body = render(
        given,
        version="0123456789ab",
        url="http://h/v1/predictions/x",
        input_json={"text": "a"},
        single=single,
    )
    told: dict[str, Any] = msgspec.json.decode(body)
    return told


def test_a_prediction_that_has_not_started_has_every_field_all_the_same() -> None:
    assert shown(prediction()) == {
        "id": "minilm-0-00",
        "model": "minilm",
        "version": "0123456789ab",
        "status": "starting",
        "input": {"text": "a"},
        "output": None,
        "error": None,
        "logs": "",
        "metrics": {},
        "created_at": "2023-11-14T22:13:20.123000Z",
        "started_at": None,
        "completed_at": None,
        "deadline": "2023-11-14T22:13:50.123000Z",
        "urls": {
            "get": "http://h/v1/predictions/x",
            "cancel": "http://h/v1/predictions/x/cancel",
        },
        "data_removed": False,
    }


def test_a_prediction_that_has_succeeded_tells_its_output_and_times() -> None:
    told = shown(
        prediction(
            status=Status.SUCCEEDED,
            started_at_ms=1_700_000_000_500,
            completed_at_ms=1_700_000_001_123,
            outputs=(Embedding(struct.pack("<2f", 0.5, -2), 3),),
            timing=Timing(1, 2, 250),
        )
    )
    assert told["status"] == "succeeded"
    assert told["output"] == [0.5, -2.0]
    assert told["metrics"] == {"predict_time": 0.25, "total_time": 1.0}
    assert told["completed_at"] == "2023-11-14T22:13:21.123000Z"


@pytest.mark.parametrize(
    ("outputs", "single", "output"),
    [
        ((Value(b'{"a":1}'),), True, {"a": 1}),
        ((Value(b"null"),), True, None),
        ((Embedding(struct.pack("<f", 1), 1),), False, [[1.0]]),
        ((Embedding(struct.pack("<f", 1), 1),) * 2, False, [[1.0], [1.0]]),
    ],
)
def test_an_output_is_a_list_where_the_input_was_one(
    outputs: tuple[Output, ...], single: bool, output: object
) -> None:
    told = shown(prediction(status=Status.SUCCEEDED, outputs=outputs), single=single)
    assert told["output"] == output


def test_a_replay_names_the_prediction_that_it_is_a_replay_of() -> None:
    assert shown(prediction(retry_of="minilm-0-11"))["retry_of"] == "minilm-0-11"
    assert "retry_of" not in shown(prediction())


def test_an_error_is_told_in_words() -> None:
    error = ErrorInfo(ErrorKind.TOO_LONG, "Row 0: too long.", 0)
    told = shown(prediction(status=Status.FAILED, error=error))
    assert (told["status"], told["error"], told["output"]) == ("failed", "Row 0: too long.", None)


def test_expired_is_shown_as_canceled_with_the_reason() -> None:
    error = ErrorInfo(ErrorKind.DEADLINE_EXCEEDED, "Too late.")
    told = shown(prediction(status=Status.EXPIRED, error=error))
    assert (told["status"], told["error"]) == ("canceled", "Too late.")


@pytest.mark.parametrize(
    ("task", "value", "single"),
    [
        (Task.EMBEDDING, {"text": "a"}, True),
        (Task.EMBEDDING, {"text": ["a"]}, False),
        (None, {"text": ["a"]}, False),
        (Task.ECHO, {"value": [1]}, True),
        (Task.PYTHON, {"text": ["a"]}, True),
        (Task.PYTHON, [{"text": "a"}], False),
        (None, None, True),
    ],
)
def test_whether_an_input_was_a_list_is_read_from_the_input(
    task: Task | None, value: object, single: bool
) -> None:
    assert is_single(task, value) is single


def test_a_python_models_input_is_one_object_or_a_list_of_them() -> None:
    one = rows_of(PYTHON, msgspec.Raw(b' {"a": [1.0]} '), most=2)
    assert (one.rows, one.single) == ((ValueRow(b' {"a": [1.0]} '),), True)
    several = rows_of(PYTHON, msgspec.Raw(b'[{"a": 1}, {}]'), most=2)
    assert (several.rows, several.single) == ((ValueRow(b'{"a": 1}'), ValueRow(b"{}")), False)


@pytest.mark.parametrize(
    ("given", "param", "said"),
    [
        (b"3", "input", "expected `object | array`, got `int`"),
        (b"[3]", "input[0]", "expected `object`, got `int`"),
        (b"[]", "input", "must not be empty"),
        (b"[{}, {}, {}]", "input", "3 items; one request takes 2"),
        (b'{"a": ' + b"[" * 200 + b"]" * 200 + b"}", "input", "nests more than 128"),
    ],
)
def test_what_is_neither_is_refused(given: bytes, param: str, said: str) -> None:
    with pytest.raises(InvalidInput, match=said.replace("|", r"\|")) as caught:
        rows_of(PYTHON, msgspec.Raw(given), most=2)
    assert caught.value.param == param


@pytest.mark.parametrize(
    ("header", "seconds"),
    [(b"", None), (b"5", 5), (b"90s", 90), (b"5m", 300), (b" 1H30M5S ", 5_405), (b"2h", 7_200)],
)
def test_cancel_after_is_a_duration(header: bytes, seconds: float | None) -> None:
    assert cancel_after_of(header) == seconds


@pytest.mark.parametrize("header", [b"0", b"0s", b"-5", b"1.5s", b"soon", b"5 m", b"m", b"1s1m"])
def test_what_is_no_duration_is_refused_by_name(header: bytes) -> None:
    with pytest.raises(InvalidInput, match="5m") as refused:
        cancel_after_of(header)
    assert refused.value.param == "Cancel-After"
