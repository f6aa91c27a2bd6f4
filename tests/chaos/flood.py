"""Clients who ask again soon after they are refused: by wrk, which costs next to nothing."""

import asyncio
import shutil
import time
from pathlib import Path

import msgspec

from tests.chaos.clients import Http, Load, creation

CLIENTS = 16
PAUSE_MS = 25
"""What each waits after an answer, on average."""

PADDING_BYTES = 8_192
"""Blanks behind each body: what keeps refused requests in memory can't hide."""

SCRIPT = Path(__file__).with_name("flood.lua")
END_S = 20.0


class Input(msgspec.Struct, frozen=True):
    """What was asked for."""

    value: str


class Created(msgspec.Struct, frozen=True):
    """The body of a 201, as far as it is looked at."""

    input: Input


_created = msgspec.json.Decoder(Created)


class Flood:
    """Clients who ask for one thing after the other.

    Attributes:
        refusals_ms: how long each refusal took.
        rude: refusals without a usable Retry-After.
        program: what they are.

    Args:
        gateway: to flood.
        load: takes what is accepted after all.
        folder: for files.
    """

    def __init__(self, gateway: Http, load: Load, folder: Path) -> None:
        self.refusals_ms: list[float] = []
        self.rude = 0
        self._gateway = gateway
        self._load = load
        self._folder = folder
        self._rounds = 0
        self._wrk = shutil.which("wrk")
        self.program = "wrk" if self._wrk else "clients in Python, whose own time is included"

    async def run(self, seconds: int) -> None:
        """Flood for so long."""
        self._rounds += 1
        name = f"flood{self._rounds}"
        if self._wrk is None:
            until = time.monotonic() + seconds
            await asyncio.gather(
                *(self._client(f"{name}-{client}", until) for client in range(CLIENTS))
            )
            return
        answers = self._folder / name
        answers.mkdir()
        wrk = await asyncio.create_subprocess_exec(
            self._wrk, f"-t{CLIENTS}", f"-c{CLIENTS}", f"-d{seconds}s", f"-s{SCRIPT}",
            f"http://127.0.0.1:{self._gateway.port}/v1/predictions",
            *("--", str(answers), name, str(PADDING_BYTES), str(PAUSE_MS)),
            stdout=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        async with asyncio.timeout(seconds + END_S):
            assert await wrk.wait() == 0
        for file in answers.iterdir():
            for line in file.read_bytes().splitlines():
                status, took_us, again, body = line.split(b" ", 3)
                self._take(int(status), int(took_us) / 1e3, again.decode(), body)

    async def _client(self, name: str, until: float) -> None:
        number = 0
        while time.monotonic() < until:
            number += 1
            body = creation(f"{name}-{number}") + b" " * PADDING_BYTES
            began = time.perf_counter()
            answer = await self._gateway.ask("POST", "/v1/predictions", body)
            took_ms = (time.perf_counter() - began) * 1e3
            self._take(answer.status, took_ms, answer.headers.get("retry-after", ""), answer.body)
            await asyncio.sleep(PAUSE_MS / 1e3)

    def _take(self, status: int, took_ms: float, again: str, body: bytes) -> None:
        if status == 201:
            self._load.take(_created.decode(body).input.value, body)
        else:
            self.refusals_ms.append(took_ms)
            self._load.refused[status] += 1
            self.rude += not again.isdecimal()
