"""An open loop: requests leave when they are due, whether or not the ones before are answered.

A closed loop waits for a slow system, and so asks it less while it is slow: its latencies leave out
what real clients would have waited (coordinated omission). Here each request has its time before
the load begins, and its latency counts from there, time on a full line included.

        arrivals → one task that waits → a free connection → answer → latency since it was due
                                       ↘ none free: it waits its turn, and the clock goes on
"""

import asyncio
import math
import random
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from itertools import cycle
from urllib.parse import urlsplit

from tests.bench.stats import Measurement, percentile

TIMEOUT_S = 10.0
"""An answer that comes later than this after it was due has failed."""

CONNECTIONS = 512
"""The most requests under way at once; further ones wait their turn, and that counts."""

LEAST_WAIT_S = 0.0005
"""Shorter waits than this are not slept: the loop's clock is no finer."""


def poisson(rate_s: float, seconds: float, *, seed: str) -> list[float]:
    """When each request is due, in seconds from the beginning: a Poisson process.

    Args:
        rate_s: requests a second on average.
        seconds: for how long.
        seed: another seed gives other times.
    """
    draw = random.Random(seed).random
    due, at = [], 0.0
    while (at := at - math.log(1.0 - draw()) / rate_s) < seconds:
        due.append(at)
    return due


def bursts(size: int, every_s: float, seconds: float) -> list[float]:
    """When each request is due: `size` of them at once, again and again."""
    return [every_s * burst for burst in range(math.ceil(seconds / every_s)) for _ in range(size)]


def measure(
    url: str,
    *,
    bodies: Sequence[bytes],
    marker: str,
    headers: Mapping[str, str],
    due_s: Sequence[float],
    lead_s: float,
    timeout_s: float = TIMEOUT_S,
    connections: int = CONNECTIONS,
) -> Measurement:
    """Send each request when it is due, and count those that were due after the lead-in.

    Args:
        url: `http://host:port/path`.
        bodies: request bodies, sent in turn from the first on.
        marker: a text that every right answer holds.
        due_s: when each is due, in seconds from the beginning, in order.
        lead_s: what is due before is sent and not counted.

    Returns:
        Latencies are from when a request was due to the end of its answer. The seconds are those
        from the lead-in until the last counted answer, so that a system that falls behind shows.

    Raises:
        OSError: the server can't be reached.
    """
    sending = _Sending(url, bodies, marker, headers, timeout_s)
    return asyncio.run(sending.run(due_s, lead_s, connections))


class _Connection(asyncio.Protocol):
    """One kept-alive HTTP/1.1 connection with one request at a time."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[tuple[int, bytes]] | None = None
        self._read = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(ConnectionResetError("closed before the answer"))

    def data_received(self, data: bytes) -> None:
        self._read += data
        head, gap, body = self._read.partition(b"\r\n\r\n")
        if not gap or self._answer is None or self._answer.done():
            return
        lines = bytes(head).lower().split(b"\r\n")
        status = int(lines[0].split()[1])
        if b"transfer-encoding: chunked" in lines:
            whole = body.endswith(b"0\r\n\r\n")
        else:
            whole = len(body) >= _content_length(lines)
        if whole:
            self._answer.set_result((status, bytes(body)))

    async def ask(self, request: bytes) -> tuple[int, bytes]:
        """Status and body of the answer."""
        if self.transport is None:
            raise ConnectionResetError("closed")
        self._read.clear()
        self._answer = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        return await self._answer

    def close(self) -> None:
        """Hang up."""
        if self.transport is not None:
            self.transport.abort()


class _Sending:
    """One stretch of load, and what came of it."""

    def __init__(
        self,
        url: str,
        bodies: Sequence[bytes],
        marker: str,
        headers: Mapping[str, str],
        timeout_s: float,
    ) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "127.0.0.1", parts.port or 80
        self._marker = marker.encode()
        self._timeout_s = timeout_s
        path = parts.path + (f"?{parts.query}" if parts.query else "")
        self._requests = cycle(_requests(path, parts.netloc, bodies, headers))
        self._free: deque[_Connection] = deque()
        self._took_ms: list[float] = []
        self._failed = 0
        self._last_s = 0.0

    async def run(self, due_s: Sequence[float], lead_s: float, connections: int) -> Measurement:
        """Send all, and wait for the last answer."""
        loop = asyncio.get_running_loop()
        self._free.append(await self._connect())  # is anybody there?
        room = asyncio.Semaphore(connections)
        asking: set[asyncio.Task[None]] = set()
        begun = loop.time()
        for due in due_s:
            wait_s = begun + due - loop.time()
            # Even what is late lets answers in: else a busy sender would not hear any.
            await asyncio.sleep(wait_s if wait_s > LEAST_WAIT_S else 0)
            request, counts = next(self._requests), due >= lead_s
            task = loop.create_task(self._ask(room, begun, due, request, counts=counts))
            asking.add(task)
            task.add_done_callback(asking.discard)
        await asyncio.gather(*asking)
        for connection in self._free:
            connection.close()
        ordered = sorted(self._took_ms)
        known = bool(ordered)
        return Measurement(
            answered=len(ordered),
            failed=self._failed,
            seconds=max(self._last_s - lead_s, 0.0),
            sent=len(due_s),
            p50_ms=percentile(ordered, 0.5) if known else None,
            p90_ms=percentile(ordered, 0.9) if known else None,
            p99_ms=percentile(ordered, 0.99) if known else None,
        )

    async def _ask(
        self, room: asyncio.Semaphore, begun: float, due: float, request: bytes, *, counts: bool
    ) -> None:
        loop = asyncio.get_running_loop()
        connection, right = None, False
        try:
            async with asyncio.timeout_at(begun + due + self._timeout_s), room:
                connection = self._free.pop() if self._free else await self._connect()
                status, body = await connection.ask(request)
                right = 200 <= status < 300 and self._marker in body
                self._free.append(connection)
        except (OSError, TimeoutError, ValueError):
            if connection is not None:
                connection.close()
        if not counts:
            return
        now = loop.time() - begun
        self._last_s = max(self._last_s, now)
        if right:
            self._took_ms.append((now - due) * 1e3)
        else:
            self._failed += 1

    async def _connect(self) -> _Connection:
        loop = asyncio.get_running_loop()
        return (await loop.create_connection(_Connection, self._host, self._port))[1]


def _requests(
    path: str, host: str, bodies: Sequence[bytes], headers: Mapping[str, str]
) -> Iterator[bytes]:
    told = {"Host": host, "Content-Type": "application/json", **headers}
    lines = "".join(f"{name}: {value}\r\n" for name, value in told.items())
    for body in bodies:
        head = f"POST {path or '/'} HTTP/1.1\r\n{lines}Content-Length: {len(body)}\r\n\r\n"
        yield head.encode() + body


def _content_length(lines: Sequence[bytes]) -> int:
    for line in lines:
        name, _, value = line.partition(b":")
        if name == b"content-length":
            return int(value)
    return 0
