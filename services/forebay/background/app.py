"""The Celery app of the background: its queues, its schedule, its tasks."""

import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

from celery import Celery
from kombu import Exchange, Queue
from redis.exceptions import RedisError

from forebay.background.broker import broker_configuration
from forebay.background.chores import Chores
from forebay.runtime.catalog import Catalog
from forebay.runtime.settings import Settings

log = logging.getLogger(__name__)

EXCHANGE: Final = Exchange("background", type="direct")
SWEEPS: Final = Queue("background.sweeps", EXCHANGE, routing_key="sweeps")
"""What predictions wait for: deadlines and orphans."""
RETENTION: Final = Queue("background.retention", EXCHANGE, routing_key="retention")
"""What nobody waits for: old files and dead letters."""

LONG_AGO: Final = datetime(2000, 1, 1, tzinfo=UTC)
"""Last run of a task that is to run as soon as beat starts."""


def create_celery(settings: Settings, catalog: Catalog, *, chores: Chores | None = None) -> Celery:
    """The app: with it, a process can work, schedule, or send background tasks.

    Nothing is connected before it is used.

    Args:
        settings: where Redis is, and how often to do what.
        catalog: the models whose lanes are looked after.
        chores: what the tasks call; its owner closes it. Its own by default.
    """
    app = Celery("forebay.background", set_as_current=False)
    app.conf.update(_configuration(settings))
    _add_tasks(app, chores or Chores(settings, catalog))
    app.conf.beat_schedule = {
        "expire-overdue": _every(settings.sweep_s, "expire_overdue", SWEEPS),
        "lapse-orphans": _every(settings.sweep_s, "lapse_orphans", SWEEPS),
        "drop-dead-letters": _every(settings.retention_s, "drop_dead_letters", RETENTION),
        "expire-files": _every(settings.retention_s, "expire_files", RETENTION),
    }
    if any(told.shadow for spec in catalog.models.values() for told in spec.versions.values()):
        app.conf.beat_schedule["compare-copies"] = _every(
            settings.sweep_s, "compare_copies", SWEEPS
        )
    return app


def _configuration(settings: Settings) -> dict[str, Any]:
    return {
        **broker_configuration(settings),
        "task_queues": (SWEEPS, RETENTION),
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
        chores.expire_files,
        chores.compare_copies,
    ):
        app.task(name=_name(chore.__name__))(_task(chore))


def _task(chore: Callable[[], int]) -> Callable[[], None]:
    def task() -> None:
        try:
            chore()
        except (RedisError, OSError) as error:
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
