"""The gateway's parcels: files that come in parts; see `storage/parcels.py`."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import Final, TypeVar

from forebay.contract.errors import InvalidInput
from forebay.contract.files import FileRecord, Terms
from forebay.contract.parcels import MOST_PART_BYTES, Parcel, Part
from forebay.gateway.access import visitor
from forebay.gateway.http import Call
from forebay.gateway.uploads import Receiving
from forebay.storage.file_records import Files
from forebay.storage.parcels import Parcels

T = TypeVar("T")

FIELD: Final = "data"
"""Of the form that a part comes in."""


class Parcelling:
    """Parcels over HTTP.

    Args:
        files: the store.
        threads: what blocks runs there.
        max_bytes: largest file that is taken.
    """

    def __init__(self, files: Files, threads: Executor, *, max_bytes: int) -> None:
        self._parcels = Parcels(files)
        self._threads = threads
        self._max_bytes = max_bytes

    async def begin(self, size: int, terms: Terms) -> Parcel:
        """A new parcel.

        Args:
            size: of its file, bytes.
            terms: what is said of that.

        Raises:
            InvalidInput: that is too large.
            Unavailable: the store is out of reach.
        """
        if size > self._max_bytes:
            raise InvalidInput(
                f"A file may have {self._max_bytes:,} bytes here, not {size:,}: send it as "
                "several, or have whoever runs this raise max_file_bytes.",
                param="bytes",
            )
        return await self._blocking(lambda: self._parcels.begin(size, terms))

    async def take(self, call: Call, parcel_id: str) -> Part:
        """Keep the part in a form.

        Args:
            call: at an endpoint that doesn't read the body.
            parcel_id: whose part it is.

        Raises:
            MalformedBody: the body is no form.
            PayloadTooLarge: the part is too large.
            NotFound: there is no such parcel.
            InvalidInput: it takes no more; the part is missing or empty, or not all there is.
            Unavailable: the store is out of reach.
            ClientGone: the client went away.
        """
        visitor.check_admin()
        async with Receiving(
            lambda: self._parcels.part(parcel_id),
            self._threads,
            field=FIELD,
            max_bytes=min(MOST_PART_BYTES, self._max_bytes),
        ) as received:
            await received.run(call)
            for name in received.fields:
                raise InvalidInput(
                    f"{name[:80]!r} is no field of this form: it takes {FIELD}.", param=name[:80]
                )
            assert received.upload is not None
            return await self._blocking(received.upload.finish)

    async def complete(
        self, parcel_id: str, part_ids: Sequence[str], *, md5: str | None
    ) -> tuple[Parcel, FileRecord]:
        """Make the file of parts; see `Parcels.complete`.

        Raises:
            NotFound: there is no such parcel.
            InvalidInput: it takes no more, or the parts are not the file that was meant.
            Unavailable: the store is out of reach.
        """
        return await self._blocking(lambda: self._parcels.complete(parcel_id, part_ids, md5=md5))

    async def cancel(self, parcel_id: str) -> Parcel:
        """Give a parcel up.

        Raises:
            NotFound: there is no such parcel.
            InvalidInput: it is completed, or its time is over.
            Unavailable: the store is out of reach.
        """
        return await self._blocking(lambda: self._parcels.cancel(parcel_id))

    async def _blocking(self, work: Callable[[], T]) -> T:
        visitor.check_admin()
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)
