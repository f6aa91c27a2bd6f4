"""Celery's remote control: listens on its mailbox as a worker does.

`app.control.revoke(id)` reaches it, and `app.control.ping()` and `app.control.inspect()` show it.
(`celery.worker.pidbox`, `celery.worker.control`.) An order that can't be followed is passed over.
"""

import logging
import threading
from collections.abc import Callable, Iterable
from typing import Any, Final

from celery import Celery
from kombu import Connection, Message

from forebay.background.ingress.apps import TASK
from forebay.background.taking.packing import leave_packed, unpacked

log = logging.getLogger(__name__)

DRAIN_S: Final = 1.0
"""How long the thread waits for orders before it looks whether it is to stop."""

RETRY_S: Final = 1.0
"""Pause before the broker is tried again."""

MAX_ORDER_BYTES: Final = 10_000_000
"""What an order that came compressed may come to. One that revokes 50,000 tasks, as many as a
worker of Celery's remembers, takes 2 MB."""

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
            channel = connection.channel()
            leave_packed(channel)
            node = control.mailbox(connection).Node(
                self._name, channel=channel, handlers=_Orders(self._orders())
            )
            ear = _Ear(node, connection)
            node.Consumer(on_message=ear.hear, on_decode_error=ear.pass_over).consume()
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


class _Ear:
    """Hears the messages of a mailbox, and has its node follow them."""

    def __init__(self, node: Any, connection: Connection) -> None:
        self._node = node
        self._lost: tuple[type[BaseException], ...] = (
            *connection.connection_errors,
            *connection.channel_errors,
            OSError,
        )

    def hear(self, message: Message) -> None:
        """Follow a message's order; raises what the connection does when it is lost."""
        told: Any = message
        try:
            body = told.body if isinstance(told.body, bytes) else str(told.body).encode()
            told.body = unpacked(body, told.headers, most=MAX_ORDER_BYTES)
            self._node.handle_message(told.decode(), told)
        except self._lost:
            raise
        except Exception as error:
            # Anybody may have sent it, and anything may be wrong with it.
            self.pass_over(message, error)

    def pass_over(self, _: Message, error: Exception) -> None:
        """Leave a note of an order that can't be followed."""
        log.warning("an order of Celery's remote control is passed over: %s", error)


class _Orders(dict[str, Order]):
    """Orders by name; any other is answered, too: they are for Celery's own workers."""

    def __missing__(self, name: str) -> Order:
        return lambda *_, **__: {"error": f"{name} is not for this process"}
