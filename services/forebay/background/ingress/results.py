"""Results as Celery's Redis backend keeps them, many in one go.

`celery-task-meta-ID` is what `AsyncResult` reads, and the channel of the same name what it listens
on. (`celery.backends.base.KeyValueStoreBackend`, `celery.backends.redis.RedisBackend`.) Any other
backend, and anything that something is to follow, is left to Celery.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

import msgspec
from celery import Celery
from celery.backends.redis import RedisBackend

from forebay.background.ingress.messages import Message
from forebay.background.ingress.outcomes import Ended, exception_fields
from forebay.runtime.redis import Channel

MOST: Final = 64
"""Results in one go."""

_encode = msgspec.json.Encoder().encode


class Told(NamedTuple):
    """A task that has ended."""

    message: Message
    ended: Ended


class Results:
    """Writes results of one app to the Redis that it keeps them in.

    Args:
        app: whose backend is Redis.
        channel: to that.
    """

    def __init__(self, app: Celery, channel: Channel) -> None:
        self._backend: Any = app.backend
        self._channel = channel

    async def write(self, told: Sequence[Told]) -> None:
        """Write results that nothing follows. Safe to repeat.

        Raises:
            redis.exceptions.RedisError: nobody knows which were written.
        """
        date = datetime.now(UTC).isoformat()
        for at in range(0, len(told), MOST):
            commands: list[Sequence[Any]] = []
            for message, ended in told[at : at + MOST]:
                commands += self._commands(message, ended, date)
            if commands:
                await self._channel.execute_together(*commands)

    def _commands(self, message: Message, ended: Ended, date: str) -> list[Sequence[Any]]:
        headers = message.headers
        if headers.ignore_result:
            return []
        key = self._backend.get_key_for_task(headers.id)
        meta = meta_of(message, ended, date)
        expires = self._backend.expires
        if ended.error is not None:
            expires = self._backend.failure_expires or expires
        stored = ("SETEX", key, int(expires), meta) if expires else ("SET", key, meta)
        return [stored, ("PUBLISH", key, meta)]


def is_quick(app: Celery) -> bool:
    """Whether results of an app may be written so."""
    conf = app.conf
    return isinstance(app.backend, RedisBackend) and not (
        conf.result_compression or conf.result_extended
    )


def meta_of(message: Message, ended: Ended, date: str) -> bytes:
    """A result as Celery's key-value backends keep it, in json.

    Args:
        message: of the task.
        ended: how it did.
        date: when, as ISO 8601 has it.
    """
    headers = message.headers
    meta: dict[str, Any] = {
        "status": ended.state,
        "result": msgspec.Raw(ended.output)
        if ended.error is None
        else exception_fields(ended.error),
        "traceback": None,
        "children": [],
        "date_done": date,
    }
    if headers.group:
        meta["group_id"] = headers.group
    if headers.parent_id:
        meta["parent_id"] = headers.parent_id
    meta["task_id"] = headers.id
    return _encode(meta)
