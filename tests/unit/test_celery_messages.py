"""What Celery's messages say, what they ask for, and how outcomes look to an app."""

import base64
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from celery.app.task import Context

from forebay.background.ingress import apps, calls
from forebay.background.ingress.calls import Call, lane_of
from forebay.background.ingress.inputs import input_of
from forebay.background.ingress.messages import (
    Message,
    Unreadable,
    opened,
    time_ms,
)
from forebay.background.ingress.outcomes import (
    Ended,
    Limits,
    ended_of,
    error_of,
    expired,
    limits_of,
    revoked,
)
from forebay.background.ingress.results import meta_of
from forebay.contract.asking import Predicted
from forebay.contract.errors import ConfigurationError, ErrorInfo, ErrorKind, InvalidInput
from forebay.contract.model import BackendName, ModelSpec
from forebay.contract.prediction import Lane, Status
from forebay.contract.rows import Task
from forebay.runtime.catalog import Catalog
from forebay.runtime.settings import Settings

ECHO = Catalog({"echo": ModelSpec(task=Task.ECHO, backend=BackendName.ECHO, name="echo")})
BROKER = "redis://127.0.0.1:1/2"


def call_of(message: Message) -> Call:
    """What it asks for, however large it is."""
    return calls.call_of(message, most_bytes=10_000)


def message(
    args: Any = (),
    kwargs: Any = None,
    embed: Any = None,
    *,
    content_type: str = "application/json",
    priority: int = 0,
    **headers: Any,
) -> Message:
    """A message as Celery sends it."""
    body = json.dumps([args, kwargs or {}, embed or {}]).encode()
    envelope = {
        "body": base64.b64encode(body).decode(),
        "content-type": content_type,
        "content-encoding": "utf-8",
        "headers": {"task": "forebay.predict", "id": "one", **headers},
        "properties": {"body_encoding": "base64", "priority": priority},
    }
    return opened(json.dumps(envelope).encode())


@pytest.mark.parametrize(
    "raw",
    [b"", b"[]", b"{}", b'{"body": "?", "headers": {"id": "1", "task": "t"}, "properties": {}'],
)
def test_what_is_no_envelope_is_unreadable(raw: bytes) -> None:
    with pytest.raises(Unreadable, match="no message of Celery's"):
        opened(raw)


def test_a_message_of_the_first_protocol_is_unreadable() -> None:
    raw = json.dumps({"body": "{}", "headers": {}, "properties": {}}).encode()
    with pytest.raises(Unreadable, match="protocol 2"):
        opened(raw)


def test_a_call_has_its_arguments_and_what_follows() -> None:
    call = call_of(message([4], {"model": "echo:v2"}))
    assert (call.arguments.model, call.plain) == ("echo:v2", True)
    assert not call_of(message([4], embed={"callbacks": [{"task": "web.add"}]})).plain
    assert not call_of(message([4], embed={"chord": {"task": "web.total"}})).plain


