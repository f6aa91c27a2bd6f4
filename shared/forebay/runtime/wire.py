"""A connection that only talks: for threads that may not wait for Redis, nor for the event loop."""

import logging
import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import Any

from hiredis import pack_command
from redis.crc import key_slot
from redis.exceptions import RedisError

from forebay.runtime.redis import check_url
from forebay.runtime.redis.cluster import first_key
from forebay.runtime.redis.pools import blocking_cluster_of, blocking_pool_of
from forebay.runtime.redis.urls import read_url

log = logging.getLogger(__name__)


class Wire:
    """Sends commands whose answers nobody waits for. Safe to use from several threads.

    What was handed to the operating system reaches the server even if this process dies in the
    next instant. Answers are read when the next command is sent: one that has not come in time, or
    that says no, is why that next one takes another connection.

    Args:
        url: as in `forebay.runtime.redis.urls`.
        timeout_s: for connecting, for an answer, and for sending while the server doesn't read,
            seconds.

    Raises:
        ConfigurationError: the URL can't be understood.
    """

    def __init__(self, url: str, *, timeout_s: float) -> None:
        check_url(url)
        place = read_url(url)
        self._cluster = blocking_cluster_of(place, timeout_s=timeout_s) if place.nodes else None
        self._pool: Any = None if place.nodes else blocking_pool_of(place, timeout_s=timeout_s)
        self._slot: int | None = None
        self._timeout_s = timeout_s
        self._connection: Any = None
        self._unanswered: deque[float] = deque()
        self._lock = threading.Lock()

    def post(self, *args: str | bytes | int) -> bool:
        """Send a command; False if the server is out of reach."""
        packed = pack_command(args)  # type: ignore[arg-type]  # its stub wants one argument
        with self._lock:
            try:
                if not self._sound():
                    self._drop()
                connection = self._connected(args)
                connection.send_packed_command([packed], check_health=False)
                self._unanswered.append(time.monotonic())
            except (RedisError, OSError) as error:
                log.debug("posting %s failed: %s", args[0], error)
                self._drop()
                return False
        return True

    def close(self) -> None:
        """Hang up."""
        with self._lock:
            self._drop()

    def _sound(self) -> bool:
        """Whether what was sent before has been answered, as far as it can have been."""
        connection = self._connection
        if connection is None:
            return True
        try:
            # A closed connection can be read from, too, and says so.
            while connection.can_read(0):
                connection.read_response(disable_decoding=True)
                self._unanswered.popleft()
        except (RedisError, OSError, IndexError) as error:
            log.warning("what was posted before is lost: %s", error)
            return False
        return not self._unanswered or time.monotonic() - self._unanswered[0] < self._timeout_s

    def _connected(self, command: Sequence[Any]) -> Any:
        if self._cluster is None:
            self._connection = self._connection or self._pool.get_connection()
            return self._connection
        key = first_key(command) or b""
        slot = key_slot(key)
        if self._connection is None or slot != self._slot:
            self._drop()
            self._connection, self._slot = self._cluster.connect(key), slot
        return self._connection

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        self._unanswered.clear()
        if connection is not None:
            connection.disconnect()
            if self._pool is not None:
                self._pool.release(connection)
