"""Files that come in parts, in any order and by several connections: parcels.

    begin ─▶ part, part, … ─▶ complete   the parts that are named, in that order, are the file
                           └▶ cancel     nothing is kept

A parcel's record lies in the file store, `parcels/<id>`, and its parts are segments of the file
that it will be; so any gateway takes any part. Where one completes it and another cancels it at the
same instant, the file that is there decides. Calls block; async callers use a thread.
"""

import hashlib
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

import msgspec

from forebay.contract.errors import InvalidInput, NotFound
from forebay.contract.files import FileRecord, Terms
from forebay.contract.parcels import (
    LIFE_S,
    PARCEL_ID,
    PART_ID,
    Parcel,
    ParcelStatus,
    Part,
)
from forebay.storage.file_records import Files
from forebay.storage.files import Writing
from forebay.storage.segments import Segments

MOST_KEPT: Final = 2
"""Beyond so many times its size a parcel takes no part: one whose answer was lost is sent again."""

GRACE_S: Final = 600.0
"""A parcel that is being completed as its time ends may still need its parts."""

_INDEX_BITS: Final = 64

_decoder = msgspec.json.Decoder(Parcel)


class Parcels:
    """The parcels of one store.

    Args:
        files: where their parts lie, and the files that they become.
        now: the clock, Unix time in seconds.
    """

    def __init__(self, files: Files, *, now: Callable[[], float] = time.time) -> None:
        self._files = files
        self._now = now

    def begin(self, size: int, terms: Terms) -> Parcel:
        """A new parcel.

        Args:
            size: of its file, bytes.
            terms: what is said of that.

        Raises:
            Unavailable: the store is out of reach.
        """
        digits = self._files.new_id().removeprefix("file-")
        parcel = Parcel(f"upload_{digits}", size, terms, self._now())
        self._keep(parcel)
        return parcel

    def get(self, parcel_id: str) -> Parcel:
        """A parcel.

        Raises:
            NotFound: there is none, or no longer.
            Unavailable: the store is out of reach.
        """
        content = None
        if PARCEL_ID.fullmatch(parcel_id):
            content = self._files.parcels.read([parcel_id]).get(parcel_id)
        if content is None:
            raise NotFound(
                f"There is no upload {parcel_id[:80]!r}, or no longer: one lives for "
                f"{LIFE_S:,.0f} seconds.",
                param="upload_id",
            )
        parcel = _decoder.decode(content)
        if parcel.status is ParcelStatus.PENDING and self._now() >= parcel.expires_at:
            return msgspec.structs.replace(parcel, status=ParcelStatus.EXPIRED)
        return parcel

    def part(self, parcel_id: str) -> "Parting":
        """Begin to write a part.

        Raises:
            NotFound: there is no such parcel.
            InvalidInput: it takes no more.
            Unavailable: the store is out of reach.
        """
        parcel = self._pending(parcel_id)
        segments = Segments(self._files, parcel.file_id)
        kept = sum(segments.sizes().values())
        if kept >= MOST_KEPT * parcel.bytes:
            raise InvalidInput(
                f"The parts of this upload have {kept:,} bytes already, and its file is to have "
                f"{parcel.bytes:,}: complete it, or cancel it and begin anew.",
                param="data",
            )
        index = secrets.randbits(_INDEX_BITS)
        part = Part(f"part_{index:016x}", parcel_id, self._now())
        return Parting(part, segments.begin(index))

    def complete(
        self, parcel_id: str, part_ids: Sequence[str], *, md5: str | None = None
    ) -> tuple[Parcel, FileRecord]:
        """Make the file of parts, in the order in which they are named. Safe to repeat.

        Args:
            parcel_id: whose parts they are.
            part_ids: their ids.
            md5: what the file's digest must be, in hexadecimal.

        Raises:
            NotFound: there is no such parcel.
            InvalidInput: it takes no more; a part isn't there; or the parts are not the file that
                was meant. The parcel stays as it is.
            Unavailable: the store is out of reach, or full.
        """
        parcel = self.get(parcel_id)
        segments = Segments(self._files, parcel.file_id)
        try:
            # Whoever asks again may not have heard that it is done.
            file = self._files.get(parcel.file_id)
        except NotFound:
            parcel = self._pending(parcel_id)
            indices = _indices(part_ids, segments.sizes(), size=parcel.bytes)
            chunks = _checked(segments.chunks(indices), md5)
            try:
                file = self._files.put(chunks, parcel.terms, file_id=parcel.file_id)
            except NotFound:  # its parts went: another has completed or cancelled it meanwhile
                parcel = self.get(parcel_id)
                if parcel.status is not ParcelStatus.COMPLETED:
                    raise _over(parcel.status) from None
                file = self._files.get(parcel.file_id)
        parcel = msgspec.structs.replace(parcel, status=ParcelStatus.COMPLETED)
        self._keep(parcel)
        segments.discard()
        return parcel, file

    def cancel(self, parcel_id: str) -> Parcel:
        """Give a parcel up, and delete its parts. Safe to repeat.

        Raises:
            NotFound: there is no such parcel.
            InvalidInput: it is completed, or its time is over.
            Unavailable: the store is out of reach.
        """
        parcel = self.get(parcel_id)
        if parcel.status is not ParcelStatus.CANCELLED:
            parcel = msgspec.structs.replace(
                self._pending(parcel_id), status=ParcelStatus.CANCELLED
            )
            self._keep(parcel)
        Segments(self._files, parcel.file_id).discard()
        return parcel

    def expire(self) -> int:
        """Delete parcels whose time is over, and their parts; how many.

        Raises:
            Unavailable: the store is out of reach.
        """
        gone = list(self._files.parcels.older_than(LIFE_S + GRACE_S))
        for one in gone:
            match = PARCEL_ID.fullmatch(one.name)
            if match is not None:
                Segments(self._files, f"file-{match[1]}").discard()
            self._files.parcels.delete(one.name)
        self._files.parcels.sweep(LIFE_S + GRACE_S)
        return len(gone)

    def _pending(self, parcel_id: str) -> Parcel:
        parcel = self.get(parcel_id)
        if parcel.status is not ParcelStatus.PENDING:
            raise _over(parcel.status)
        return parcel

    def _keep(self, parcel: Parcel) -> None:
        self._files.parcels.put(parcel.id, [msgspec.json.encode(parcel)])