@pytest.mark.parametrize(
    ("args", "kwargs", "words"),
    [
        ([1, 2], {}, "one positional argument"),
        ([], {"text": "?"}, "unknown field `text`"),
        ([], {"model": 4}, "model"),
    ],
)
def test_wrong_arguments_are_refused(args: Any, kwargs: Any, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        call_of(message(args, kwargs))


def test_arguments_over_the_limit_are_refused() -> None:
    with pytest.raises(InvalidInput, match="over the limit of 10000"):
        call_of(message(["x" * 10_000]))


def test_what_is_nested_too_deep_is_unreadable() -> None:
    deep = b"[" * 100_000 + b"]" * 100_000
    raw = b'{"headers": %s, "body": "", "properties": {}}' % deep
    with pytest.raises(Unreadable):
        opened(raw)
    chain = b"[" * 4_000 + b"]" * 4_000
    nested = msgspec.structs.replace(message([1]), body=b'[[], {}, {"chain": %s}]' % chain)
    with pytest.raises(Unreadable, match="can't be read"):
        call_of(nested)


def test_only_json_and_only_our_task_are_read() -> None:
    with pytest.raises(Unreadable, match="yaml"):
        call_of(message([1], content_type="application/x-yaml"))
    with pytest.raises(InvalidInput, match=r"no task 'web\.add'"):
        call_of(message([1], task="web.add"))


@pytest.mark.parametrize(
    ("given", "task", "expected"),
    [
        ("text", Task.EMBEDDING, {"text": "text"}),
        (["a", "b"], Task.CLASSIFICATION, {"text": ["a", "b"]}),
        ("https://x/y.png", Task.IMAGE_CLASSIFICATION, {"image": "https://x/y.png"}),
        ("Once", Task.GENERATION, {"prompt": "Once"}),
        (4, Task.ECHO, {"value": 4}),
        ({"value": 4}, Task.ECHO, {"value": 4}),
        ([{"a": 1}], Task.PYTHON, [{"a": 1}]),
        ("text", None, "text"),
    ],
)
def test_a_bare_value_is_that_of_the_one_obvious_field(
    given: Any, task: Task | None, expected: Any
) -> None:
    for call in (call_of(message([given])), call_of(message([], {"input": given}))):
        assert json.loads(input_of(call, task)) == expected


def test_there_is_one_input() -> None:
    with pytest.raises(InvalidInput, match="two inputs"):
        input_of(call_of(message([1], {"input": 2})), Task.ECHO)
    with pytest.raises(InvalidInput, match="no input"):
        input_of(call_of(message()), Task.ECHO)


def test_tasks_queue_in_bulk_unless_somebody_says_otherwise() -> None:
    def lane(by_priority: bool, **told: Any) -> Lane:
        one = message([1], told.pop("kwargs", {}), **told)
        return lane_of(call_of(one), one, by_priority=by_priority)

    assert lane(True) is Lane.BULK
    assert lane(True, priority=9) is Lane.REALTIME
    assert lane(False, priority=9) is Lane.BULK
    assert lane(False, kwargs={"lane": "realtime"}) is Lane.REALTIME
    assert lane(True, priority=9, kwargs={"lane": "bulk"}) is Lane.BULK


def test_times_are_read_as_celery_writes_them() -> None:
    assert time_ms("1970-01-01T00:00:01+00:00") == 1_000
    assert time_ms("1970-01-01T02:00:00.5+02:00") == 500
    assert time_ms("1970-01-01T00:00:01") == 1_000
    with pytest.raises(Unreadable, match="no time"):
        time_ms("soon")


def test_the_first_of_the_limits_ends_a_task() -> None:
    headers = message([1], timelimit=[60, 10]).headers
    assert repr(limits_of(headers, None, 0).error) == "SoftTimeLimitExceeded()"
    assert repr(limits_of(headers, 5_000, 1_000)) == repr(Limits(4.0, expired()))
    assert limits_of(message([1], timelimit=[None, None]).headers, None, 0) == Limits()


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (ErrorKind.TOO_LONG, ValueError),
        (ErrorKind.NOT_FOUND, LookupError),
        (ErrorKind.DEADLINE_EXCEEDED, TimeoutError),
        (ErrorKind.BACKEND_FAILED, RuntimeError),
        (ErrorKind.INTERNAL, RuntimeError),
    ],
)
def test_a_failure_is_an_exception_that_any_app_has(
    kind: ErrorKind, expected: type[Exception]
) -> None:
    error = error_of(ErrorInfo(kind, "Why."))
    assert type(error) is expected
    assert str(error) == "Why."


def test_what_was_canceled_is_revoked_unless_its_time_was_over() -> None:
    canceled = Predicted("id", Status.CANCELED, b"null", ErrorInfo(ErrorKind.CANCELED, "?"))
    assert ended_of(canceled, Limits()).state == "REVOKED"
    limit = TimeoutError("limit")
    assert ended_of(canceled, Limits(1.0, limit)).error is limit
    failed = Predicted("id", Status.FAILED, b"null", ErrorInfo(ErrorKind.BACKEND_FAILED, "?"))
    assert ended_of(failed, Limits(1.0, limit)).state == "FAILURE"


@pytest.mark.parametrize(
    "ended",
    [Ended(b'{"a": [1.5, "\xc3\xa4"]}'), Ended(error=ValueError("Why.")), Ended(error=revoked())],
)
def test_results_are_those_of_celerys_own_backend(ended: Ended) -> None:
    one = message([1], group="g", parent_id="p")
    app = apps.read(Settings(celery_broker_url=BROKER), ECHO).celery(BROKER)
    backend: Any = app.backend
    meta = backend.decode_result(meta_of(one, ended, "2026-01-01T00:00:00+00:00"))
    result = msgspec.json.decode(ended.output) if ended.error is None else ended.error
    theirs = backend._get_result_meta(result, ended.state, None, _request())
    assert meta.keys() == {*theirs, "task_id"}
    assert repr(meta["result"]) == repr(result)
    for key in ("status", "traceback", "children", "group_id", "parent_id"):
        assert meta[key] == theirs[key], key


