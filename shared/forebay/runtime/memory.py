"""How much memory there is, and how often what lies about in it is collected."""

import gc
import os
from pathlib import Path
from typing import Final

GC_THRESHOLD: Final = 10_000
"""Allocations between collections of the youngest objects: hundreds of requests make that many
which are all alive while they wait."""


def keep_what_is_there() -> None:
    """Have the collector leave alone what there is now, and come less often.

    What a process has imported stays for good: walking it again and again costs a tenth of the
    throughput. Call it once that is done, before there is anything that is to go again.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD)


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
