"""The supervisor: start, restart, give up, drain in order; and the guard behind it."""

import asyncio
import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest

from forebay.local import guard
from forebay.local.children import Stage, Task
from forebay.local.processes import MAX_CRASHES, MAX_FALSE_STARTS, Supervisor
from forebay.runtime.process import EXIT_HOPELESS, EXIT_HUNG
from forebay.runtime.settings import Settings
from tests.fixtures.waiting import PATIENCE_S, eventually, eventually_sync

linux = pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks at processes by /proc")

WAIT = "import time\nwhile True: time.sleep(1)\n"
STUBBORN = "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
TELL = "import os, sys\nprint('pid', os.getpid(), flush=True)\n"
POLITE = (
    "import signal, sys\n"
    "signal.signal(signal.SIGTERM, lambda *_: (print('bye', flush=True), sys.exit(0)))\n"
)


def python(name: str, code: str, *, stage: Stage = Stage.WORKERS) -> Task:
    """A process that runs this code."""
    return Task(name, (sys.executable, "-c", code), stage, dict(os.environ))


def open_files(pid: int) -> list[Path]:
    """What a process has open."""
    return [file.readlink() for file in Path(f"/proc/{pid}/fd").iterdir()]


class Watched:
    """A supervisor and all it showed."""

    def __init__(self, supervisor: Supervisor, lines: list[str]) -> None:
        self.supervisor = supervisor
        self.lines = lines

    async def pid(self, name: str, *, after: int = 0) -> int:
        """Process id that a task has told, later than a number of lines."""

        def told() -> int:
            pids = [line for line in self.lines[after:] if line.startswith(f"{name}: pid ")]
            return int(pids[-1].split()[-1]) if pids else 0

        return await eventually(told, what=f"{name} has started")


