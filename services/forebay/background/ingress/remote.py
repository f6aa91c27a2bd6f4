"""Celery's remote control: listens on its mailbox as a worker does.

`app.control.revoke(id)` reaches it, and `app.control.ping()` and `app.control.inspect()` show it.
(`celery.worker.pidbox`, `celery.worker.control`.)
"""

import logging
import threading
from collections.abc import Callable, Iterable
from typing import Any, Final

from celery import Celery

from forebay.background.ingress.apps import TASK

log = logging.getLogger(__name__)

DRAIN_S: Final = 1.0
"""How long the thread waits for orders before it looks whether it is to stop."""

RETRY_S: Final = 1.0
"""Pause before the broker is tried again."""

Order = Callable[..., Any]


class Remote:
    """Listens from `start` to `stop`.

    Args:
        app: as the apps that give orders.
        name: of this process, as `NAME@HOST`.
        revoke: called on the thread with ids, and whether what runs is to end, too.
        active: tells the ids of tasks that are under way.
        queues: that tasks are taken from.
    """

    def __init__(
        self,
        app: Celery,
        name: str,
        *,
        revoke: Callable[[list[str], bool], None],
        active: Callable[[], list[dict[str, Any]]],
        queues: Iterable[str],
    ) -> None:
        self._app = app
        self._name = name
        self._revoke = revoke
        self._active = active
        self._queues = tuple(queues)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="celery-remote", daemon=True)
        self.listening = threading.Event()

    def start(self) -> None:
        """Start the thread; returns at once."""
        self._thread.start()

    def stop(self) -> None:
        """Listen no more; returns at once."""
        self._stop.set()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._listen()
            except Exception as error:
                # Any transport has errors of its own.
                log.warning("the remote control of the Celery apps is interrupted: %s", error)
                self._stop.wait(RETRY_S)

    def _listen(self) -> None:
        with self._app.connection_for_read() as connection:
            control: Any = self._app.control
            node = control.mailbox(connection).Node(
                self._name, channel=connection.channel(), handlers=_Orders(self._orders())
            )
            node.listen()
            log.info("listening to Celery's remote control as %s", self._name)
            self.listening.set()
            while not self._stop.is_set():
                try:
                    connection.drain_events(timeout=DRAIN_S)
                except TimeoutError:
                    continue

    def _orders(self) -> dict[str, Order]:
        def revoke(_: Any, task_id: Any, terminate: bool = False, **__: Any) -> dict[str, str]:
            ids = [task_id] if isinstance(task_id, str) else [str(one) for one in task_id or ()]
            self._revoke(ids, terminate)
            return {"ok": f"tasks {', '.join(ids)} flagged as revoked"}

        def terminate(_: Any, task_id: Any = None, **__: Any) -> dict[str, str]:
            return revoke(None, task_id, terminate=True)

        def ping(_: Any, **__: Any) -> dict[str, str]:
            return {"ok": "pong"}

        def active(_: Any, **__: Any) -> list[dict[str, Any]]:
            return self._active()

        def active_queues(_: Any, **__: Any) -> list[dict[str, Any]]:
            return [{"name": name, "routing_key": name} for name in self._queues]

        def registered(_: Any, **__: Any) -> list[str]:
            return [TASK]

        def nothing(_: Any, **__: Any) -> list[Any]:
            return []

        return {
            "revoke": revoke,
            "terminate": terminate,
            "ping": ping,
            "active": active,
            "active_queues": active_queues,
            "registered": registered,
            "reserved": nothing,
            "scheduled": nothing,
        }


class _Orders(dict[str, Order]):
    """Orders by name; any other is answered, too: they are for Celery's own workers."""

    def __missing__(self, name: str) -> Order:
        return lambda *_, **__: {"error": f"{name} is not for this process"}
