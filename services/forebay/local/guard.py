"""Ends what a supervisor started, should the supervisor be killed. Standard library only.

The supervisor holds the other end of this process's stdin and names its children on it:

    +PID STAGE      a child, which leads a process group of that number, has started
    -PID            it has ended

When the supervisor is gone, however it went, the kernel closes that end. What is still named then
is asked to stop, stage after stage, and killed if it does not. A supervisor that ends in order
has taken every name back, so there is nothing to do.

Run as a plain script, without site-packages, so that it costs little and depends on nothing.
"""

import contextlib
import os
import signal
import sys
import time
from pathlib import Path

POLL_S = 0.05


def main() -> int:
    """Watch until stdin ends, then stop what is left; the argument is the grace in seconds."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    stages: dict[int, int] = {}
    for line in sys.stdin.buffer:
        words = line.split()
        if not words:
            continue
        pid = int(words[0][1:])
        if words[0].startswith(b"+"):
            stages[pid] = int(words[1])
        else:
            stages.pop(pid, None)
    stop_all(stages, grace_s=float(sys.argv[1]))
    return 0


def stop_all(stages: dict[int, int], *, grace_s: float) -> None:
    """End process groups, lower stages first; a stage has `grace_s` until it is killed."""
    for stage in sorted(set(stages.values())):
        groups = {pid for pid, of in stages.items() if of == stage}
        for pid in groups:
            _signal(pid, signal.SIGTERM)
        deadline = time.monotonic() + grace_s
        while any(_lives(pid) for pid in groups) and time.monotonic() < deadline:
            time.sleep(POLL_S)
        for pid in groups:
            _signal(pid, signal.SIGKILL)


def _lives(leader: int) -> bool:
    """Whether a group's leader still runs. One that only waits to be reaped does not."""
    with contextlib.suppress(OSError, IndexError):
        return Path(f"/proc/{leader}/stat").read_bytes().rsplit(b")", 1)[1].split()[0] != b"Z"
    return _signal(leader, 0)


def _signal(group: int, number: int) -> bool:
    """Signal a group; False if it is gone."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)
        return True
    return False


if __name__ == "__main__":
    raise SystemExit(main())
