"""Ctrl-C under make: only Forebay hears it, so that `make up` ends as Forebay ends.

A terminal interrupts every process of its foreground group. GNU make, interrupted, reports an
error even if its child has drained and exited with 0. So where Forebay shares a group with
others, it moves to a group of its own and takes the terminal's foreground, as a shell does for
the jobs it runs, and gives it back at the end.
"""

import contextlib
import os
import signal
import sys
from collections.abc import Generator


@contextlib.contextmanager
def own_foreground() -> Generator[None]:
    """Hold the terminal's foreground, if there is a terminal and somebody to share it with."""
    group = os.getpgrp()
    terminal = _shared_terminal(group)
    if terminal is None:
        yield
        return
    # Nobody would wake us: the shell waits for make, which can't see its child stop.
    stop = signal.signal(signal.SIGTSTP, signal.SIG_IGN)
    # Giving the foreground away is done from the background, which would otherwise stop us.
    output = signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    try:
        with contextlib.suppress(OSError):
            os.setpgid(0, 0)
            os.tcsetpgrp(terminal, os.getpgrp())
        yield
    finally:
        with contextlib.suppress(OSError):
            os.tcsetpgrp(terminal, group)
        signal.signal(signal.SIGTTOU, output)
        signal.signal(signal.SIGTSTP, stop)


def _shared_terminal(group: int) -> int | None:
    """File descriptor of the terminal whose foreground is our group, if we don't lead it."""
    try:
        terminal = sys.stdin.fileno()
        return terminal if group != os.getpid() and os.tcgetpgrp(terminal) == group else None
    except (OSError, ValueError, AttributeError):
        return None
