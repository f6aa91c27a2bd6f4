"""Clients of a gateway, on bare sockets: what they were told, and how they were cut off."""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Mapping, Sequence

import msgspec

from tests.fixtures.waiting import PATIENCE_S

ANSWER_S = 90.0
"""A client without an answer for this long has been left hanging."""

RETRY_S = 0.25
"""Pause before a client that was refused or cut off tries again."""


class Answer(msgspec.Struct, frozen=True):
    """A response."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class CutOff(Exception):  # noqa: N818 - reads as what happened to the client
    """The connection ended instead of an answer.

    Attributes:
        clean: not a byte of an answer had come.
        refused: there was nobody to connect to, so nothing was sent.
    """

    def __init__(self, *, clean: bool, refused: bool = False) -> None:
        super().__init__("refused" if refused else "clean" if clean else "within an answer")
        self.clean = clean
        self.refused = refused


Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Http:
    """Connections to one gateway, kept open between requests.

    Args:
        port: on the loopback interface.
    """

    def __init__(self, port: int) -> None:
        self.port = port
        self._idle: list[Connection] = []

    async def ask(
        self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Send a request and read its answer.

        Raises:
            CutOff: there was none.
            TimeoutError: nor an end of the connection.
        """
        connection = await self.connect()
        _, writer = connection
        try:
            writer.write(request(method, path, body, headers))
            async with asyncio.timeout(ANSWER_S):
                answer = await read_answer(connection)
        except BaseException:
            writer.close()
            raise
        self._idle.append(connection)
        return answer

    async def connect(self) -> Connection:
        """An open connection, new or idle."""
        while self._idle:
            reader, writer = self._idle.pop()
            if not reader.at_eof() and not writer.is_closing():
                return reader, writer
            writer.close()
        try:
            return await asyncio.open_connection("127.0.0.1", self.port)
        except OSError as error:
            raise CutOff(clean=True, refused=True) from error

    def close(self) -> None:
        """Close what is idle."""
        for _, writer in self._idle:
            writer.close()
        self._idle.clear()


