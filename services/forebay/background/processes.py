"""The processes of the background: a Celery worker and Celery's beat, with quiet manners.

Both log through our logging, show no banner, wait for a Redis that is away, and end with 0 on
SIGTERM: the worker when the tasks it runs are done.
"""

import functools
import logging
import os
import signal
import socket
import threading
import warnings
from types import FrameType
from typing import Any, Final, NoReturn

from celery import Celery, signals
from celery.apps.beat import Beat
from celery.apps.worker import Worker
from celery.beat import ScheduleEntry, Scheduler
from celery.platforms import EX_OK
from celery.worker import WorkController, state

from forebay.background.app import create_celery, post
from forebay.background.chores import Chores
from forebay.background.intake import Intake, OpenGateway
from forebay.background.services import services_of
from forebay.background.webhooks.bodies import Render
from forebay.background.webhooks.hooks import Hooks
from forebay.runtime.catalog import Catalog
from forebay.runtime.memory import keep_what_is_there
from forebay.runtime.settings import Settings

log = logging.getLogger(__name__)

_told_to_end = threading.Event()

CONCURRENCY = 2
"""Threads: one for a sweep while the other deletes files. The work is waiting for Redis."""


class BackgroundWorker(Worker):
    """A Celery worker that ends in good order on SIGTERM and on Ctrl-C alike."""

    def install_platform_tweaks(self, worker: WorkController) -> None:
        """Take the signals that we mean to answer, and leave the others alone."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, _stop_worker)


class Clock(Scheduler):
    """Celery's in-memory scheduler, which reports a Redis that is away in one line."""

    def tick(self, *args: Any, **options: Any) -> float:
        """Send what is due; returns the seconds until something is.

        Raises:
            SystemExit: this was told to end, where it was lost on what it came upon, as on a
                finalizer.
        """
        if _told_to_end.is_set():
            raise SystemExit(EX_OK)
        until_s: float = super().tick(*args, **options)
        return until_s

    def apply_entry(self, entry: ScheduleEntry, producer: Any = None) -> None:
        """Send an entry's message, unless it can't be sent."""
        try:
            self.apply_async(entry, producer=producer, advance=False)
        except Exception as error:
            log.warning("%s is not sent: %s", entry.task, error)


NICE: Final = 10
"""How far the background stands back: nobody waits for it."""


def run_worker(
    settings: Settings,
    catalog: Catalog,
    *,
    render: Render,
    open_gateway: OpenGateway | None = None,
) -> None:
    """Work on background tasks until SIGTERM.

    Args:
        settings: where Redis is, among others.
        catalog: the models that there are.
        render: shows predictions to those who are told of them.
        open_gateway: what is asked for work that comes in here; without it none is taken.
    """
    _end_on(signal.SIGTERM, signal.SIGINT)
    _leave_logging_alone()
    os.nice(NICE)
    # Containers run as root as often as not, and messages are JSON: nothing in them is executed.
    warnings.filterwarnings("ignore", message="(?s).*superuser privileges")
    chores = Chores(settings, catalog)
    hooks = Hooks(settings, catalog, render)
    app = create_celery(settings, catalog, chores=chores, hooks=hooks)
    services = services_of(settings, catalog) if open_gateway is not None else ()
    intake = Intake(open_gateway, services, drain_s=settings.drain_s) if open_gateway else None
    try:
        if intake is not None:
            intake.start()
        worker = BackgroundWorker(
            app=app,
            hostname=f"background-{os.getpid()}@{socket.gethostname()}",
            pool="threads",
            concurrency=CONCURRENCY,
            quiet=True,
            without_gossip=True,
            without_mingle=True,
            without_heartbeat=True,
        )
        log.info("working on %s", ", ".join(sorted(worker.app.amqp.queues)))
        hooks.start(functools.partial(post, app))
        keep_what_is_there()
        worker.start()
    finally:
        hooks.close()
        if intake is not None:
            intake.stop()
        chores.close()
    raise SystemExit(worker.exitcode or EX_OK)


def run_beat(settings: Settings, catalog: Catalog) -> None:
    """Send the scheduled messages until SIGTERM. Run one; two do no harm but send all twice."""
    _end_on(signal.SIGTERM, signal.SIGINT)
    _leave_logging_alone()
    app: Celery = create_celery(settings, catalog)
    # It tells what breaks with a traceback; what the end breaks is told below, in a line.
    logging.getLogger("celery.beat").addFilter(lambda _: not _told_to_end.is_set())
    log.info("scheduling %s", ", ".join(sorted(app.conf.beat_schedule)))
    try:
        Beat(app=app, scheduler=f"{__name__}:Clock", quiet=True, socket_timeout=0).run()
    except Exception as error:
        # The signal may come in the midst of a send, whose cleaning up then fails: the next beat
        # sends it again.
        if not _told_to_end.is_set():
            raise
        log.info("what was being sent when this was told to end was broken off: %s", error)


def _leave_logging_alone() -> None:
    signals.setup_logging.connect(_logging_is_set_up)


def _logging_is_set_up(**_: Any) -> None:
    """Connected to Celery's signal, keeps it from configuring logging itself."""


def _stop_worker(number: int, frame: FrameType | None) -> None:
    # Read by Celery as the exit code; None, its declared type, only means not yet.
    setattr(state, "should_stop", EX_OK)  # noqa: B010


def _end_on(*numbers: signal.Signals) -> None:
    for number in numbers:
        signal.signal(number, _end)


def _end(number: int, frame: FrameType | None) -> NoReturn:
    _told_to_end.set()
    raise SystemExit(EX_OK)
