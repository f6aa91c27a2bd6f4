"""What gateways of one port have counted, each in a file that all of them read.

    each gateway ─counts─▶ a file of its own ─┐
                                              ├─ added up when somebody asks
    the others ──count──▶ files of theirs ────┘

The file is a gateway's memory (mmap): counting costs no call, others see each number as it is, and
it outlives a process that is killed. Who has a file open has it locked; who starts goes on with one
that nobody has, so that there are no more files than there were gateways at once, and no count is
lost. Without a folder it is plain memory.

    file     segments of 64 KiB
    segment  head: form, process id; then series, until a length of 0
    series   length of its name, how many numbers it has; its name, as JSON; the numbers
"""

import fcntl
import logging
import mmap
import operator
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

log = logging.getLogger(__name__)

Name = tuple[str, ...]
"""Of a series: the metric's, and the values of its labels."""

SEGMENT: Final = 65_536
MOST_FILES: Final = 1_024

_HEAD: Final = struct.Struct("=16sQ8x")
_LENGTHS: Final = struct.Struct("=II")
_NUMBER: Final = 8

_names = msgspec.json.Decoder(Name)


class Told(msgspec.Struct, frozen=True):
    """What one gateway has counted.

    Attributes:
        place: its number among those of the port; whoever comes after it has the same.
        pid: of its process.
        lives: whether that still runs.
        numbers: by series.
    """

    place: str
    pid: int
    lives: bool
    numbers: dict[Name, list[float]]


class _Segment:
    """A part of a file, or of memory.

    Attributes:
        series: that it has.
    """

    def __init__(self, memory: mmap.mmap) -> None:
        self._bytes = memoryview(memory)
        self._numbers = self._bytes.cast("d")
        self.series: dict[Name, memoryview[float]] = {}
        self._end = _HEAD.size
        for name, first, count, end in _series(self._bytes):
            self.series[name] = self._numbers[first : first + count]
            self._end = end

    def add(self, name: Name, count: int) -> "memoryview[float] | None":
        """Numbers for a new series, all 0; None if there is no room."""
        told = msgspec.json.encode(name)
        named = self._end + _LENGTHS.size
        first = _up(named + len(told))
        end = first + count * _NUMBER
        if end + _LENGTHS.size > SEGMENT:
            return None
        self._bytes[named:end] = told.ljust(end - named, b"\0")
        # Last: what is read at this moment ends before it, or has all of it.
        self._bytes[self._end : named] = _LENGTHS.pack(len(told), count)
        self._end = end
        at = first // _NUMBER
        self.series[name] = self._numbers[at : at + count]
        return self.series[name]


