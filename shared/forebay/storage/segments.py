"""A file that is made piece by piece by whoever may be killed: segments, joined at the end.

Each segment is there whole or not at all, and to put it again replaces it; so whoever goes on after
a kill asks which are there, and makes the others. To join again what has been joined changes
nothing. Calls block; async callers use a thread.
"""

from collections.abc import Iterable, Iterator, Sequence

from forebay.contract.errors import NotFound
from forebay.contract.files import FileRecord, Terms
from forebay.storage.file_records import Files
from forebay.storage.files import Writing

_CHUNK = 1 << 20
_DIGITS = 10


class Segments:
    """The segments of one file.

    Args:
        files: where the file will be.
        file_id: its id, chosen by `Files.new_id` and kept by the caller.
    """

    def __init__(self, files: Files, file_id: str) -> None:
        self._files = files
        self._id = file_id

    def begin(self, index: int) -> Writing:
        """Begin to write a segment; see `put`.

        Raises:
            Unavailable: the store is out of reach.
        """
        return self._files.segments.begin(self._name(index))

    def put(self, index: int, chunks: Iterable[bytes]) -> int:
        """Write a segment, or write it again; its size in bytes.

        Args:
            index: its place in the file, from 0; there may be gaps.
            chunks: its content.

        Raises:
            Unavailable: the store is out of reach, or full.
        """
        return self._files.segments.put(self._name(index), chunks)

    def indices(self) -> list[int]:
        """Those that are there, in order.

        Raises:
            Unavailable: the store is out of reach.
        """
        return list(self.sizes())

    def sizes(self) -> dict[int, int]:
        """Sizes in bytes of those that are there, by index, in order.

        Raises:
            Unavailable: the store is out of reach.
        """
        mine = f"{self._id}."
        found = self._files.segments.sizes()
        return {
            int(name[len(mine) :]): size for name, size in found.items() if name.startswith(mine)
        }

    def join(self, terms: Terms, *, indices: Sequence[int] | None = None) -> FileRecord | None:
        """Make the file of the segments, and delete them.

        Args:
            terms: of the file.
            indices: those that count, in their order; all, if nothing is said.

        Returns:
            What is known of the file; None if there are no segments, and no file.

        Raises:
            Unavailable: the store is out of reach, or full.
        """
        try:
            made = self._files.get(self._id)
        except NotFound:
            indices = self.indices() if indices is None else indices
            if not indices:
                self.discard()
                return None
            made = self._files.put(self.chunks(indices), terms, file_id=self._id)
        self.discard()
        return made

    def discard(self) -> None:
        """Delete the segments.

        Raises:
            Unavailable: the store is out of reach.
        """
        for index in self.indices():
            self._files.segments.delete(self._name(index))

    def chunks(self, indices: Iterable[int]) -> Iterator[bytes]:
        """What is in segments, one after the other.

        Raises:
            NotFound: one is not there.
            Unavailable: the store is out of reach.
        """
        for index in indices:
            with self._files.segments.open(self._name(index)) as segment:
                while chunk := segment.read(_CHUNK):
                    yield chunk

    def _name(self, index: int) -> str:
        return f"{self._id}.{index:0{_DIGITS}d}"
