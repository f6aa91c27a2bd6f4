"""Takes batches that nobody holds, and works on them side by side."""

import asyncio
import logging
from typing import Final

from redis.exceptions import RedisError

from forebay.background.batches.window import Window
from forebay.background.batches.work import Ended, Work
from forebay.contract.asking import Asking
from forebay.contract.batches import Batch
from forebay.lanes.keys import Keys
from forebay.records.batch_leases import Held, free, take
from forebay.records.batches import Batches
from forebay.records.outbox import BatchEnd, batch_ended
from forebay.runtime.process import is_gone, process_name
from forebay.runtime.redis import connect
from forebay.runtime.settings import Settings
from forebay.storage.file_records import files_of

log = logging.getLogger(__name__)

LOOK_S: Final = 0.5
"""How often it is looked for batches that nobody holds."""

MOST_AT_ONCE: Final = 32
"""Batches that a process works on; others are left to other processes, or wait."""


class BatchService:
    """Runs batches; a `Service` of the intake.

    Args:
        settings: where Redis and files are, among others.
        ended: told of each batch that has ended, at least once; if nothing is said, the outbox.
    """

    name = "batches"

    def __init__(self, settings: Settings, *, ended: Ended | None = None) -> None:
        self._settings = settings
        self._files = files_of(settings)
        self._ended = ended
        self._who = process_name()

    async def run(self, asking: Asking) -> None:
        """Work on batches until cancelled."""
        settings = self._settings
        redis = connect(settings.redis_url, timeout_s=settings.redis_timeout_s)
        keys = Keys(settings.key_prefix)
        batches = Batches(redis, keys, retention_s=settings.file_retention_s)
        window = Window()

        async def to_outbox(batch: Batch) -> None:
            await batch_ended(redis, keys, batch.id, BatchEnd(f"batch.{batch.status.value}"))

        running: set[asyncio.Task[None]] = set()
        try:
            async with asyncio.TaskGroup() as group:
                while True:
                    for held in await self._taken(batches, MOST_AT_ONCE - len(running)):
                        work = Work(
                            held,
                            self._files,
                            asking,
                            window,
                            max_body_bytes=settings.max_body_bytes,
                            ended=self._ended or to_outbox,
                        )
                        task = group.create_task(work.run(), name=held.id)
                        running.add(task)
                        task.add_done_callback(running.discard)
                    await asyncio.sleep(LOOK_S)
        finally:
            await redis.aclose()

    async def _taken(self, batches: Batches, most: int) -> list[Held]:
        try:
            # One of a process that was killed on this machine needn't wait for its lease.
            await free(batches, is_gone)
            return await take(batches, lease_s=self._settings.lease_s, most=most, who=self._who)
        except (RedisError, OSError) as error:
            log.debug("batches can't be taken: %s", error)
            return []