@pytest.fixture
async def watched(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Watched]:
    """A supervisor with little patience."""
    monkeypatch.setattr("forebay.local.processes.FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr("forebay.local.processes.KILL_AFTER_S", 0.2)
    lines: list[str] = []
    supervisor = Supervisor(drain_s=0.2, show=lines.append)
    await supervisor.open()
    yield Watched(supervisor, lines)
    await supervisor.drain()


def gone(pid: int) -> bool:
    """Whether a process is no more."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


async def test_output_comes_under_its_name_and_records_that_name_themselves_as_they_are(
    watched: Watched,
) -> None:
    code = "import sys; print('plain'); print('now INFO a: named', file=sys.stderr)"
    watched.supervisor.start(python("a", f"{code}; sys.stdout.flush()\n{WAIT}"))
    await eventually(lambda: len(watched.lines) == 2)
    assert sorted(watched.lines) == ["a: plain", "now INFO a: named"]


async def test_an_endless_line_is_passed_on_in_pieces(watched: Watched) -> None:
    watched.supervisor.start(python("a", f"print('x' * 1_000_000)\n{WAIT}"))
    await eventually(lambda: sum(line.count("x") for line in watched.lines) > 900_000)
    assert max(map(len, watched.lines)) < 200_000


async def test_a_child_that_was_killed_is_started_again(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("forebay.local.processes.STEADY_S", 0.0)
    watched.supervisor.start(python("a", TELL + WAIT))
    seen = 0
    for _ in range(MAX_FALSE_STARTS + 1):
        pid = await watched.pid("a", after=seen)
        seen = len(watched.lines)
        os.kill(pid, signal.SIGKILL)
    await watched.pid("a", after=seen)


async def test_a_child_that_never_starts_well_is_given_up_with_its_last_words(
    watched: Watched,
) -> None:
    watched.supervisor.start(python("a", "raise SystemExit('no model here')"))
    async with asyncio.timeout(PATIENCE_S):
        error = await watched.supervisor.given_up()
    assert "a ended with exit code 1" in error.message
    assert f"{MAX_FALSE_STARTS} times" in error.message
    assert error.message.endswith("no model here")


async def test_a_child_that_says_no_start_will_help_is_given_up_at_once(watched: Watched) -> None:
    code = f"import sys; print('forebay: the model is damaged'); sys.exit({EXIT_HOPELESS})"
    watched.supervisor.start(python("a", code))
    async with asyncio.timeout(PATIENCE_S):
        error = await watched.supervisor.given_up()
    assert error.message == "a can't run: the model is damaged"
    assert len(watched.lines) == 1


@pytest.mark.parametrize(
    "end", ["os.kill(os.getpid(), 11)", f"sys.exit({EXIT_HUNG})", "os._exit(3)"]
)
async def test_a_child_that_crashes_gets_more_starts_than_its_rows_get_strikes(
    watched: Watched, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    monkeypatch.setattr("forebay.local.processes.LONGEST_PAUSE_S", 0.01)
    watched.supervisor.start(python("a", f"import os, sys; print('up', flush=True); {end}"))
    async with asyncio.timeout(PATIENCE_S):
        error = await watched.supervisor.given_up()
    assert f"{MAX_CRASHES} times" in error.message
    assert 2 * Settings().max_strikes < MAX_CRASHES
    assert [line for line in watched.lines if line.endswith("up")] == ["a: up"] * MAX_CRASHES


async def test_who_crashes_once_all_were_ready_is_started_again_however_often(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("forebay.local.processes.LONGEST_PAUSE_S", 0.01)
    watched.supervisor.settled()
    crash = "import os; print('up', flush=True); os.kill(os.getpid(), 11)"
    watched.supervisor.start(python("a", crash))
    watched.supervisor.start(python("b", "raise SystemExit('no model here')"))
    async with asyncio.timeout(PATIENCE_S):
        error = await watched.supervisor.given_up()
        assert "b ended with exit code 1" in error.message
    await eventually(lambda: sum(line.endswith("up") for line in watched.lines) > MAX_CRASHES)


async def test_a_program_that_is_not_there_is_given_up(watched: Watched) -> None:
    watched.supervisor.start(Task("a", ("/no/such/program",), Stage.SERVER, {}))
    async with asyncio.timeout(PATIENCE_S):
        assert "/no/such/program" in (await watched.supervisor.given_up()).message


@linux
async def test_every_child_holds_the_lock_as_long_as_it_lives(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    lines: list[str] = []
    supervisor = Supervisor(drain_s=0.2, show=lines.append, lock=descriptor)
    await supervisor.open()
    watched = Watched(supervisor, lines)
    supervisor.start(python("a", TELL + WAIT))
    pid = await watched.pid("a")
    held = open_files(pid)
    await supervisor.drain()
    os.close(descriptor)
    assert path in held


async def test_stages_stop_in_order_each_when_the_one_before_has_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("forebay.local.processes.KILL_AFTER_S", PATIENCE_S)
    lines: list[str] = []
    supervisor = Supervisor(drain_s=PATIENCE_S, show=lines.append)
    await supervisor.open()
    watched = Watched(supervisor, lines)
    for stage in reversed(Stage):
        supervisor.start(python(stage.name, POLITE + TELL + WAIT, stage=stage))
        await watched.pid(stage.name)
    await supervisor.drain()
    ends = [line for line in lines if line.endswith("bye")]
    assert ends == [f"{stage.name}: bye" for stage in Stage]


async def test_who_does_not_stop_in_time_is_killed_with_its_own_children(watched: Watched) -> None:
    spawn = (
        "import subprocess, sys\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "print('child', child.pid, flush=True)\n"
    )
    watched.supervisor.start(python("a", STUBBORN + spawn + TELL + WAIT))
    pid = await watched.pid("a")
    child = next(int(line.split()[-1]) for line in watched.lines if "child" in line)
    await watched.supervisor.drain()
    await eventually(lambda: gone(pid) and gone(child))


async def test_a_hurry_ends_the_grace(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("forebay.local.processes.KILL_AFTER_S", 600.0)
    watched.supervisor.start(python("a", STUBBORN + TELL + WAIT))
    pid = await watched.pid("a")
    hurry = asyncio.Event()
    hurry.set()
    async with asyncio.timeout(PATIENCE_S):
        await watched.supervisor.drain(hurry=hurry)
    assert gone(pid)


async def test_draining_does_not_wait_for_a_pause(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("forebay.local.processes.FIRST_PAUSE_S", 600.0)
    watched.supervisor.start(python("a", TELL))
    pid = await watched.pid("a")
    await eventually(lambda: gone(pid))
    async with asyncio.timeout(PATIENCE_S):
        await watched.supervisor.drain()


def ignores(status: str, number: signal.Signals) -> bool:
    """Whether a process ignores a signal, by what Linux tells of it."""
    mask = next(line.split()[1] for line in status.splitlines() if line.startswith("SigIgn:"))
    return bool(int(mask, 16) >> (number - 1) & 1)


def start_guard(grace_s: float) -> "subprocess.Popen[bytes]":
    """The guard, as the supervisor starts it."""
    return subprocess.Popen(
        [sys.executable, "-I", "-S", str(guard.__file__), str(grace_s)], stdin=subprocess.PIPE
    )


def start_child(code: str) -> "subprocess.Popen[bytes]":
    """A process that leads a group, and has run its code."""
    child = subprocess.Popen(
        [sys.executable, "-c", f"{code}\nprint('ready', flush=True)\n{WAIT}"],
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert child.stdout is not None
    assert child.stdout.readline() == b"ready\n"
    return child


@linux
def test_the_guard_ends_what_a_dead_supervisor_has_left_and_nothing_else() -> None:
    children = {name: start_child(code) for name, code in (("a", ""), ("b", STUBBORN), ("c", ""))}
    watcher = start_guard(1.0)
    assert watcher.stdin is not None
    for stage, one in enumerate(children.values()):
        watcher.stdin.write(b"+%d %d\n" % (one.pid, stage))
    watcher.stdin.write(b"-%d\n" % children["c"].pid)
    watcher.stdin.flush()
    status = Path(f"/proc/{watcher.pid}/status")
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    eventually_sync(
        lambda: all(ignores(status.read_text(), number) for number in numbers), what="it is deaf"
    )
    for number in numbers:
        watcher.send_signal(number)
    try:
        # What happens when the supervisor is killed: its end of the pipe closes.
        watcher.stdin.close()
        assert watcher.wait(PATIENCE_S) == 0
        assert children["a"].wait(PATIENCE_S) == -signal.SIGTERM
        assert children["b"].wait(PATIENCE_S) == -signal.SIGKILL
        assert children["c"].poll() is None
    finally:
        for one in (watcher, *children.values()):
            one.kill()
            one.wait(PATIENCE_S)
            if one.stdout:
                one.stdout.close()


@linux
def test_the_guard_waits_for_no_one_who_is_gone() -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    # Not reaped yet: the process is a zombie.
    eventually_sync(lambda: Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z")
    assert not guard._lives(pid)
    os.waitpid(pid, 0)
    assert not guard._lives(pid)
