"""Tasks of a plain Celery app, unmodified, on a Redis: each process as users run it."""

import base64
import json
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import redis
from celery import chain, chord, group, states
from celery.exceptions import (
    ChordError,
    SoftTimeLimitExceeded,
    TaskRevokedError,
    TimeLimitExceeded,
)

from tests.fixtures.celery_side import CelerySide, celery_side, got
from tests.fixtures.odd_tasks import odd_messages
from tests.fixtures.servers import Server
from tests.fixtures.waiting import eventually_sync

WRONG = {"no": "such field"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A Redis of this module's own, which remembers what was written when it is killed."""
    server = Server(tmp_path_factory.mktemp("redis"), aof=True, fsync="no")
    server.start()
    yield server
    server.kill()


@pytest.fixture(scope="module")
def side(tmp_path_factory: pytest.TempPathFactory, server: Server) -> Iterator[CelerySide]:
    """An app whose broker and backend are in databases of the lanes' Redis."""
    url = server.url.removesuffix("/0")
    with celery_side(
        tmp_path_factory.mktemp("celery"),
        lanes_url=f"{url}/0",
        broker_url=f"{url}/2",
        backend_url=f"{url}/3",
        notes_url=f"{url}/4",
        lease_s="2",
    ) as running:
        yield running


@pytest.fixture
def broker(server: Server) -> Iterator[redis.Redis]:
    """The app's broker, as it is."""
    with redis.Redis.from_url(server.url.removesuffix("/0") + "/2") as client:
        yield client


def test_a_task_by_its_name_comes_to_a_models_output(side: CelerySide) -> None:
    result = side.app.send_task(
        "forebay.predict",
        kwargs={"model": "echo", "input": {"value": {"a": [1, 2]}}},
        queue="forebay.echo",
    )
    assert got(result) == {"a": [1, 2]}
    assert result.state == states.SUCCESS
    assert result.successful()
    assert result.date_done is not None


def test_the_queue_says_the_model_and_the_input_may_be_bare(side: CelerySide) -> None:
    assert got(side.predict(4).apply_async()) == 4
    assert got(side.predict(input=[1]).apply_async()) == [1]


@pytest.mark.parametrize("priority", [0, 3, 9])
def test_tasks_of_any_priority_are_taken(side: CelerySide, priority: int) -> None:
    assert got(side.predict(5).apply_async(priority=priority)) == 5


def test_a_lane_may_be_named(side: CelerySide) -> None:
    assert got(side.predict(5, lane="realtime").apply_async()) == 5
    with pytest.raises(ValueError, match="lane"):
        got(side.predict(5, lane="fast").apply_async())


def test_outputs_go_on_in_chains_groups_and_chords(side: CelerySide) -> None:
    one, add = side.predict(1), side.web("add")
    assert got(chain(one, add).apply_async()) == 101
    assert got(chain(one, add, side.predict()).apply_async()) == 101
    assert got(chain(add.clone(args=(1,)), side.predict()).apply_async()) == 101
    several = [side.predict(number) for number in range(10)]
    assert got(group(several).apply_async()) == list(range(10))
    total = side.web("total")
    assert got(chord(several, total).apply_async()) == 45
    assert got(chord(several[:3], chain(total, add)).apply_async()) == 103
    nested = chord([chord(several[:3], total), chain(one, add)], side.web("total"))
    assert got(nested.apply_async()) == 104
    assert got(chord([add.clone(args=(1,)), one], side.predict()).apply_async()) == [101, 1]


def test_a_step_may_have_an_input_of_its_own_if_it_is_immutable(side: CelerySide) -> None:
    own = side.predict(input={"value": "own"})
    assert got(chain(side.predict(1), own.clone().set(immutable=True)).apply_async()) == "own"
    with pytest.raises(ValueError, match="two inputs"):
        got(chain(side.predict(1), own).apply_async())


def test_callbacks_are_called(side: CelerySide) -> None:
    key = uuid.uuid4().hex
    result: Any = side.predict(7).apply_async(
        link=[side.web("add", to=1), side.web("note", key=key)]
    )
    assert got(result) == 7
    assert next(got(child) for child in result.children[0].results) == 8
    assert side.noted(key) == ["7"]


def test_failures_reach_errbacks_chains_and_chords(side: CelerySide) -> None:
    key = uuid.uuid4().hex
    wrong = side.predict(WRONG)
    failed = wrong.apply_async(link_error=side.web("failed", key=key))
    with pytest.raises(ValueError, match=r"input\.no"):
        got(failed)
    assert failed.state == states.FAILURE
    assert side.noted(key) == [failed.id]
    told = uuid.uuid4().hex
    failed = wrong.apply_async(link_error=side.predict().set(task_id=told))
    assert got(side.app.AsyncResult(told)) == failed.id
    following = chain(wrong, side.web("add")).apply_async()
    with pytest.raises(ValueError, match=r"input\.no"):
        got(following)
    body = chord([side.predict(1), wrong], side.web("total")).apply_async()
    with pytest.raises(ChordError, match="ValueError"):
        got(side.app.AsyncResult(body.id))  # by its id: it has no parents whose errors come first


@pytest.mark.parametrize("long_ago", [-5, datetime.now(UTC) - timedelta(seconds=5)])
def test_what_has_expired_is_revoked(side: CelerySide, long_ago: Any) -> None:
    result: Any = side.predict(1).apply_async(expires=long_ago)
    with pytest.raises(TaskRevokedError, match="expired"):
        got(result)
    assert result.state == states.REVOKED


def test_what_expires_while_it_waits_for_a_worker_is_revoked(side: CelerySide) -> None:
    result = side.predict(1, model="idle").apply_async(expires=0.5)
    with pytest.raises(TaskRevokedError, match="expired"):
        got(result)


def test_a_task_waits_for_its_time(side: CelerySide) -> None:
    eta = datetime.now(UTC) + timedelta(seconds=1)
    result = side.predict(1).apply_async(eta=eta)
    assert got(result) == 1
    assert result.date_done is not None
    assert result.date_done.replace(tzinfo=UTC) >= eta
    assert got(side.predict(2).apply_async(countdown=0.2)) == 2


def test_a_task_that_waits_can_be_revoked(side: CelerySide) -> None:
    # No worker takes it up, if the word should come after its time.
    result: Any = side.predict(1, model="idle").apply_async(countdown=1)
    side.app.control.revoke(result.id)
    with pytest.raises(TaskRevokedError):
        got(result)
    assert result.state == states.REVOKED


@pytest.mark.parametrize("terminate", [False, True])
def test_a_task_under_way_can_be_revoked(side: CelerySide, terminate: bool) -> None:
    result = side.predict(1, model="idle").apply_async()
    eventually_sync(lambda: result.id in side.under_way(), what="it is under way")
    side.app.control.revoke(result.id, terminate=terminate)
    with pytest.raises(TaskRevokedError, match="revoked"):
        got(result)


def test_an_order_that_is_a_bomb_is_passed_over_and_the_next_is_followed(
    side: CelerySide,
) -> None:
    side.check_that_a_bomb_is_passed_over()


def test_celery_sees_the_process_and_its_queues(side: CelerySide) -> None:
    def seen() -> Any:
        told = side.app.control.inspect(timeout=1).active_queues() or {}
        return next((told[name] for name in told if name.startswith("forebay-")), None)

    queues = eventually_sync(seen, what="the process answers")
    assert {queue["name"] for queue in queues} == {"forebay.echo", "forebay.idle"}

    def pongs() -> list[Any]:
        answers: Any = side.app.control.ping()
        return [told[name] for told in answers for name in told if "forebay" in name]

    assert {"ok": "pong"} in eventually_sync(pongs, what="it answers a ping")


@pytest.mark.parametrize(
    ("limits", "error"),
    [
        ({"soft_time_limit": 0.2}, SoftTimeLimitExceeded),
        ({"time_limit": 0.2}, TimeLimitExceeded),
        ({"time_limit": 0.2, "soft_time_limit": 60}, TimeLimitExceeded),
    ],
)
def test_time_limits_end_what_takes_longer(
    side: CelerySide, limits: dict[str, Any], error: type[Exception]
) -> None:
    result = side.predict(1, model="idle").apply_async(**limits)
    with pytest.raises(error):
        got(result)
    assert got(side.predict(1).apply_async(time_limit=60, soft_time_limit=60)) == 1


def test_a_result_that_nobody_wants_is_not_kept(side: CelerySide) -> None:
    key = uuid.uuid4().hex
    plain = side.predict(1).apply_async(ignore_result=True)
    linked = side.predict(2).apply_async(ignore_result=True, link=side.web("note", key=key))
    assert side.noted(key) == ["2"]
    assert got(side.predict(3).apply_async()) == 3
    assert [plain.state, linked.state] == [states.PENDING] * 2


def test_an_id_of_the_apps_own_may_be_used_again(side: CelerySide) -> None:
    id_ = f"order-{uuid.uuid4()}"
    first = side.predict(1).apply_async(task_id=id_)
    assert (first.id, got(first)) == (id_, 1)
    first.forget()
    assert got(side.predict(2).apply_async(task_id=id_, retries=1)) == 2


def test_there_is_no_such_model(side: CelerySide) -> None:
    with pytest.raises(LookupError, match="nobody"):
        got(side.app.send_task("forebay.predict", [1], {"model": "nobody"}, queue="forebay.echo"))


def test_pickle_is_refused_and_nothing_of_it_is_executed(side: CelerySide, tmp_path: Path) -> None:
    result = side.predict(_Touch(tmp_path / "executed")).apply_async(serializer="pickle")
    with pytest.raises(ValueError, match="only json"):
        got(result)
    assert not (tmp_path / "executed").exists()
    eventually_sync(lambda: result.id in letters(side), what="it is put aside")


def test_a_task_of_another_name_is_refused(side: CelerySide) -> None:
    with pytest.raises(ValueError, match=r"no task 'web\.add'"):
        got(side.app.send_task("web.add", args=[1], queue="forebay.echo"))


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (b"{", "no message of Celery's"),
        (b'{"body": "", "headers": {}, "properties": {}}', "Object missing required field"),
    ],
)
def test_what_is_no_message_is_put_aside_and_the_rest_goes_on(
    side: CelerySide, broker: "redis.Redis", message: bytes, reason: str
) -> None:
    broker.lpush("forebay.echo", message)
    assert got(side.predict(1).apply_async()) == 1
    eventually_sync(lambda: reason in letters(side), what="it is put aside")


