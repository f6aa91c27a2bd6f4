"""Has the C library give large blocks back to the system as soon as they are free."""

import ctypes
from typing import Final

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
