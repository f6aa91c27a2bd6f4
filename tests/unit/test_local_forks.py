"""Workers forked from a process that has their imports: real ones."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator
from importlib import metadata

import psutil
import pytest

from forebay.local.forks import Forked, Forks, adopt
from tests.fixtures.waiting import eventually

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forking workers takes Linux")

NOWHERE = "redis://127.0.0.1:1/0"
ENV = {"HOME": "/", "PATH": os.environ["PATH"]}


@pytest.fixture
async def forks() -> AsyncIterator[Forks]:
    """A forker that has imported little."""
    assert Forks.possible()
    forks = Forks(["forebay.cli.main"])
    await forks.open()
    yield forks
    await forks.aclose()
    adopt(False)
    for child in children(NOWHERE):
        child.kill()


def children(word: str) -> list[psutil.Process]:
    """Our own that run, with a word in their command line."""
    found = []
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.Error):  # other tests' may have ended
            if any(word in told for told in child.cmdline()[2:]):
                found.append(child)
    return found


async def started(forks: Forks, *words: str) -> Forked:
    """A process that is there."""
    forked = await forks.start(words, ENV)
    assert forked is not None
    return forked


async def said(forked: Forked) -> str:
    """All that it says until it ends."""
    assert forked.stdout is not None
    return (await forked.stdout.read()).decode()


async def test_a_fork_is_what_its_command_is_and_tells_how_it_ended(forks: Forks) -> None:
    told = await started(forks, "--version")
    assert await said(told) == f"forebay {metadata.version('forebay')}\n"
    assert await told.wait() == 0

    wrong = await started(forks, "nonsense")
    assert "No such command 'nonsense'" in await said(wrong)
    assert await wrong.wait() == 2


async def test_it_is_our_own_child_and_leads_a_session_under_its_own_name(forks: Forks) -> None:
    # It waits for a server that isn't there.
    forked = await started(forks, "worker", "echo", "--redis-url", NOWHERE)
    process = psutil.Process(forked.pid)
    assert process.ppid() == os.getpid()
    assert os.getsid(forked.pid) == forked.pid
    command = [sys.executable, "-m", "forebay.cli", "worker", "echo"]
    assert await eventually(lambda: process.cmdline()[:5] == command, what="its title")
    forked.send_signal(signal.SIGKILL)
    assert await forked.wait() == -signal.SIGKILL
    await said(forked)


async def test_its_environment_is_the_one_it_is_given(
    forks: Forks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FOREBAY_PORT", "not-a-port")  # ours, and none of its business
    forked = await forks.start(["config"], {**ENV, "FOREBAY_PORT": "8123", "COLUMNS": "200"})
    assert forked is not None
    assert "8123" in await said(forked)
    assert await forked.wait() == 0


async def test_a_forker_that_is_killed_takes_nobody_with_it_and_is_there_again(
    forks: Forks,
) -> None:
    forked = await started(forks, "worker", "echo", "--redis-url", NOWHERE)
    (forker,) = children("forebay.cli.forker")
    forker.kill()
    assert await forks.start(["--version"], ENV) is None  # whoever asks starts it as any other
    again = await started(forks, "--version")
    assert (await said(again)).startswith("forebay ")
    assert await again.wait() == 0
    assert psutil.pid_exists(forked.pid)
    forked.send_signal(signal.SIGKILL)
    assert await forked.wait() == -signal.SIGKILL
    await said(forked)


async def test_what_others_leave_behind_is_buried_and_what_is_waited_for_is_not(
    forks: Forks,
) -> None:
    # A child of a child, in its session: it is ours once its parent has ended.
    script = (
        "import os, subprocess, sys\n"
        "print(subprocess.Popen([sys.executable, '-c', 'pass']).pid, flush=True)\n"
    )
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, stdout=asyncio.subprocess.PIPE, start_new_session=True
    )
    told, _ = await parent.communicate()
    orphan = int(told)

    def buried() -> bool:
        forks.bury()
        return not psutil.pid_exists(orphan)

    assert await eventually(buried, what="the orphan's end")
    assert parent.returncode == 0
