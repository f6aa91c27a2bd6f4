"""The home folder belongs to one `forebay up` at a time.

`up.lock` is locked for as long as anything that a `forebay up` has started may live, and names its
process. The guard and every child inherit the lock, so that of a `forebay up` which is killed it is
held until the guard has stopped the rest.
"""

import asyncio
import contextlib
import fcntl
import os
import tempfile
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Final

from forebay.contract.errors import ConfigurationError
from forebay.local.checks import BusyError, reason
from forebay.local.children import Stage
from forebay.local.processes import GUARD_GRACE_S

LOCK: Final = "up.lock"
URL_FILE: Final = "redis-url"

MEMORY: Final = Path("/dev/shm")  # noqa: S108 - what is made there has a name of chance, for us only

LEFTOVERS_S: Final = GUARD_GRACE_S * len(Stage) + 5.0
"""The guard needs no longer than this to stop what a killed `forebay up` had started."""

POLL_S: Final = 0.05


def whole_path(home: str) -> Path:
    """The home folder's path from the root, which stays the same wherever a process runs.

    Raises:
        ConfigurationError: there is no such path, or we run in a folder that is gone.
    """
    try:
        return Path(home).resolve()
    except (OSError, RuntimeError) as error:
        raise ConfigurationError(
            f"The home folder {home!r} can't be found: {reason(error)}. Choose another "
            "folder with --home (FOREBAY_HOME)."
        ) from error


async def until_left(home: Path, *, say: Callable[[str], None]) -> None:
    """Wait while the guard stops what a killed `forebay up` had started in a home folder.

    It takes up to `LEFTOVERS_S`; what still runs after that is for `hold_home` to complain of.

    Args:
        home: the folder.
        say: told once, if there is something to wait for.
    """
    owner = _killed_owner(home)
    if owner is None:
        return
    say(
        f"the last `forebay up` in {home} (process {owner}) was killed; waiting until what it had "
        f"started has ended, which takes {LEFTOVERS_S:.0f} s at most"
    )
    deadline = time.monotonic() + LEFTOVERS_S
    while time.monotonic() < deadline and _killed_owner(home):  # noqa: ASYNC110 - a file's lock
        await asyncio.sleep(POLL_S)


@contextlib.contextmanager
def counting_folder(home: Path) -> Generator[Path]:
    """A folder for gateways to count in together: in memory if there is one, and gone at the end.

    On a disk a process that counts may have to wait while the system writes to it.
    """
    at = MEMORY if os.access(MEMORY, os.W_OK | os.X_OK) else home
    with tempfile.TemporaryDirectory(
        prefix="forebay-", dir=at, ignore_cleanup_errors=True
    ) as folder:
        yield Path(folder)


@contextlib.contextmanager
def hold_home(home: Path) -> Generator[int]:
    """Be the only `forebay up` in a home folder; yields the lock's file descriptor.

    Whoever inherits the descriptor holds the lock too.

    Raises:
        BusyError: another one is running there, or what a killed one had started.
        ConfigurationError: the folder can't be made or written to.
    """
    try:
        home.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(home / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise ConfigurationError(
            f"{home} can't be written to: {reason(error)}. Choose another folder with "
            "--home (FOREBAY_HOME)."
        ) from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise _busy(home, _owner(descriptor)) from error
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield descriptor
    finally:
        os.close(descriptor)


def _busy(home: Path, owner: int | None) -> BusyError:
    if owner is not None and not _runs(owner):
        return BusyError(
            f"{home} is still in use, though the `forebay up` that took it (process {owner}) no "
            "longer runs: something that it had started does. Wait for that or end it, or choose "
            "another folder with --home (FOREBAY_HOME)."
        )
    return BusyError(
        f"Another `forebay up` (process {owner or 'unknown'}) uses {home}. Stop it, or choose "
        "another folder with --home (FOREBAY_HOME)."
    )


def _killed_owner(home: Path) -> int | None:
    """Process id of a `forebay up` that has ended while its lock is still held."""
    try:
        descriptor = os.open(home / LOCK, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        owner = _owner(descriptor)
        return None if owner is None or _runs(owner) else owner
    finally:
        os.close(descriptor)
    return None


def tell_url(home: Path, url: str) -> None:
    """Leave word of where the server of this home is, for verbs on the same machine."""
    (home / URL_FILE).write_text(f"{url}\n", "utf-8")


def forget_url(home: Path) -> None:
    """The server of this home has ended."""
    (home / URL_FILE).unlink(missing_ok=True)


def told_url(home: Path) -> str:
    """Where the server of this home is; empty if none runs, as far as is known."""
    try:
        return (home / URL_FILE).read_text("utf-8").strip()
    except (OSError, UnicodeError):
        return ""


def _owner(descriptor: int) -> int | None:
    """The process that has taken the lock, if it has said so."""
    with contextlib.suppress(ValueError):
        return int(os.pread(descriptor, 32, 0))
    return None


def _runs(pid: int) -> bool:
    """Whether a process runs. One that only waits to be reaped does not."""
    with contextlib.suppress(OSError, IndexError):
        return Path(f"/proc/{pid}/stat").read_bytes().rsplit(b")", 1)[1].split()[0] != b"Z"
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True
