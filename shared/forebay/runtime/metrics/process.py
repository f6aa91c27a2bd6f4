"""What a process takes: CPU and memory, read from the system when somebody asks."""

import os
import resource
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from forebay.runtime.metrics.instruments import Reading, Registry
from forebay.runtime.metrics.table import PROCESS_CPU, PROCESS_MEMORY

_STATM: Final = Path("/proc/self/statm")


def observe_process(registry: Registry) -> None:
    """Have this process's CPU and memory among its metrics."""
    registry.observe(PROCESS_CPU, _cpu)
    registry.observe(PROCESS_MEMORY, _memory)


def _cpu() -> Iterable[Reading]:
    times = os.times()
    return ((("user",), times.user), (("system",), times.system))


def _memory() -> Iterable[Reading]:
    try:
        pages = int(_STATM.read_text("ascii").split()[1])
    except OSError:
        # Where there is no /proc: the most it ever was, in KiB but on macOS.
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return (((), float(most * (1 if os.uname().sysname == "Darwin" else 1024))),)
    return (((), float(pages * resource.getpagesize())),)
