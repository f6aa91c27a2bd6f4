"""What this process holds of the system's memory, and how it gives back what is free."""

import contextlib
import ctypes
import gc
import re
import resource
import sys
from pathlib import Path
from typing import Final

from forebay.inference.generation import mirror

M_TRIM_THRESHOLD: Final = -1
M_MMAP_THRESHOLD: Final = -3

LARGE_BYTES: Final = 524_288
"""From here on a block is mapped by itself. Left alone, glibc raises that to 32 MB as soon as one
block of that size was freed, and the heap then keeps what large requests took."""


def give_back_large_blocks() -> None:
    """Set glibc's thresholds for good; elsewhere nothing happens."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return
    mallopt(M_MMAP_THRESHOLD, LARGE_BYTES)
    mallopt(M_TRIM_THRESHOLD, LARGE_BYTES)


def give_back_all() -> None:
    """Collect what nothing refers to, and give every free page of the heap back to the system."""
    gc.collect()
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)


def resident_bytes() -> int:
    """Memory that this process holds now (RSS); without a `/proc`, the most it ever held.

    What is mapped more than once, on purpose, counts once (`generation.mirror`).
    """
    try:
        told = Path("/proc/self/status").read_text("ascii", "replace")
    except OSError:
        return _most_bytes()
    resident, shared = _kilobytes(told, "VmRSS"), _kilobytes(told, "RssShmem")
    if not resident:
        return _most_bytes()
    return resident - max(shared - mirror.held(), 0)


def peak_bytes() -> int:
    """The most memory that this process ever held (RSS)."""
    # Not what `getrusage` says, which Linux carries over from the process that started this one.
    try:
        told = Path("/proc/self/status").read_text("ascii", "replace")
    except OSError:
        return _most_bytes()
    return _kilobytes(told, "VmHWM") or _most_bytes()


def _kilobytes(status: str, name: str) -> int:
    found = re.search(rf"^{name}:\s*(\d+) kB$", status, re.MULTILINE)
    return int(found[1]) * 1024 if found else 0


def _most_bytes() -> int:
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024
