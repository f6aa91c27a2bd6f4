"""The Celery app of the background: its queues, its schedule, its tasks."""

import logging
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from celery import Celery
from kombu import Exchange, Queue
from redis.exceptions import RedisError

from forebay.background.broker import broker_configuration
from forebay.background.chores import Chores
from forebay.background.webhooks.hooks import Hooks
from forebay.contract.errors import Unavailable
from forebay.records.deliveries import HANDED_MS
from forebay.runtime.catalog import Catalog
from forebay.runtime.settings import Settings

log = logging.getLogger(__name__)

EXCHANGE: Final = Exchange("background", type="direct")
SWEEPS: Final = Queue("background.sweeps", EXCHANGE, routing_key="sweeps")
"""What predictions wait for: deadlines and orphans."""
RETENTION: Final = Queue("background.retention", EXCHANGE, routing_key="retention")
"""What nobody waits for: old files, dead letters, and the list of predictions."""

WEBHOOKS: Final = Queue("background.webhooks", EXCHANGE, routing_key="webhooks")
"""Deliveries that are to be tried."""

DELIVER: Final = "forebay.background.deliver"
"""The task that has one tried; its id is the delivery's."""

LONG_AGO: Final = datetime(2000, 1, 1, tzinfo=UTC)
"""Last run of a task that is to run as soon as beat starts."""


def create_celery(
    settings: Settings,
    catalog: Catalog,
    *,
    chores: Chores | None = None,
    hooks: Hooks | None = None,
) -> Celery:
    """The app: with it, a process can work, schedule, or send background tasks.

    Nothing is connected before it is used.

    Args:
        settings: where Redis is, and how often to do what.
        catalog: the models whose lanes are looked after.
        chores: what the tasks call; its owner closes it. Its own by default.
        hooks: tries deliveries; a process without it sends none.
    """
    app = Celery("forebay.background", set_as_current=False)
    app.conf.update(_configuration(settings))
    _add_tasks(app, chores or Chores(settings, catalog))
    if hooks is not None:
        app.task(name=DELIVER, shared=False)(hooks.deliver)
    app.conf.beat_schedule = {
        "expire-overdue": _every(settings.sweep_s, "expire_overdue", SWEEPS),
        "lapse-orphans": _every(settings.sweep_s, "lapse_orphans", SWEEPS),
        "drop-dead-letters": _every(settings.retention_s, "drop_dead_letters", RETENTION),
        "unlist-predictions": _every(settings.retention_s, "unlist_predictions", RETENTION),
        "expire-files": _every(settings.retention_s, "expire_files", RETENTION),
        "drop-deliveries": _every(settings.retention_s, "drop_deliveries", RETENTION),
    }
    if any(told.shadow for spec in catalog.models.values() for told in spec.versions.values()):
        app.conf.beat_schedule["compare-copies"] = _every(
            settings.sweep_s, "compare_copies", SWEEPS
        )
    return app


def post(app: Celery, deliveries: Sequence[tuple[str, str]]) -> None:
    """Send a message for each delivery: its id, and its receiver's host.

    Raises:
        kombu.exceptions.OperationalError: the broker is out of reach; they are due again.
    """
    with app.producer_or_acquire() as producer:
        for delivery, host in deliveries:
            app.send_task(
                DELIVER,
                args=(delivery, host),
                task_id=delivery,
                queue=WEBHOOKS.name,
                expires=HANDED_MS / 1000,
                producer=producer,
            )


def _configuration(settings: Settings) -> dict[str, Any]:
    return {
        **broker_configuration(settings),
        "task_queues": (SWEEPS, RETENTION, WEBHOOKS),
        "task_create_missing_queues": False,
        "task_default_queue": SWEEPS.name,
        "task_default_exchange": EXCHANGE.name,
        "task_default_routing_key": SWEEPS.routing_key,
        "task_serializer": "json",
        "accept_content": ["json"],
        "task_ignore_result": True,
        "result_expires": None,
        # Nothing is acknowledged in Redis, so nothing has to be cancelled when it goes away.
        "task_acks_late": False,
        "worker_cancel_long_running_tasks_on_connection_loss": True,
        "worker_prefetch_multiplier": 1,
        "worker_enable_prefetch_count_reduction": False,
        "worker_enable_remote_control": False,
        "worker_send_task_events": False,
        "worker_hijack_root_logger": False,
        "worker_redirect_stdouts": False,
    }


def _add_tasks(app: Celery, chores: Chores) -> None:
    for chore in (
        chores.expire_overdue,
        chores.lapse_orphans,
        chores.drop_dead_letters,
        chores.unlist_predictions,
        chores.expire_files,
        chores.drop_deliveries,
        chores.compare_copies,
    ):
        # Not shared: other apps of this process, those of Celery's tasks, have no part in it.
        app.task(name=_name(chore.__name__), shared=False)(_task(chore))


def _task(chore: Callable[[], int]) -> Callable[[], None]:
    def task() -> None:
        try:
            chore()
        except (RedisError, OSError, Unavailable) as error:
            # The next message of the schedule does what this one could not.
            log.warning("%s put off: %s", chore.__name__, error)

    return task


def _name(chore: str) -> str:
    return f"forebay.background.{chore}"


def _every(seconds: float, chore: str, queue: Queue) -> dict[str, Any]:
    return {
        "task": _name(chore),
        "schedule": seconds,
        "last_run_at": LONG_AGO,
        "options": {
            "queue": queue.name,
            # Unread after a period it is worth nothing: the next one is there.
            "expires": seconds,
        },
    }
