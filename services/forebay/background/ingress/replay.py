"""Outcomes told by Celery itself, where something is to happen next.

Celery's own tracer runs a task whose body is only the outcome: so callbacks, errbacks, chains,
chords and results of any backend are what they are in a Celery worker. (`celery.app.trace`.)
"""

import contextvars
from typing import Any, Final

import msgspec
from celery import Celery, signals
from celery.app.task import Context
from celery.app.trace import trace_task_ret
from celery.exceptions import TaskRevokedError
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from forebay.background.ingress.apps import TASK
from forebay.background.ingress.messages import Message
from forebay.background.ingress.outcomes import Ended

AWAY: Final = (OperationalError, RedisError, OSError)
"""What is raised where broker or backend is out of reach: it comes back."""

_outcome: contextvars.ContextVar[Ended] = contextvars.ContextVar("outcome")
_internal: contextvars.ContextVar[Exception | None] = contextvars.ContextVar("internal")


class Replay:
    """Tells outcomes through one app. Methods block, and may be called from any thread.

    Args:
        app: as the apps that sent the tasks.
    """

    def __init__(self, app: Celery) -> None:
        self._app = app
        task: Any = app.task(name=TASK, shared=False, throws=(Exception,), typing=False)(_body)
        # Celery calls an errback that it knows, if it takes as much as `_body` does, instead of
        # sending it: a model that is one has to be sent, and told the id.
        task.__header__ = _header
        app.finalize()
        signals.task_internal_error.connect(_note, weak=False, dispatch_uid=__name__)

    def tell(self, message: Message, ended: Ended) -> None:
        """Have Celery do what follows from an outcome.

        Raises:
            Exception: it could not, and nobody knows how much of it was done; one of `AWAY` if
                that may be otherwise later.
        """
        # Signatures inside of others find their app so.
        self._app.set_current()
        if isinstance(ended.error, TaskRevokedError):
            self._revoke(message, ended.error)
            return
        _outcome.set(ended)
        _internal.set(None)
        trace_task_ret(
            TASK,
            message.headers.id,
            self._request(message),
            message.body,
            # What it was read as, whatever it says.
            "application/json",
            "utf-8",
            app=self._app,
        )
        if (error := _internal.get()) is not None:
            raise error

    def fail(self, id_: str, error: Exception) -> None:
        """Fail a task of whose message no more than the id is read.

        Raises:
            Exception: as for `tell`.
        """
        self._app.set_current()
        self._app.backend.mark_as_failure(id_, error)

    def _revoke(self, message: Message, error: TaskRevokedError) -> None:
        _, _, embed = msgspec.json.decode(message.body, type=tuple[Any, Any, dict[str, Any]])
        self._app.backend.mark_as_revoked(
            message.headers.id,
            str(error),
            request=Context({**self._request(message), **embed}),
            store_result=not message.headers.ignore_result,
        )

    def _request(self, message: Message) -> dict[str, Any]:
        return {
            **message.all_headers,
            "properties": message.properties,
            "reply_to": message.properties.get("reply_to"),
            "correlation_id": message.properties.get("correlation_id"),
            "delivery_info": message.delivery_info,
        }


def _header(task_id: str) -> None:
    """What an errback takes."""


def _body(*_: Any, **__: Any) -> Any:
    ended = _outcome.get()
    if ended.error is not None:
        raise ended.error
    return msgspec.json.decode(ended.output)


def _note(exception: Exception, **_: Any) -> None:
    """Connected to Celery's signal: what it could not do is not among what it returns."""
    _internal.set(exception)
