"""A connection that only talks: for threads that may not wait for Redis, nor for the event loop."""

import logging
import threading
from typing import Any

from hiredis import pack_command
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from forebay.runtime.redis import check_url

log = logging.getLogger(__name__)


class Wire:
    """Sends commands whose answers nobody needs. Safe to use from several threads.

    What was handed to the operating system reaches the server even if this process dies in the
    next instant.

    Args:
        url: `redis://`, `rediss://` or `unix://`.
        timeout_s: for connecting, and for sending while the server doesn't read, seconds.

    Raises:
        ConfigurationError: the URL can't be understood.
    """

    def __init__(self, url: str, *, timeout_s: float) -> None:
        check_url(url)
        self._pool: Any = Redis.from_url(
            url,
            protocol=2,
            retry=Retry(NoBackoff(), 0),
            retry_on_timeout=False,
            socket_connect_timeout=timeout_s,
            socket_timeout=timeout_s,
        ).connection_pool
        self._connection: Any = None
        self._lock = threading.Lock()

    def post(self, *args: str | bytes | int) -> bool:
        """Send a command; False if the server is out of reach."""
        packed = pack_command(args)  # type: ignore[arg-type]  # its stub wants one argument
        with self._lock:
            try:
                # A closed connection takes what is written to it without a word, once.
                if self._connection is not None and self._connection.can_read(0):
                    self._drop()
                connection = self._connection or self._connect()
                connection.send_packed_command([packed], check_health=False)
            except (RedisError, OSError) as error:
                log.debug("posting %s failed: %s", args[0], error)
                self._drop()
                return False
        return True

    def close(self) -> None:
        """Hang up."""
        with self._lock:
            self._drop()

    def _connect(self) -> Any:
        connection = self._connection = self._pool.get_connection()
        connection.send_command("CLIENT", "REPLY", "OFF", check_health=False)
        return connection

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.disconnect()
            self._pool.release(connection)
