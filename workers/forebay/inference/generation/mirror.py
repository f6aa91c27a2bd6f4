"""Memory that stands several times in a row: one slot's keys and values as many rows of a run.

A kernel takes rows that lie behind one another. Pages can be mapped at more than one address, so
a run of n rows on n mappings of one slot's pages reads and writes that slot alone. Linux only:
the pages are those of an anonymous file (memfd_create(2), mmap(2) with MAP_FIXED).
"""

import contextlib
import ctypes
import errno
import functools
import mmap
import os
import weakref
from typing import Any, Final

_NOWHERE: Final = ctypes.c_void_p(-1).value
_MAP_FIXED: Final = 0x10
_MAP_NORESERVE: Final = 0x4000

_BLOCK: Final = 512
"""Bytes of what stat(2) counts in."""

_FILES: Final[set[int]] = set()


def held() -> int:
    """Bytes of all shared memory here, each page once. RSS counts each of its mappings."""
    total = 0
    for file in tuple(_FILES):
        with contextlib.suppress(OSError):  # closed meanwhile
            total += os.fstat(file).st_blocks * _BLOCK
    return total


class SharedMemory:
    """Zeros in pages that can be mapped again. A page that nothing was written to takes no memory.

    Args:
        size: bytes.

    Raises:
        OSError: the system has no room, or can't map memory so.
    """

    def __init__(self, size: int) -> None:
        if not hasattr(os, "memfd_create"):
            raise OSError(errno.ENOSYS, "only Linux maps memory more than once here")
        self._file = os.memfd_create("forebay-keys-and-values")
        weakref.finalize(self, _close, self._file)
        _FILES.add(self._file)
        os.ftruncate(self._file, size)
        self.memory = mmap.mmap(self._file, size)

    def repeated(self, offset: int, size: int, times: int) -> "Mirror":
        """A part of it, mapped so many times in a row.

        Args:
            offset: of the part, in whole pages.
            size: of the part, in whole pages.
            times: how often.

        Raises:
            OSError: the system refuses so many mappings.
        """
        return Mirror(self._file, offset, size, times)


class Mirror:
    """Addresses at which a part of shared memory stands several times in a row.

    Attributes:
        address: of the first.
    """

    def __init__(self, file: int, offset: int, size: int, times: int) -> None:
        # Addresses are taken first, so that no mapping of somebody else lies between.
        private = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_NORESERVE
        self.address = _map(None, size * times, 0, private, -1, 0)
        unmap = weakref.finalize(self, _libc().munmap, self.address, size * times)
        # A thread may still compute there while the interpreter ends.
        unmap.atexit = False
        for number in range(times):
            _map(
                self.address + number * size,
                size,
                mmap.PROT_READ | mmap.PROT_WRITE,
                mmap.MAP_SHARED | _MAP_FIXED,
                file,
                offset,
            )


def _close(file: int) -> None:
    _FILES.discard(file)
    os.close(file)


def _map(address: int | None, size: int, access: int, flags: int, file: int, offset: int) -> int:
    mapped = _libc().mmap(address, size, access, flags, file, offset)
    if mapped == _NOWHERE:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), "mmap")
    return int(mapped)


@functools.cache
def _libc() -> Any:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [
        ctypes.c_void_p,
        ctypes.c_size_t,
        ctypes.c_int,
        ctypes.c_int,
        ctypes.c_int,
        ctypes.c_long,
    ]
    libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    return libc