def test_a_body_that_cant_be_read_fails_its_task(side: CelerySide, broker: "redis.Redis") -> None:
    id_ = uuid.uuid4().hex
    headers = {"task": "forebay.predict", "id": id_}
    envelope = {
        "body": base64.b64encode(b"[[], {}").decode(),
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "headers": headers,
        "properties": {"body_encoding": "base64"},
    }
    broker.lpush("forebay.echo", json.dumps(envelope))
    with pytest.raises(ValueError, match="body can't be read"):
        got(side.app.AsyncResult(id_))


def test_a_compressed_body_is_read(side: CelerySide) -> None:
    assert got(side.predict("x" * 5_000).apply_async(compression="gzip")) == "x" * 5_000


def test_odd_messages_end_as_they_should_and_the_rest_goes_on(
    side: CelerySide, broker: "redis.Redis"
) -> None:
    odd = odd_messages(uuid.uuid4().hex)
    broker.lpush("forebay.echo", *(one.raw for one in odd))
    assert got(side.predict(1).apply_async()) == 1
    eventually_sync(lambda: not held(broker), what="nothing is held any more")
    wrong: dict[str, str] = {}
    for one in odd:
        if not one.id:
            continue
        result: Any = side.app.AsyncResult(one.id)
        ended = type(result.result).__name__ if result.failed() else ""
        ended = "TaskRevokedError" if result.state == states.REVOKED else ended
        if not result.ready() or (one.ends != "*" and ended not in one.ends.split("|")):
            wrong[one.name] = f"{result.state}: {result.result!r}"
    assert not wrong
    assert len(odd) > 100


