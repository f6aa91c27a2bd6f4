"""Processes: names that a peer on the same machine can check, and exit codes that mean something.

    HOST-PID-START-KERNEL      START: clock ticks from boot to the process's start, hexadecimal
                               KERNEL: of this boot and PID namespace

A process that was killed can't say so. Whoever shares its kernel and PID namespace can still tell
at once: its PID is free, or belongs to a process that started at another time. Everybody else
learns it from its silence.
"""

import functools
import hashlib
import os
import re
import secrets
import socket
from pathlib import Path
from typing import Final

EXIT_HUNG: Final = 70
"""Ended because a forward pass never returned. Another start helps."""

EXIT_HOPELESS: Final = 78
"""Its configuration or its artifact is wrong, as the last line says: no other start would help."""

_NAME: Final = re.compile(r"-(?P<pid>[0-9]+)-(?P<start>[0-9a-f]+)-(?P<kernel>[0-9a-f]{12})\Z")
_PROC: Final = Path("/proc")


def process_name() -> str:
    """This process's name. Where the system has no `/proc`, one that nobody can check."""
    pid = os.getpid()
    start, kernel = _start_of(pid), _kernel()
    if start is None or kernel is None:
        start, kernel = secrets.randbits(32), secrets.token_hex(6)
    return f"{socket.gethostname()}-{pid}-{start:x}-{kernel}"


def pid_of(name: str) -> int | None:
    """The process id in a name; None if it is of another machine, or no such name."""
    match = _NAME.search(name)
    ours = match is not None and name[: match.start()] == socket.gethostname()
    return int(match["pid"]) if match is not None and ours else None


def is_gone(name: str) -> bool:
    """Whether the process of that name has certainly ended; False where that can't be known."""
    match = _NAME.search(name)
    if match is None or match["kernel"] != _kernel():
        return False
    pid = int(match["pid"])
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except (PermissionError, OverflowError):
        return False
    start = _start_of(pid)
    return start is None or start != int(match["start"], 16)


@functools.cache
def _kernel() -> str | None:
    try:
        boot = (_PROC / "sys/kernel/random/boot_id").read_text("ascii")
        space = (_PROC / "self/ns/pid").readlink()
    except OSError:
        return None
    return hashlib.sha256(f"{boot}{space}".encode()).hexdigest()[:12]


def _start_of(pid: int) -> int | None:
    """When a process started; None if it has ended, waited for or not, or there is no `/proc`."""
    try:
        stat = (_PROC / str(pid) / "stat").read_text("utf-8", "replace")
    except OSError:
        return None
    # The second field, the program's name in brackets, may hold anything, brackets too.
    state, *fields = stat.rpartition(")")[2].split()
    return None if state in "ZX" else int(fields[18])
