"""The supervisor of `forebay up`: starts processes, restarts them, drains them in order.

Every child leads a session of its own, so that Ctrl-C reaches the supervisor alone. A child that
ends unasked is started again, after a pause that grows; one that keeps ending right after its
start is given up, and everything with it. The guard (`guard.py`) ends the children of a
supervisor that was killed.
"""

import asyncio
import contextlib
import logging
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from forebay.contract.errors import Unavailable
from forebay.local.children import FOREBAY, Child, Running, Stage, Task
from forebay.local.forks import Forks
from forebay.runtime.process import EXIT_HOPELESS

log = logging.getLogger(__name__)

STEADY_S = 5.0
"""A child that ran for this long has started well."""

MAX_FALSE_STARTS = 3
"""Starts in a row that may end before that."""

MAX_CRASHES = 12
"""Likewise for a child that was ended by a signal, found itself hung, or was ended by a library or
a model's own code, with a code of theirs, before all were ready. After that it is what it runs:
each row at fault costs `max_strikes` crashes and is put aside, and giving up would take all the
others with it."""

OWN_CODES = frozenset({0, 1, 2, EXIT_HOPELESS, 127})
"""With which our own processes end: stopped, failed, called wrongly, hopeless, absent."""

FIRST_PAUSE_S = 0.25
LONGEST_PAUSE_S = 10.0
LONGEST_CRASH_PAUSE_S = 1.0
"""Others wait for a worker that has crashed."""

KILL_AFTER_S = 5.0
"""How much longer than its own grace a draining child gets before it is killed."""

GUARD_GRACE_S = 10.0
"""What the guard gives each stage."""

MAX_LINE_BYTES = 65_536
"""A longer line of a child's output is passed on in pieces."""


