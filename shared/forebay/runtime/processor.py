"""What this machine's processor can't do, where results depend on it; how many cores there are."""

import os
import platform
import re
from pathlib import Path
from typing import Final


def saturates(machine: str = platform.machine(), *, cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether 8-bit kernels for unsigned by signed bytes add their products up in 16 bits.

    x86 without the VNNI instructions does, and overflows (decision 0005). ONNX Runtime then has
    an exact way, which costs a third of the speed: a build and a worker ask for it here alike, and
    nowhere else. An x86 processor that nobody tells about counts as one without.

    Args:
        machine: its architecture; this machine's own by default.
        cpuinfo: where Linux tells what the processor has.
    """
    if machine not in ("x86_64", "AMD64"):
        return False
    try:
        return "vnni" not in cpuinfo.read_text("utf-8")
    except OSError:
        return True


CGROUPS: Final = Path("/sys/fs/cgroup")
"""Where Linux tells of this process's control group, as a container sees its own."""


def cores(cgroups: Path = CGROUPS) -> int:
    """Cores this process may use, which a container can make fewer than the machine's.

    A limit of CPU time counts as so many cores, rounded down: threads beyond that would stand
    still for part of the time.

    Args:
        cgroups: where its control group is told of.
    """
    if hasattr(os, "sched_getaffinity"):
        there = len(os.sched_getaffinity(0))
    else:
        there = os.cpu_count() or 1
    limit = _limit(cgroups)
    return min(there, max(int(limit), 1)) if limit else there


def _limit(cgroups: Path) -> float:
    """Cores' worth of time that the group may take; 0 without a limit, or where none is told."""
    try:
        quota, period = (cgroups / "cpu.max").read_text("ascii").split()
    except (OSError, ValueError):
        try:  # the first version of cgroups
            folder = cgroups / "cpu"
            quota = (folder / "cpu.cfs_quota_us").read_text("ascii")
            period = (folder / "cpu.cfs_period_us").read_text("ascii")
        except (OSError, ValueError):
            return 0.0
    try:
        return max(int(quota) / int(period), 0.0)
    except (ValueError, ZeroDivisionError):
        return 0.0  # "max": no limit


def describe(machine: str = platform.machine(), *, cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """This machine in a few words: equal for machines on which a model is about as fast.

    Args:
        machine: its architecture.
        cpuinfo: where Linux tells what the processor is.
    """
    try:
        text = cpuinfo.read_text("utf-8")
    except OSError:
        text = ""
    name = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    told = [name[1].strip() if name else machine, f"{cores()} cores"]
    told += [found for found, flag in _FAST if re.search(rf"\b{flag}\b", text)]
    return ", ".join(told)


_FAST = (("AVX-512 VNNI", "avx512_vnni"), ("AVX-VNNI", "avx_vnni"), ("AMX INT8", "amx_int8"))
"""What makes 8-bit products fast, and what Linux calls it."""