def request(
    method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None
) -> bytes:
    """A request as it is sent."""
    lines = [f"{method} {path} HTTP/1.1", "host: forebay", f"content-length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


async def read_answer(connection: Connection) -> Answer:
    """Read one response with a content-length.

    Raises:
        CutOff: the connection ends before it is whole.
    """
    reader, _ = connection
    clean = True
    try:
        head = await reader.readuntil(b"\r\n\r\n")
        clean = False
        first, *lines = head.decode("latin-1").rstrip().split("\r\n")
        headers = {name.lower(): value for name, _, value in (at.partition(": ") for at in lines)}
        body = await reader.readexactly(int(headers["content-length"]))
    except asyncio.IncompleteReadError as error:
        raise CutOff(clean=clean and not error.partial) from error
    except OSError as error:
        raise CutOff(clean=clean) from error
    return Answer(int(first.split()[1]), headers, body)


class Told(msgspec.Struct, frozen=True):
    """The fields of a prediction that are looked at."""

    id: str
    status: str
    version: str
    output: str | None = None
    error: str | None = None

    @property
    def terminal(self) -> bool:
        """Whether it has ended."""
        return self.status not in ("starting", "processing")


_told = msgspec.json.Decoder(Told)


def creation(value: str, model: str = "echo", also: Mapping[str, object] | None = None) -> bytes:
    """The body of a request for an echo of `value`; `also` is further fields of it."""
    return msgspec.json.encode({"version": model, "input": {"value": value}, **(also or {})})


class Load:
    """Clients that each want one prediction, and try again until they have it.

    Each asks one gateway after the other, as behind a load balancer.

    Attributes:
        values: by id, of each prediction that was acknowledged.
        answers: by id, the ends that waiting clients were told.
        refused: how often clients were refused, by HTTP status.
        cut: how often they were cut off, by how.
        came: how many clients `feed` has had come.
        hung: how many had neither an answer nor an end of the connection.
        longest_s: the longest time in which nobody was accepted, between two who were.

    Args:
        gateways: to ask.
        waiting_every: each so many-th client waits for its result; 0: none does.
        model: what they ask for; it echoes.
        also: further fields of their requests.
    """

    def __init__(
        self,
        gateways: Sequence[Http],
        *,
        waiting_every: int = 4,
        model: str = "echo",
        also: Mapping[str, object] | None = None,
    ) -> None:
        self._model = model
        self._also = also
        self.values: dict[str, str] = {}
        self.answers: dict[str, Told] = {}
        self.refused: Counter[int] = Counter()
        self.cut: Counter[str] = Counter()
        self.hung = 0
        self.came = 0
        self.longest_s = 0.0
        self._taken_at: float | None = None
        self._gateways = tuple(gateways)
        self._waiting_every = waiting_every
        self._turn = 0
        self._stop = asyncio.Event()

    async def feed(self, count: int, over_s: float, *, name: str = "n") -> None:
        """Have so many clients come at an even pace, and return when all have their answer.

        Args:
            count: clients.
            over_s: time between the first and the last.
            name: first part of each value.
        """
        began = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for number in range(count):
                if self._stop.is_set():
                    break
                await asyncio.sleep(began + over_s * number / count - time.monotonic())
                self.came += 1
                waits = self._waiting_every and number % self._waiting_every == 0
                group.create_task(self.want(f"{name}-{number:06d}", waits=bool(waits)))

    def stop(self) -> None:
        """No more clients come."""
        self._stop.set()

    async def want(self, value: str, *, waits: bool = False) -> None:
        """Be a client until it has what it wants, or hangs."""
        headers = {"prefer": "wait=60"} if waits else None
        while True:
            gateway = self._gateways[self._turn % len(self._gateways)]
            self._turn += 1
            try:
                answer = await gateway.ask(
                    "POST", "/v1/predictions", creation(value, self._model, self._also), headers
                )
            except CutOff as error:
                self.cut[str(error)] += 1
            except TimeoutError:
                self.hung += 1
                return
            else:
                if answer.status == 201:
                    self.take(value, answer.body)
                    return
                self.refused[answer.status] += 1
            await asyncio.sleep(RETRY_S)

    def take(self, value: str, body: bytes) -> None:
        """Remember what a client was answered with 201."""
        told = _told.decode(body)
        self.values[told.id] = value
        now = time.monotonic()
        self.longest_s = max(self.longest_s, now - (self._taken_at or now))
        self._taken_at = now
        if told.terminal:
            self.answers[told.id] = told

    @property
    def setbacks(self) -> str:
        """How often clients had to try again, for people."""
        told = [f"{count:,} answers {status}" for status, count in sorted(self.refused.items())]
        told += [f"{count:,} connections {how}" for how, count in sorted(self.cut.items())]
        return ", ".join(told) or "none"


async def read_all(gateway: Http, ids: Sequence[str], *, at_once: int = 16) -> dict[str, Told]:
    """Every prediction as a gateway shows it; what it does not find is left out."""
    found: dict[str, Told] = {}
    left = iter(ids)

    async def read() -> None:
        for id_ in left:
            answer = await gateway.ask("GET", f"/v1/predictions/{id_}")
            if answer.status == 200:
                found[id_] = _told.decode(answer.body)

    await asyncio.gather(*(read() for _ in range(at_once)))
    return found


async def until_ready(http: Http, within_s: float = PATIENCE_S) -> None:
    """Wait until a gateway says that it is ready."""
    until = time.monotonic() + within_s
    while time.monotonic() < until:
        with contextlib.suppress(CutOff, TimeoutError):
            if (await http.ask("GET", "/health/ready")).status == 200:
                return
        await asyncio.sleep(0.05)
    raise AssertionError(f"the gateway on port {http.port} is not ready after {within_s} s")
