"""Tasks of a plain Celery app on RabbitMQ: acknowledged once their outcome is told."""

import os
import signal
import uuid
from collections.abc import Iterator

import pytest
from celery import chord
from celery.exceptions import TaskRevokedError
from kombu import Connection

from tests.fixtures.celery_side import CelerySide, celery_side, got
from tests.fixtures.rabbitmq import RabbitServer, rabbitmq
from tests.fixtures.waiting import PATIENCE_S, eventually_sync

__all__ = ["rabbitmq"]


@pytest.fixture(scope="module")
def side(
    tmp_path_factory: pytest.TempPathFactory, rabbitmq: RabbitServer, redis_url: str
) -> Iterator[CelerySide]:
    """An app whose broker is RabbitMQ, and whose results are in a Redis."""
    url = redis_url.removesuffix("/0")
    with celery_side(
        tmp_path_factory.mktemp("celery"),
        lanes_url=f"{url}/0",
        broker_url=rabbitmq.url,
        backend_url=f"{url}/6",
        notes_url=f"{url}/7",
        key_prefix=f"t{uuid.uuid4().hex[:12]}",
        lease_s="2",
    ) as running:
        # What an app isn't told was taken may be lost with its broker.
        running.app.conf.broker_transport_options = {"confirm_publish": True}
        yield running


def test_tasks_and_what_follows_from_them(side: CelerySide) -> None:
    results = [side.predict(number).apply_async(priority=number % 10) for number in range(50)]
    assert [got(result) for result in results] == list(range(50))
    assert got(chord([side.predict(1), side.predict(2)], side.web("total")).apply_async()) == 3
    assert got(side.predict(4).apply_async(countdown=0.5)) == 4
    # No worker takes it up, if the word should come after its time.
    gone = side.predict(5, model="idle").apply_async(countdown=1)
    side.app.control.revoke(gone.id)
    with pytest.raises(TaskRevokedError):
        got(gone)
    with pytest.raises(ValueError, match="only json"):
        got(side.predict(1).apply_async(serializer="pickle"))


def test_a_packed_body_is_read_and_one_that_is_a_bomb_or_broken_is_refused(
    side: CelerySide,
) -> None:
    bomb = side.predict("x" * 20_000_000).apply_async(compression="gzip")
    assert got(side.predict("x" * 5_000).apply_async(compression="gzip")) == "x" * 5_000
    with pytest.raises(ValueError, match="more than 10,000,000 bytes"):
        got(bomb)
    broken = uuid.uuid4().hex
    with side.app.connection_for_write() as connection:
        connection.Producer().publish(
            b"no gzip",
            routing_key="forebay.echo",
            content_type="application/json",
            content_encoding="utf-8",
            correlation_id=broken,
            headers={
                "task": "forebay.predict",
                "id": broken,
                "compression": "application/x-gzip",
            },
        )
    with pytest.raises(ValueError, match="can't be decompressed"):
        got(side.app.AsyncResult(broken))
    assert got(side.predict(1).apply_async()) == 1


def test_an_order_that_is_a_bomb_is_passed_over_and_the_next_is_followed(
    side: CelerySide,
) -> None:
    side.check_that_a_bomb_is_passed_over()


def test_a_broker_that_was_killed_in_the_middle_loses_nothing(
    side: CelerySide, rabbitmq: RabbitServer
) -> None:
    side.processes["worker"].send_signal(signal.SIGSTOP)
    results = [side.predict(number).apply_async() for number in range(200)]
    eventually_sync(lambda: len(side.under_way()) == 200, what="all are under way")
    rabbitmq.kill()
    rabbitmq.start()
    side.processes["worker"].send_signal(signal.SIGCONT)
    assert [got(result) for result in results] == list(range(200))
    eventually_sync(lambda: not side.under_way(), what="nothing is under way any more")


def test_a_kill_loses_nothing_and_what_is_done_is_acknowledged(
    side: CelerySide, rabbitmq: RabbitServer
) -> None:
    worker = side.processes["worker"].pid
    os.kill(worker, signal.SIGSTOP)
    results = [side.predict(number).apply_async() for number in range(600)]
    waits = side.predict("later").apply_async(countdown=1)
    eventually_sync(lambda: len(side.under_way()) > 100, what="many are under way")
    side.kill("background")
    os.kill(worker, signal.SIGCONT)
    side.start("background")
    assert [got(result) for result in results] == list(range(600))
    assert got(waits) == "later"
    side.processes["background"].send_signal(signal.SIGTERM)
    assert side.processes["background"].wait(PATIENCE_S) == 0
    with Connection(rabbitmq.url) as connection:
        assert connection.SimpleQueue("forebay.echo").qsize() == 0
