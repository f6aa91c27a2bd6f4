"""Programs to break: started, killed, paused, told to end, and started again."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

from tests.fixtures.waiting import PATIENCE_S

ROOT = Path(__file__).parents[2]


class Program:
    """One process that runs `python ARGUMENTS…`, again and again under other numbers.

    Args:
        name: for people.
        arguments: of the interpreter.
        env: added to this process's environment.
        log: file that takes what it says.
    """

    def __init__(
        self, name: str, arguments: Sequence[str], *, env: Mapping[str, str], log: Path
    ) -> None:
        self.name = name
        self.log = log
        self._arguments = tuple(arguments)
        self._env = {**os.environ, "PYTHONFAULTHANDLER": "", **env}
        self._process: subprocess.Popen[bytes] | None = None
        self.starts = 0

    @property
    def pid(self) -> int:
        """Of the process that runs, or ran last."""
        assert self._process is not None
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the process is there (it may be paused)."""
        return self._process is not None and self._process.poll() is None

    @property
    def said(self) -> str:
        """The end of what it has said so far."""
        return self.log.read_text("utf-8", "replace")[-3000:] if self.log.exists() else ""

    @property
    def rss_bytes(self) -> int:
        """Memory it holds now."""
        return int(psutil.Process(self.pid).memory_info().rss)

    def start(self) -> None:
        """Start it, if it does not run."""
        if self.running:
            return
        with self.log.open("ab") as out:
            self._process = subprocess.Popen(
                [sys.executable, *self._arguments],
                cwd=ROOT,
                env=self._env,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
            )
        self.starts += 1

    def kill(self) -> None:
        """End it without warning (SIGKILL)."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(PATIENCE_S)

    def restart(self) -> None:
        """Kill it and start another."""
        self.kill()
        self.start()

    def pause(self) -> None:
        """Stop it in its tracks (SIGSTOP)."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Undo `pause`."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def terminate(self) -> None:
        """Ask it to end (SIGTERM)."""
        assert self._process is not None
        self._process.terminate()

    def wait(self, within_s: float) -> int | None:
        """Its exit code, negative if a signal has ended it; None if it still runs after that."""
        assert self._process is not None
        try:
            return self._process.wait(within_s)
        except subprocess.TimeoutExpired:
            return None

    def end(self, *, until: float) -> None:
        """Have it end for good, whatever its state, by that time of `time.monotonic`."""
        if self._process is None or self._process.poll() is not None:
            return
        self._process.send_signal(signal.SIGCONT)
        self._process.terminate()
        if self.wait(max(until - time.monotonic(), 0.0)) is None:
            self.kill()