class Counts:
    """One gateway's counts, and those of all that count in the same folder.

    Args:
        folder: where they do, best in memory; None for one that counts by itself.
        form: 16 bytes at most: files of another form are left alone.
        passing: metrics whose numbers end with their process.
    """

    def __init__(self, folder: Path | None, *, form: bytes, passing: frozenset[str]) -> None:
        self._form = form.ljust(16, b"\0")
        self._passing = passing
        self._folder = folder
        self._file: int | None = None
        self._segments: list[_Segment] = []
        if folder is not None:
            try:
                self._file = self._take(folder)
            except OSError as error:
                log.warning("this gateway counts by itself: %s: %s", folder, error)
                self._folder = None
        if not self._segments:
            self._segments.append(_Segment(mmap.mmap(-1, SEGMENT)))

    @property
    def shares(self) -> bool:
        """Whether others count in the same folder."""
        return self._folder is not None

    def series(self, metric: str, *labels: str, count: int) -> "memoryview[float]":
        """The numbers of a series, to be changed in place; all 0 where it is new.

        Args:
            metric: its name.
            labels: their values.
            count: how many numbers it has.
        """
        name = (metric, *labels)
        for segment in self._segments:
            if (found := segment.series.get(name)) is not None:
                return found
        added = self._segments[-1].add(name, count)
        if added is None:
            self._segments.append(_Segment(self._more()))
            added = self._segments[-1].add(name, count)
        if added is None:
            raise ValueError(f"a series of {count} numbers, {name[0]}, doesn't fit in a segment")
        return added

    def told(self) -> list[Told]:
        """What each has counted."""
        if self._folder is None:
            own = {
                name: list(numbers)
                for segment in self._segments
                for name, numbers in segment.series.items()
            }
            return [Told("1", os.getpid(), True, own)]
        found = [self._read(path) for path in self._folder.glob("*.counts")]
        return sorted(
            (one for one in found if one is not None), key=lambda one: (len(one.place), one.place)
        )

    def sums(self, told: list[Told]) -> dict[Name, list[float]]:
        """All of it together, by series."""
        sums: dict[Name, list[float]] = {}
        for one in told:
            for name, numbers in one.numbers.items():
                if one.lives or name[0] not in self._passing:
                    before = sums.get(name)
                    sums[name] = (
                        numbers if before is None else list(map(operator.add, before, numbers))
                    )
        return sums

    def close(self) -> None:
        """Leave the file to whoever comes after; what is counted yet still is."""
        if self._file is not None:
            fcntl.flock(self._file, fcntl.LOCK_UN)  # the memory has the file open as well
            os.close(self._file)
            self._file = None

    def _take(self, folder: Path) -> int:
        """Have a file that nobody has, a new one if need be; returns what keeps it locked."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for place in range(1, MOST_FILES + 1):
            file = os.open(folder / f"{place}.counts", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                form = os.pread(file, len(self._form), 0)
                if form.strip(b"\0") and form != self._form:
                    raise BlockingIOError
                if not _whole(os.fstat(file).st_size):
                    _grow(file, 0)
            except BlockingIOError:
                os.close(file)
                continue
            except BaseException:
                os.close(file)
                raise
            size = _whole(os.fstat(file).st_size)
            segments = [
                mmap.mmap(file, SEGMENT, offset=offset) for offset in range(0, size, SEGMENT)
            ]
            self._segments = [_Segment(memory) for memory in segments]
            for segment in self._segments:
                for name, numbers in segment.series.items():
                    if name[0] in self._passing:
                        numbers[:] = memoryview(bytes(_NUMBER * len(numbers))).cast("d")
            _HEAD.pack_into(segments[0], 0, self._form, os.getpid())
            return file
        raise OSError(f"{MOST_FILES} gateways have files here already")

    def _more(self) -> mmap.mmap:
        """Room for more series."""
        if self._file is not None:
            try:
                size = _whole(os.fstat(self._file).st_size)
                _grow(self._file, size)
                return mmap.mmap(self._file, SEGMENT, offset=size)
            except OSError as error:
                log.warning("what else this gateway counts nobody adds up: %s", error)
        return mmap.mmap(-1, SEGMENT)

    def _read(self, path: Path) -> Told | None:
        """What a gateway has counted; None if the file is not, or not yet, one of ours."""
        try:
            file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            size = _whole(os.fstat(file).st_size)
            if not size:
                return None
            lives = _is_locked(file)
            memory = memoryview(mmap.mmap(file, size, access=mmap.ACCESS_READ))
        finally:
            os.close(file)
        form, pid = _HEAD.unpack_from(memory)
        if form != self._form:
            return None
        numbers: dict[Name, list[float]] = {}
        for offset in range(0, size, SEGMENT):
            segment = memory[offset : offset + SEGMENT]
            doubles = segment.cast("d")
            for name, first, count, _ in _series(segment):
                numbers[name] = list(doubles[first : first + count])
        return Told(path.stem, pid, lives, numbers)


def _series(segment: memoryview) -> Iterator[tuple[Name, int, int, int]]:
    """Series of a segment: name, where its numbers begin (as numbers), how many, where it ends."""
    at = _HEAD.size
    while at + _LENGTHS.size <= SEGMENT:
        length, count = _LENGTHS.unpack_from(segment, at)
        named = at + _LENGTHS.size
        first = _up(named + length)
        end = first + count * _NUMBER
        if not length or end > SEGMENT:
            return
        try:
            name = _names.decode(segment[named : named + length])
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return  # it is being written
        yield name, first // _NUMBER, count, end
        at = end


def _up(offset: int) -> int:
    """The next offset that a number may have."""
    return -(-offset // _NUMBER) * _NUMBER


def _whole(size: int) -> int:
    """Without a segment that is not whole: who wrote it was killed."""
    return size - size % SEGMENT


def _grow(file: int, size: int) -> None:
    """Add a segment. Written out, so that no room is an error now, and not a signal later."""
    if os.pwrite(file, bytes(SEGMENT), size) < SEGMENT:
        os.ftruncate(file, size)
        raise OSError("there is no room")


def _is_locked(file: int) -> bool:
    """Whether a process has it."""
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    fcntl.flock(file, fcntl.LOCK_UN)
    return False
