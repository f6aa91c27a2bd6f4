"""One batch, from being taken to its end, or to being lost to another process."""

import asyncio
import itertools
import logging
from collections.abc import Awaitable, Callable
from typing import IO, Final

import msgspec
from redis.exceptions import RedisError

from forebay.background.batches.check import check
from forebay.background.batches.ending import make_files
from forebay.background.batches.halt import Halt
from forebay.background.batches.results import Results
from forebay.background.batches.run import Run
from forebay.background.batches.window import Window
from forebay.contract.asking import Asking
from forebay.contract.batches import Batch, BatchStatus, Fault
from forebay.contract.errors import NotFound, Unavailable
from forebay.records.batch_leases import FileIds, Held, LeaseLost, fields_of
from forebay.storage.file_records import Files
from forebay.storage.segments import Segments

log = logging.getLogger(__name__)

LOOK_S: Final = 1.0
"""How often the lease is renewed, and it is looked whether to stop."""

AGAIN_S: Final = 1.0
"""Pause before what is out of reach is tried again."""

MOST_BROKEN: Final = 3
"""After finding itself at fault so often, a batch has failed."""

INTERNAL: Final = (
    "Something went wrong here, not in your file. Tell whoever runs this: the log has it."
)

Ended = Callable[[Batch], Awaitable[None]]
"""Told of a batch that has ended; it may be told twice."""


class Plan(msgspec.Struct, frozen=True):
    """What is to be done of a batch whose file is as it should be.

    Attributes:
        total: requests.
        files: that are to be made.
    """

    total: int
    files: FileIds


