"""Processes of a run: started in a group of their own, waited for, measured and ended by pid."""

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

POLL_S = 0.05


class StartError(RuntimeError):
    """A process ended, or did not come up in time; the message holds the end of its log."""


class Process:
    """One started program and all it started.

    Args:
        command: program and arguments.
        env: the whole environment.
        cwd: folder to run in.
        log: file that takes stdout and stderr.

    Raises:
        StartError: there is no such program.
    """

    def __init__(
        self, command: Sequence[str], *, env: Mapping[str, str], cwd: Path, log: Path
    ) -> None:
        self.command = tuple(command)
        self._log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as file:
            try:
                self._popen = subprocess.Popen(
                    self.command,
                    env=dict(env),
                    cwd=cwd,
                    stdin=subprocess.DEVNULL,
                    stdout=file,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            except OSError as error:
                raise StartError(f"{self.command[0]} can't be started: {error}") from error

    @property
    def pid(self) -> int:
        """Process id, which is its group's id too."""
        return self._popen.pid

    def check(self) -> None:
        """Make sure it still runs.

        Raises:
            StartError: it has ended.
        """
        code = self._popen.poll()
        if code is not None:
            raise StartError(f"{self.command[0]} ended with {code}. {self.log_end()}")

    def log_end(self) -> str:
        """Where the log is, and its last lines."""
        lines = self._log.read_text("utf-8", "replace").splitlines()[-15:]
        return "\n".join([f"From {self._log}:", *lines])

    def pause(self) -> None:
        """Let it and all that it started do nothing, until `resume`."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        for pid in (self.pid, *descendants(self.pid)):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, number)

    def stop(self, *, grace_s: float = 15.0) -> None:
        """Ask the program to end, wait, then end what is left of its group and descendants."""
        started = {pid: _born(pid) for pid in descendants(self.pid)}
        if self._popen.poll() is None:
            self.resume()
            self._popen.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._popen.wait(grace_s)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        for pid, born in started.items():
            # The time of birth tells a process from a later one under the same number.
            if born is not None and _born(pid) == born:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
        self._popen.wait()


def wait_for_port(port: int, process: Process, *, timeout_s: float) -> None:
    """Return once something accepts connections.

    Raises:
        StartError: the process ended first, or the time is over.
    """
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        process.check()
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(POLL_S)
    raise StartError(f"Nothing listens on port {port} after {timeout_s:.0f} s. {process.log_end()}")


def descendants(pid: int) -> list[int]:
    """Children, their children and so on; empty where there is no /proc to ask."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            # The second field is a name in brackets, which may hold blanks.
            parent = int(stat.read_text("utf-8", "replace").rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(stat.parent.name))
    found: list[int] = []
    queue = [pid]
    while queue:
        below = children.get(queue.pop(), [])
        found += below
        queue += below
    return found


def command_line(pid: int) -> str:
    """A process's arguments, joined by blanks; empty if it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
    except OSError:
        return ""


def peak_rss_bytes(pid: int) -> int | None:
    """The most memory a process has held at once (VmHWM), if the system tells."""
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        return None
    return None


def _born(pid: int) -> str | None:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return None