class Parting:
    """A part that is being written: there once it is finished, and only then.

    Args:
        part: what it will be.
        writing: its content.
    """

    def __init__(self, part: Part, writing: Writing) -> None:
        self._part = part
        self._writing = writing

    @property
    def size(self) -> int:
        """Bytes that were written."""
        return self._writing.size

    def write(self, chunk: bytes) -> None:
        """Append some bytes.

        Raises:
            Unavailable: the store is out of reach, or full.
        """
        self._writing.write(chunk)

    def finish(self) -> Part:
        """Have it there.

        Raises:
            Unavailable: the store is out of reach, or full.
        """
        self._writing.finish()
        return self._part

    def abandon(self) -> None:
        """Keep nothing of it, unless it is finished."""
        self._writing.abandon()


def _indices(part_ids: Sequence[str], sizes: dict[int, int], *, size: int) -> list[int]:
    """The segments that parts are, if they make up a file of that size."""
    indices: list[int] = []
    for at, part_id in enumerate(part_ids):
        match = PART_ID.fullmatch(part_id)
        index = int(match[1], 16) if match else None
        if index not in sizes:
            raise InvalidInput(
                f"There is no part {part_id[:80]!r} of this upload.", param=f"part_ids[{at}]"
            )
        indices.append(index)
    sent = sum(sizes[index] for index in indices)
    if sent != size:
        raise InvalidInput(
            f"These parts have {sent:,} bytes together, and the upload is of {size:,}: name all "
            "parts, each once, or begin anew with the right size.",
            param="part_ids",
        )
    return indices


def _checked(chunks: Iterable[bytes], md5: str | None) -> Iterator[bytes]:
    """Chunks as they are; raises at their end if they are not what was meant."""
    digest = hashlib.md5(usedforsecurity=False)
    for chunk in chunks:
        digest.update(chunk)
        yield chunk
    if md5 is not None and digest.hexdigest() != md5.lower():
        raise InvalidInput(
            f"The parts have the MD5 {digest.hexdigest()}, not {md5[:40]!r}: some were changed on "
            "their way, or are named in the wrong order.",
            param="md5",
        )


def _over(status: ParcelStatus) -> InvalidInput:
    return InvalidInput(
        f"This upload is {status.value}, and takes no more: begin another.", param="upload_id"
    )