class Work:
    """Works on one batch.

    Args:
        held: the batch.
        files: where its files are.
        asking: answers requests.
        window: how many of them may be in flight.
        max_body_bytes: the largest that is taken.
        ended: told when it has ended.
    """

    def __init__(
        self,
        held: Held,
        files: Files,
        asking: Asking,
        window: Window,
        *,
        max_body_bytes: int,
        ended: Ended,
    ) -> None:
        self._held = held
        self._files = files
        self._asking = asking
        self._window = window
        self._max_body_bytes = max_body_bytes
        self._ended = ended
        self._moved = asyncio.Event()
        self._halt = Halt(self._moved)

    async def run(self) -> None:
        """Work until the batch has ended, or another holds it; never raises but to be cancelled."""
        try:
            await self._watched()
        except* LeaseLost:
            log.info("%s is held by another now", self._held.id)
        except* (Unavailable, RedisError, OSError) as errors:
            log.warning("%s waits: %s", self._held.id, _first(errors))
        except* Exception:
            log.exception("work on %s has failed", self._held.id)
            await self._broken()
        # Where it was not given back, its lease is over soon.

    async def _watched(self) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                watch = group.create_task(self._watch(), name=f"watch {self._held.id}")
                await self._advance()
                watch.cancel()
        except asyncio.CancelledError:
            await asyncio.shield(self._release())
            raise

    async def _release(self) -> None:
        try:
            await self._held.release()
        except (RedisError, OSError) as error:
            log.debug("%s can't be given back: %s", self._held.id, error)

    async def _watch(self) -> None:
        """Renew the lease, and see when to stop."""
        expires_at = (await self._held.read()).expires_at
        while True:
            try:
                status, now = await self._held.renew()
                if status is BatchStatus.CANCELLING:
                    self._halt.tell(BatchStatus.CANCELLING)
                elif now >= expires_at:
                    self._halt.tell(BatchStatus.EXPIRED)
            except (RedisError, OSError) as error:
                log.debug("the lease of %s can't be renewed: %s", self._held.id, error)
            await asyncio.sleep(LOOK_S)

    async def _advance(self) -> None:
        """Bring the batch to its end, from wherever it is."""
        batch = await self._held.read()
        status = batch.status
        if status in (BatchStatus.VALIDATING, BatchStatus.IN_PROGRESS):
            try:
                file = await asyncio.to_thread(self._files.open, batch.request.input_file_id)
            except NotFound as error:
                await self._fail((Fault("file_not_found", error.message),))
                return
            try:
                plan = await self._plan(batch, file)
                if isinstance(plan, Plan):
                    await self._run(batch, file, plan)
                elif plan:
                    await self._fail(plan)
                    return
            finally:
                file.close()
            status = (await self._held.read()).status
        if status in (BatchStatus.CANCELLING, BatchStatus.FINALIZING):
            await self._finish(batch)
        elif status.terminal:
            await self._tell()

    async def _plan(self, batch: Batch, file: IO[bytes]) -> Plan | tuple[Fault, ...]:
        """What is to be done; or what is wrong with the file, nothing if that was cut short."""
        if batch.status is BatchStatus.IN_PROGRESS:
            ids = await self._held.files()
            assert ids is not None
            return Plan(batch.counts.total, ids)
        size = (await asyncio.to_thread(self._files.get, batch.request.input_file_id)).bytes
        checked = await asyncio.to_thread(
            check,
            file,
            size=size,
            endpoint=batch.request.endpoint,
            max_body_bytes=self._max_body_bytes,
            halted=lambda: self._halt.why is BatchStatus.CANCELLING,
        )
        if checked is None or checked.faults:
            return () if checked is None else checked.faults
        plan = Plan(checked.total, FileIds(self._files.new_id(), self._files.new_id()))
        fields = fields_of(total=plan.total, files=plan.files)
        status = await self._held.turn(BatchStatus.IN_PROGRESS, fields)
        return plan if status is BatchStatus.IN_PROGRESS else ()

    async def _run(self, batch: Batch, file: IO[bytes], plan: Plan) -> None:
        out = Segments(self._files, plan.files.out)
        err = Segments(self._files, plan.files.err)
        numbers = itertools.count()
        # A server that was restarted may have forgotten what it was told last: ask it what is done.
        while (progress := await self._held.progress()).lines < plan.total:
            await Run(
                batch,
                file,
                progress=progress,
                asking=self._asking,
                window=self._window,
                results=Results(self._held, out, err, self._moved, numbers),
                halt=self._halt,
                moved=self._moved,
                max_body_bytes=self._max_body_bytes,
            ).run()
            if self._halt.why is BatchStatus.CANCELLING:
                break
        expired = self._halt.why is BatchStatus.EXPIRED
        fields = fields_of(total=plan.total, files=plan.files, expired=expired)
        await self._held.turn(BatchStatus.FINALIZING, fields)

    async def _finish(self, batch: Batch) -> None:
        ids, end = await self._held.ending()
        made = (False, False)
        if ids is not None:
            progress = await self._held.progress()
            made = await asyncio.to_thread(make_files, self._files, batch, ids, progress)
        await self._held.turn(end, fields_of(made=made))
        await self._tell()

    async def _fail(self, faults: tuple[Fault, ...]) -> None:
        await self._held.turn(BatchStatus.FAILED, fields_of(faults=faults))
        await self._tell()

    async def _tell(self) -> None:
        """Let go of a batch that has ended, once who wants to know has been told."""
        batch = await self._held.read()
        counts = batch.counts
        log.info(
            "%s is %s: %d lines answered, %d failed, of %d",
            *(batch.id, batch.status.value, counts.completed, counts.failed, counts.total),
        )
        await self._ended(batch)
        await asyncio.to_thread(self._files.release, batch.request.input_file_id, by=batch.id)
        await self._held.close()

    async def _broken(self) -> None:
        """Count that something here is at fault; too often is the batch's end."""
        try:
            if await self._held.broken() >= MOST_BROKEN:
                await self._fail((Fault("internal_error", INTERNAL),))
        except (LeaseLost, Unavailable, RedisError, OSError) as error:
            log.warning("%s can't be given up: %s", self._held.id, error)


def _first(errors: BaseExceptionGroup) -> BaseException:
    """The first of several errors, and of those that it is made of."""
    error: BaseException = errors
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