class Supervisor:
    """Keeps processes running until it is told to drain.

    Args:
        drain_s: grace the children have for finishing what they hold, each stage.
        show: receives every line of the children's output.
        lock: file descriptor that the guard and every child inherit: it is held as long as any
            of them lives.
        forks: forks those that may be; without it they are started like all others.
    """

    def __init__(
        self,
        *,
        drain_s: float,
        show: Callable[[str], None],
        lock: int | None = None,
        forks: Forks | None = None,
    ) -> None:
        self._drain_s = drain_s
        self._show = show
        self._lock = lock
        self._forks = forks
        self._draining = False
        self._settled = False
        self._given_up: asyncio.Future[Unavailable] = asyncio.get_running_loop().create_future()
        self._children: dict[str, Child] = {}
        self._guard: asyncio.subprocess.Process | None = None

    async def open(self) -> None:
        """Start the guard, and who forks; call before `start`."""
        self._guard = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-I", "-S", str(Path(__file__).with_name("guard.py")), str(GUARD_GRACE_S)),
            stdin=asyncio.subprocess.PIPE,
            pass_fds=() if self._lock is None else (self._lock,),
            start_new_session=True,
        )
        if self._forks is not None:
            await self._forks.open()

    def start(self, task: Task) -> None:
        """Start a process, and keep it running."""
        child = self._children[task.name] = Child(task, ending=self._draining)
        child.keeper = asyncio.create_task(self._keep(child), name=f"keep {task.name}")

    def has(self, name: str) -> bool:
        """Whether a process is kept running; False once it was given up, or stopped."""
        return self._keeper(name) is not None

    def pid(self, name: str) -> int | None:
        """Its process id; None while it doesn't run."""
        child = self._children.get(name)
        return None if child is None or child.process is None else child.process.pid

    async def stop(self, name: str) -> None:
        """Stop one process, and wait until it has ended. One that is not kept is no matter."""
        if self._keeper(name) is None:
            return
        child = self._children[name]
        keeper = child.end()
        await _first([keeper], self._drain_s + KILL_AFTER_S, None)
        child.kill()
        await asyncio.shield(keeper)
        if self._children.get(name) is child:
            del self._children[name]

    def _keeper(self, name: str) -> asyncio.Task[None] | None:
        keeper = self._children[name].keeper if name in self._children else None
        return None if keeper is None or keeper.done() else keeper

    def settled(self) -> None:
        """All have been ready: whoever crashes from now on is started again, however often."""
        self._settled = True

    async def given_up(self) -> Unavailable:
        """Wait until a child has been given up; says which, and its last words."""
        return await asyncio.shield(self._given_up)

    async def drain(self, *, hurry: asyncio.Event | None = None) -> None:
        """Stop every child, stage after stage, and the guard.

        Args:
            hurry: once set, what still runs is killed.
        """
        self._draining = True
        for child in self._children.values():
            child.ending.set()
        for stage in Stage:
            children = [one for one in self._children.values() if one.task.stage is stage]
            if not children:
                continue
            keepers = [child.end() for child in children]
            await _first(keepers, self._drain_s + KILL_AFTER_S, hurry)
            for child in children:
                child.kill()
            await asyncio.gather(*keepers)
        if self._forks is not None:
            await self._forks.aclose()
        if self._guard is not None and self._guard.stdin is not None:
            self._guard.stdin.close()
            await self._guard.wait()

    async def _keep(self, child: Child) -> None:
        task = child.task
        false_starts = 0
        pause_s = FIRST_PAUSE_S
        while not child.ending.is_set():
            started = time.monotonic()
            code, last_line = await self._run(child)
            if child.ending.is_set():
                return
            if time.monotonic() - started >= STEADY_S:
                false_starts, pause_s = 0, FIRST_PAUSE_S
            false_starts += 1
            crashed = code not in OWN_CODES
            if crashed and self._settled:
                false_starts, pause_s = 0, min(pause_s, LONGEST_CRASH_PAUSE_S)
            most = MAX_CRASHES if crashed else MAX_FALSE_STARTS
            if code == EXIT_HOPELESS or false_starts >= most:
                self._give_up(task, code, false_starts, last_line or _last_line(task.log))
                return
            log.warning("%s %s; starting it again in %.1f s", task.name, _describe(code), pause_s)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(child.ending.wait(), pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    def _give_up(self, task: Task, code: int, times: int, last_line: str) -> None:
        error = _given_up(task, code, times, last_line)
        if not task.vital:
            log.error("%s", error.message)
        elif not self._given_up.done():
            self._given_up.set_result(error)

    async def _run(self, child: Child) -> tuple[int, str]:
        """Run it once; returns its exit code and the last line it said."""
        task = child.task
        try:
            process = await self._launch(task)
        except OSError as error:
            return 127, str(error)
        self._watch(f"+{process.pid} {task.stage.value}")
        child.process = process
        if child.ending.is_set():
            child.signal(signal.SIGTERM)
        relay = asyncio.create_task(self._relay(task.name, process))
        code = await process.wait()
        child.process = None
        # What it may have left behind in its group would hold our pipe open, and more.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        self._watch(f"-{process.pid}")
        if self._forks is not None:
            self._forks.bury()
        return code, await relay

    async def _launch(self, task: Task) -> Running:
        if task.forked and self._forks is not None:
            forked = await self._forks.start(task.command[len(FOREBAY) :], task.env)
            if forked is not None:
                return forked
        return await asyncio.create_subprocess_exec(
            *task.command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=dict(task.env),
            start_new_session=True,
            pass_fds=() if self._lock is None else (self._lock,),
        )

    async def _relay(self, name: str, process: Running) -> str:
        """Pass on what a child says, each line under its name; returns the last one."""
        assert process.stdout is not None
        rest, last = b"", ""
        while chunk := await process.stdout.read(MAX_LINE_BYTES):
            *lines, rest = (rest + chunk).split(b"\n")
            if len(rest) >= MAX_LINE_BYTES:
                lines, rest = [*lines, rest], b""
            for line in lines:
                last = self._say(name, line) or last
        return (self._say(name, rest) if rest else "") or last

    def _say(self, name: str, raw: bytes) -> str:
        line = raw.decode("utf-8", "replace").rstrip()
        if line:
            self._show(line if f" {name}: " in line else f"{name}: {line}")
        return line

    def _watch(self, order: str) -> None:
        if self._guard is not None and self._guard.stdin is not None:
            self._guard.stdin.write(f"{order}\n".encode())


async def _first(
    tasks: list[asyncio.Task[None]], timeout_s: float, hurry: asyncio.Event | None
) -> None:
    """Wait until all tasks are done, the time is over, or there is a hurry."""
    done = asyncio.ensure_future(asyncio.wait(tasks, timeout=timeout_s))
    hurried = asyncio.ensure_future((hurry or asyncio.Event()).wait())
    await asyncio.wait({done, hurried}, return_when=asyncio.FIRST_COMPLETED)
    for future in (done, hurried):
        future.cancel()


def _last_line(log: Path | None) -> str:
    """What a log says last."""
    try:
        lines = log.read_text("utf-8", "replace").split("\n") if log else []
    except OSError:
        lines = []
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def _given_up(task: Task, code: int, times: int, last_line: str) -> Unavailable:
    if code == EXIT_HOPELESS:
        return Unavailable(f"{task.name} can't run: {last_line.removeprefix('forebay: ')}")
    words = f" Its last line: {last_line}" if last_line else ""
    return Unavailable(
        f"{task.name} {_describe(code)} {times} times in a row, right after its start.{words}"
    )


def _describe(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
    return f"was ended by {name}"
