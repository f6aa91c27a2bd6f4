"""How much of the machine somebody else used while we measured."""

import os
import time
from contextlib import suppress
from pathlib import Path

from tests.bench.machine import cores
from tests.bench.processes import descendants

TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class Neighbours:
    """Watches from its making on. Make it before starting anything, ask before stopping it."""

    def __init__(self) -> None:
        self._begun = time.monotonic()
        self._busy_s = machine_busy_s()
        self._ours_s = used_s(os.getpid())

    def share(self) -> float | None:
        """Share of all cores' time that neither we nor what we started used, 0..1.

        None where there is no /proc to ask.
        """
        busy_s, ours_s = machine_busy_s(), used_s(os.getpid())
        if busy_s is None or self._busy_s is None:
            return None
        others_s = (busy_s - self._busy_s) - (ours_s - self._ours_s)
        return max(0.0, others_s / ((time.monotonic() - self._begun) * cores()))


def machine_busy_s() -> float | None:
    """CPU seconds that the machine's cores have been busy or stolen from it; None if unknown."""
    try:
        fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]
    except OSError:
        return None
    user, nice, system, _idle, _iowait, irq, softirq, steal = (int(field) for field in fields)
    return (user + nice + system + irq + softirq + steal) / TICKS_PER_S


def used_s(pid: int) -> float:
    """CPU seconds of a process, its descendants, and those of theirs that have ended."""
    ticks = 0
    for each in (pid, *descendants(pid)):
        with suppress(OSError, IndexError):
            fields = Path(f"/proc/{each}/stat").read_text("utf-8", "replace").rpartition(")")[2]
            ticks += sum(int(field) for field in fields.split()[11:15])
    return ticks / TICKS_PER_S
