"""What the supervisor keeps: tasks, in which order they stop, and the process of each."""

import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections.abc import Mapping
from enum import Enum, IntEnum
from pathlib import Path
from typing import Final, Protocol

import msgspec

log = logging.getLogger(__name__)


FOREBAY: Final = (sys.executable, "-m", "forebay.cli")
"""What `forebay` is, as a command of this environment."""


def environment(settings: Mapping[str, object]) -> dict[str, str]:
    """Ours, with these settings; what is logged is not held back."""
    named = {
        f"FOREBAY_{name.upper()}": str(value.value if isinstance(value, Enum) else value)
        for name, value in settings.items()
    }
    return {**os.environ, **named, "PYTHONUNBUFFERED": "1"}


class Stage(IntEnum):
    """The order in which children stop: nothing new comes in, then what is there is finished."""

    GATEWAY = 0
    WORKERS = 1
    BACKGROUND = 2
    SERVER = 3


class Task(msgspec.Struct, frozen=True):
    """A process to keep running.

    Attributes:
        name: shown before its output.
        command: program and arguments.
        stage: when it stops.
        env: its environment.
        log: the file it logs to, if that isn't its output.
        vital: whether everything ends if it can't be kept running; else it alone is given up.
        forked: it may be forked from a process that has its imports; the command is `forebay`'s.
    """

    name: str
    command: tuple[str, ...]
    stage: Stage
    env: Mapping[str, str]
    log: Path | None = None
    vital: bool = True
    forked: bool = False


class Running(Protocol):
    """A process that was started, or forked."""

    pid: int
    stdout: asyncio.StreamReader | None

    def send_signal(self, number: int, /) -> None:
        """Signal it."""
        ...

    async def wait(self) -> int:
        """Wait until it has ended; its exit code, or less than nothing for a signal."""
        ...


class Child:
    """A task that is kept running, until it is to end.

    Args:
        task: what to run.
        ending: whether it is to end already.

    Attributes:
        ending: set once it is to end.
        keeper: keeps it running; done once it has ended for good.
        process: while it runs.
    """

    def __init__(self, task: Task, *, ending: bool) -> None:
        self.task = task
        self.ending = asyncio.Event()
        if ending:
            self.ending.set()
        self.keeper: asyncio.Task[None] | None = None
        self.process: Running | None = None

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to its process, if it runs; SIGKILL to the whole of its group."""
        if self.process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            if number is signal.SIGKILL:
                os.killpg(self.process.pid, number)
            else:
                self.process.send_signal(number)

    def end(self) -> asyncio.Task[None]:
        """Ask it to end; returns what is done once it has."""
        assert self.keeper is not None
        self.ending.set()
        self.signal(signal.SIGTERM)
        return self.keeper

    def kill(self) -> None:
        """End it, if it still runs."""
        if self.process is not None:
            log.warning("%s did not stop in time and is killed", self.task.name)
            self.signal(signal.SIGKILL)
