"""Workers that are forked instead of started: the supervisor's side of `forebay.cli.forker`.

A fork has the imports done, which are most of what a worker takes to start, and shares their
memory. It is the supervisor's own child all the same.
"""

import asyncio
import contextlib
import ctypes
import logging
import os
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

log = logging.getLogger(__name__)

MESSAGE_BYTES: Final = 1_000_000
"""Most of a command and its environment."""

ANSWER_S: Final = 20.0
"""Longest that a worker is waited for, the forker's imports included."""

_SET_SUBREAPER: Final = 36
_GET_SUBREAPER: Final = 37
"""`PR_SET_CHILD_SUBREAPER`: who has lost its parent becomes ours (prctl(2))."""


class Order(msgspec.Struct, frozen=True):
    """A worker to be forked.

    Attributes:
        words: what follows `forebay` in its command.
        env: its whole environment.
    """

    words: tuple[str, ...]
    env: dict[str, str]


class Forked:
    """A worker that was forked, as asyncio has processes.

    Args:
        pid: its process id; it is our child.
        stdout: what it says.
    """

    def __init__(self, pid: int, stdout: asyncio.StreamReader) -> None:
        self.pid = pid
        self.stdout: asyncio.StreamReader | None = stdout
        self._ended = asyncio.ensure_future(self._wait())

    def send_signal(self, number: int) -> None:
        """Signal it.

        Raises:
            ProcessLookupError: it has ended.
        """
        os.kill(self.pid, number)

    async def wait(self) -> int:
        """Wait until it has ended; its exit code, or less than nothing for a signal."""
        return await asyncio.shield(self._ended)

    async def _wait(self) -> int:
        loop = asyncio.get_running_loop()
        over: asyncio.Future[None] = loop.create_future()
        descriptor = os.pidfd_open(self.pid)
        try:
            loop.add_reader(descriptor, over.set_result, None)
            await over
        finally:
            loop.remove_reader(descriptor)
            os.close(descriptor)
        status = os.waitpid(self.pid, 0)[1]  # noqa: ASYNC222 - it has ended
        return os.waitstatus_to_exitcode(status)


class Forks:
    """Has workers forked.

    Args:
        modules: what the forker imports.
        lock: file descriptor that it and every worker inherit.
    """

    def __init__(self, modules: Sequence[str], *, lock: int | None = None) -> None:
        self._modules = tuple(modules)
        self._lock = lock
        self._asked: socket.socket | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._turn = asyncio.Lock()

    @staticmethod
    def possible() -> bool:
        """Whether this system can have it."""
        if sys.platform != "linux" or not _prctl(_GET_SUBREAPER, ctypes.byref(ctypes.c_int())):
            return False
        try:
            os.close(os.pidfd_open(os.getpid()))
        except (OSError, AttributeError):  # not every kernel, nor every Python, has it
            return False
        return True

    async def open(self) -> None:
        """Start the forker; it imports while other things start.

        What our processes leave behind is ours from now on.
        """
        adopt(True)
        asked, given = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with given:
            asked.setblocking(False)
            asked.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, MESSAGE_BYTES)
            inherited = [given.fileno(), *([] if self._lock is None else [self._lock])]
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "forebay.cli.forker", str(given.fileno()), *self._modules),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
                start_new_session=True,
                pass_fds=inherited,
            )
        self._asked = asked

    async def start(self, words: Sequence[str], env: Mapping[str, str]) -> Forked | None:
        """A new worker, or None if it can't be had this way just now.

        Args:
            words: what follows `forebay` in its command.
            env: its whole environment.
        """
        order = msgspec.msgpack.encode(Order(tuple(words), dict(env)))
        async with self._turn:
            reading, writing = os.pipe()
            try:
                pid = await self._ask(order, writing)
            except (OSError, ValueError, TimeoutError) as error:
                os.close(reading)
                log.warning("the forker of workers is lost, and started again: %s", error)
                await self.aclose()
                await self.open()
                return None
            finally:
                os.close(writing)
        stdout = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(stdout), os.fdopen(reading, "rb", 0)
        )
        return Forked(pid, stdout)

    async def aclose(self) -> None:
        """End the forker; workers live on."""
        if self._asked is not None:
            self._asked.close()
            self._asked = None
        if self._process is not None:
            process, self._process = self._process, None
            with contextlib.suppress(ProcessLookupError):
                process.kill()  # it may be importing, and has nothing to lose
            await process.wait()

    def bury(self) -> None:
        """Take in what others have left behind, which is ours since: only what has ended."""
        for pid in filter(_is_stray, _children()):
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)

    async def _ask(self, order: bytes, output: int) -> int:
        if self._asked is None:
            raise OSError("there is none")
        socket.send_fds(self._asked, [order], [output])
        async with asyncio.timeout(ANSWER_S):
            return int(await asyncio.get_running_loop().sock_recv(self._asked, 32))


def adopt(orphans: bool, /) -> None:
    """Have those below us that lose their parent become ours, or not."""
    _prctl(_SET_SUBREAPER, int(orphans))


def _prctl(option: int, argument: Any) -> bool:
    """prctl(2); False if the system refuses it."""
    return bool(ctypes.CDLL(None).prctl(option, argument, 0, 0, 0) == 0)


def _children() -> list[int]:
    try:
        told = Path(f"/proc/self/task/{os.getpid()}/children").read_text("ascii")
    except OSError:
        return []
    return [int(pid) for pid in told.split()]


def _is_stray(pid: int) -> bool:
    """Whether a child has ended that leads no session: whom we start all do."""
    try:
        state, _, _, session = (
            Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()[:4]
        )
    except OSError:
        return False
    return state == "Z" and int(session) != pid
