"""How much memory there is."""

import os
from pathlib import Path


def total_bytes(*, limit: Path = Path("/sys/fs/cgroup/memory.max")) -> int:
    """Memory of this machine, or of the container that this process runs in.

    Args:
        limit: where Linux tells what a container may take.
    """
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        told = limit.read_text("ascii").strip()
    except OSError:
        return machine
    return min(machine, int(told)) if told.isdigit() else machine
