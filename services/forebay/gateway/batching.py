"""Batches of requests in files, as a gateway makes and tells of them.

Background processes run them: this checks what can be seen at once, and has the file stay.
"""

import asyncio
import contextlib

from forebay.contract.batches import Batch, BatchRequest
from forebay.contract.errors import InvalidInput, NotFound, Unavailable
from forebay.contract.files import Purpose
from forebay.gateway.access import visitor
from forebay.gateway.reads import Reads
from forebay.records.batches import Batches, Page, new_id
from forebay.storage.file_records import Files


class Batching:
    """Makes batches, tells of them and has them cancelled.

    Nothing tells whose they are, so where API keys are asked for, an admin's.

    Args:
        batches: all there are.
        files: where their files are.
        reads: how to ask Redis outside the hot path.
    """

    def __init__(self, batches: Batches, files: Files, reads: Reads) -> None:
        self._batches = batches
        self._files = files
        self._reads = reads

    async def create(self, request: BatchRequest) -> Batch:
        """Have a batch run.

        Raises:
            InvalidInput: the endpoint, the window or the file won't do.
            NotFound: there is no such file.
            Unavailable: Redis or the file store is out of reach.
        """
        visitor.check_admin()
        request.check()
        id_ = new_id()
        await self._hold(id_, request.input_file_id)
        return await self._reads.run(lambda: self._batches.add(id_, request))

    async def get(self, id_: str) -> Batch:
        """A batch.

        Raises:
            NotFound: there is none of that id, or no longer.
            Unavailable: Redis is out of reach.
        """
        visitor.check_admin()
        return await self._reads.run(lambda: self._batches.get(id_))

    async def page(self, *, limit: int, after: str | None) -> Page:
        """Batches, the newest first; see `Batches.page`.

        Raises:
            Unavailable: Redis is out of reach.
        """
        visitor.check_admin()
        return await self._reads.run(lambda: self._batches.page(limit=limit, after=after))

    async def cancel(self, id_: str) -> Batch:
        """Have a batch cancelled.

        Raises:
            NotFound: there is none of that id, or no longer.
            InvalidInput: it is past that.
            Unavailable: Redis is out of reach.
        """
        visitor.check_admin()
        before = await self._reads.run(lambda: self._batches.cancel(id_))
        if not before.cancellable:
            raise InvalidInput(
                f"A batch that is {before.value} can't be cancelled any more.", param="batch_id"
            )
        return await self.get(id_)

    async def _hold(self, id_: str, file_id: str) -> None:
        """Have a batch's file stay, until whoever runs it lets it go."""
        try:
            record = await asyncio.to_thread(self._files.hold, file_id, by=id_)
        except NotFound as error:
            raise NotFound(error.message, param="input_file_id") from None
        if record.purpose is not Purpose.BATCH:
            with contextlib.suppress(Unavailable):
                await asyncio.to_thread(self._files.release, file_id, by=id_)
            raise InvalidInput(
                f"{file_id!r} is a file of purpose {record.purpose.value!r}: upload the requests "
                f"with the purpose {Purpose.BATCH.value!r}.",
                param="input_file_id",
            )
