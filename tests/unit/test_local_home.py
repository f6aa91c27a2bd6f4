"""One `forebay up` in a home folder, and what a killed one leaves behind."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from forebay.contract.errors import ConfigurationError
from forebay.local import home as home_module
from forebay.local.checks import BusyError
from forebay.local.home import counting_folder, hold_home, until_left, whole_path
from tests.fixtures.waiting import PATIENCE_S, eventually


def test_a_home_has_one_owner_at_a_time(tmp_path: Path) -> None:
    home = tmp_path / "a" / "home"
    for _ in range(2):
        with (
            hold_home(home),
            pytest.raises(BusyError, match=f"process {os.getpid()}.*--home"),
            hold_home(home),
        ):
            pass


def test_a_home_that_leads_nowhere_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(ConfigurationError, match="--home"):
        whole_path(str(tmp_path / "loop"))
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(ConfigurationError, match="--home"):
        whole_path(".forebay")


def test_a_home_that_can_not_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match="--home"), hold_home(tmp_path / "file" / "home"):
        pass


@pytest.mark.parametrize("memory", [True, False])
def test_gateways_count_in_memory_where_there_is_some_in_a_folder_that_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, memory: bool
) -> None:
    home, shared = tmp_path / "home", tmp_path / "memory"
    home.mkdir()
    if memory:
        shared.mkdir()
    monkeypatch.setattr(home_module, "MEMORY", shared)
    with counting_folder(home) as folder:
        assert folder.parent == (shared if memory else home)
        assert folder.stat().st_mode & 0o777 == 0o700
        (folder / "1.counts").touch()
    assert not folder.exists()


HOLDER = """
import subprocess, sys, time
from pathlib import Path
from forebay.local.home import hold_home

with hold_home(Path(sys.argv[1])) as lock:
    wait = "import sys; print('here', flush=True); sys.stdin.read()"
    subprocess.Popen([sys.executable, "-c", wait], pass_fds=[lock])
    time.sleep(60)
"""


class Held:
    """A home whose `forebay up` was killed, and whose lock something that it started holds."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.process = subprocess.Popen(
            [sys.executable, "-c", HOLDER, str(home)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == b"here\n"
        self.process.kill()
        # It ends, and waits to be reaped.
        os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WNOWAIT)

    def let_go(self) -> None:
        """End what holds the lock."""
        assert self.process.stdin is not None
        self.process.stdin.close()


@pytest.fixture
def held(tmp_path: Path) -> Iterator[Held]:
    """Such a home; the killed process is not reaped, as under a shell that is busy."""
    held = Held(tmp_path / "home")
    yield held
    held.let_go()
    held.process.wait(PATIENCE_S)
    assert held.process.stdout is not None
    held.process.stdout.close()


def test_a_killed_owner_is_not_told_to_be_running(held: Held) -> None:
    with pytest.raises(BusyError, match="no longer runs") as caught, hold_home(held.home):
        pass
    assert f"process {held.process.pid}" in caught.value.message


async def test_what_a_killed_owner_has_started_is_waited_for_with_a_word(held: Held) -> None:
    said: list[str] = []
    waiting = asyncio.create_task(until_left(held.home, say=said.append))
    await eventually(lambda: said, what="it says so")
    assert f"process {held.process.pid}) was killed" in said[0]
    assert not waiting.done()
    held.let_go()
    await asyncio.wait_for(waiting, PATIENCE_S)
    assert len(said) == 1
    with hold_home(held.home):
        pass


async def test_the_wait_for_what_a_killed_owner_has_started_has_an_end(
    held: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(home_module, "LEFTOVERS_S", 0.2)
    await asyncio.wait_for(until_left(held.home, say=lambda line: None), PATIENCE_S)
    with pytest.raises(BusyError, match="no longer runs"), hold_home(held.home):
        pass


async def test_an_owner_that_lives_is_not_waited_for(tmp_path: Path) -> None:
    said: list[str] = []
    await until_left(tmp_path / "home", say=said.append)
    with hold_home(tmp_path / "home"):
        await asyncio.wait_for(until_left(tmp_path / "home", say=said.append), PATIENCE_S)
    await until_left(tmp_path / "home", say=said.append)
    assert said == []