def _request() -> Any:
    return Context(id="one", group="g", parent_id="p", children=[])


def test_an_apps_settings_are_told_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "celery.toml"
    path.write_text(
        "result_expires = 60\n"
        "[task_routes]\n'web.*' = { queue = 'web' }\n"
        "[broker_transport_options]\nglobal_keyprefix = 'shop:'\npriority_steps = [0, 5]\n"
        "[queues.embed]\nmodel = 'echo'\nresult_backend = 'redis://127.0.0.1:1/9'\n"
    )
    read = apps.read(Settings(celery_broker_url=BROKER, celery_file=str(path)), ECHO)
    assert read.lists("embed") == ["shop:embed", "shop:embed\x06\x165"]
    assert set(read.queues) == {"embed", "forebay.echo"}
    assert read.backend_of("embed") == "redis://127.0.0.1:1/9"
    assert read.backend_of("forebay.echo") == BROKER
    app = read.celery(read.backend_of("embed"))
    backend: Any = app.backend
    assert backend.expires == 60
    assert app.conf.task_routes == {"web.*": {"queue": "web"}}
    assert app.conf.broker_transport_options["global_keyprefix"] == "shop:"
    assert app.conf.broker_transport_options["socket_keepalive"] is True


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("task_rooutes = {}", "no setting 'task_rooutes'"),
        ("result_serializer = 'pickle'", "not to be set there"),
        ("[queues.embed]\nmodel = 'nobody'", "no such model"),
        ("[queues.embed]\nbackend = ''", "unknown field `backend`"),
        ("=", "not valid TOML"),
    ],
)
def test_a_file_that_says_what_cant_be_is_refused(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "celery.toml"
    path.write_text(text)
    with pytest.raises(ConfigurationError, match=words):
        apps.read(Settings(celery_broker_url=BROKER, celery_file=str(path)), ECHO)
    with pytest.raises(ConfigurationError, match="No such file"):
        apps.read(Settings(celery_broker_url=BROKER, celery_file=str(tmp_path / "none")), ECHO)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("redis+cluster://127.0.0.1:1", "Cluster"),
        ("sentinel://127.0.0.1:1;sentinel://127.0.0.1:2", r"redis\+sentinel://"),
        ("redis://127.0.0.1:x", "can't be understood"),
    ],
)
def test_a_broker_that_cant_be_is_refused(url: str, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        apps.read(Settings(celery_broker_url=url), ECHO)


def test_backends_are_told_to_celery_in_its_own_words() -> None:
    read = apps.read(Settings(celery_broker_url="amqp://guest@127.0.0.1//"), ECHO)
    assert (read.redis, read.result_backend) == (None, "")
    assert read.celery("").conf.result_backend is None
    app = read.celery("rediss+sentinel://me:p@one:1,two:2/main/4")
    assert app.conf.result_backend == "sentinel://me:p@one:1/4;sentinel://me:p@two:2/4"
    assert app.conf.result_backend_transport_options["master_name"] == "main"
    assert app.conf.redis_backend_use_ssl == {"ssl_cert_reqs": "required"}


@pytest.mark.parametrize(
    ("broker", "backend", "words"),
    [
        ("pigeon://127.0.0.1", "", "celery_broker_url: 'pigeon://127.0.0.1' can't be used"),
        (BROKER, "pigeon://127.0.0.1", "result backend: 'pigeon://127.0.0.1' can't be used"),
    ],
)
def test_a_transport_or_a_backend_that_nobody_knows_is_refused(
    broker: str, backend: str, words: str
) -> None:
    settings = Settings(celery_broker_url=broker, celery_result_backend=backend)
    with pytest.raises(ConfigurationError, match=words):
        apps.read(settings, ECHO).check()
    apps.read(
        Settings(celery_broker_url="amqp://127.0.0.1", celery_result_backend="rpc://"), ECHO
    ).check()