def letters(side: CelerySide) -> str:
    """What `forebay celery letters` shows."""
    done = subprocess.run(
        [sys.executable, "-m", "forebay.cli", "celery", "letters", "--json"],
        env=side.env,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


class _Touch:
    """Leaves a file behind if it is unpickled."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self._path,)


def test_a_kill_in_the_middle_loses_nothing(side: CelerySide, broker: "redis.Redis") -> None:
    key = uuid.uuid4().hex
    results = [side.predict(number).apply_async() for number in range(100)]
    got(results[50])
    side.processes["worker"].send_signal(signal.SIGSTOP)
    last = side.predict("put off").apply_async(countdown=1)
    linked = side.predict("linked").apply_async(link=side.web("note", key=key))
    results += [side.predict(number).apply_async() for number in range(100, 1_000)]
    eventually_sync(lambda: len(held(broker)) > 100, what="many are under way")
    side.kill("background")
    side.processes["worker"].send_signal(signal.SIGCONT)
    side.start("background")
    assert [got(result) for result in results] == list(range(1_000))
    assert (got(linked), got(last)) == ("linked", "put off")
    assert side.noted(key)[0] == "linked"
    eventually_sync(lambda: not held(broker), what="nothing is held any more")


def test_a_redis_that_was_killed_in_the_middle_loses_nothing(
    side: CelerySide, server: Server, broker: "redis.Redis"
) -> None:
    key = uuid.uuid4().hex
    side.processes["worker"].send_signal(signal.SIGSTOP)
    linked = side.predict("linked").apply_async(link=side.web("note", key=key))
    body = chord([side.predict(1), side.predict(2)], side.web("total")).apply_async()
    later = side.predict("put off").apply_async(countdown=1)
    results = [side.predict(number).apply_async() for number in range(700)]
    eventually_sync(lambda: len(held(broker)) > 100, what="many are under way")
    server.restart()
    side.processes["worker"].send_signal(signal.SIGCONT)
    assert [got(result) for result in results] == list(range(700))
    assert (got(linked), got(body), got(later)) == ("linked", 3, "put off")
    assert side.noted(key) == ["linked"]
    eventually_sync(lambda: not held(broker), what="nothing is held any more")


def held(broker: "redis.Redis") -> list[bytes]:
    """Places of messages for `echo` that somebody holds."""
    takers: Any = broker.keys("forebay:{celery}:held:*")
    places: list[Any] = [place for taker in takers for place in broker.hkeys(taker)]
    return [place for place in places if b"forebay.echo" in place]
