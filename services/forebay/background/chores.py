"""What background tasks do: time's work on the lanes and files, in bounded bites."""

import logging
from collections.abc import Awaitable, Callable

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from forebay.background.comparison import Comparison
from forebay.background.loop import LoopThread
from forebay.lanes.keys import Keys, LaneKeys
from forebay.lanes.sweeps import (
    drop_old_dead_letters,
    expire_overdue,
    lapse_orphans,
    models_to_sweep,
    unlist_gone,
)
from forebay.records.deliveries import Deliveries
from forebay.runtime.catalog import Catalog
from forebay.runtime.redis import Commands, connect
from forebay.runtime.settings import Settings
from forebay.storage.file_records import files_of
from forebay.storage.parcels import Parcels

log = logging.getLogger(__name__)

MOST_A_SWEEP = 10_000
"""Predictions of one model ended in one sweep; the rest is for the next."""


MOST_COMPARED = 1_000
"""Copies of one shadow that are compared in one go; the rest is for the next."""


class Chores:
    """The chores of one process. Methods block, and may be called from any thread.

    Args:
        settings: periods and retentions.
        catalog: the models whose lanes are looked after. Those of earlier catalogs are looked
            after as well.
    """

    def __init__(self, settings: Settings, catalog: Catalog) -> None:
        self._settings = settings
        self._models = tuple(catalog.served)
        self._shadows = tuple(
            catalog.version(spec, version).name
            for spec in catalog.models.values()
            for version, told in spec.versions.items()
            if told.shadow
        )
        self._keys = Keys(settings.key_prefix)
        self._loop = LoopThread()
        self._redis: Redis | None = None
        self._files = files_of(settings)

    def expire_overdue(self) -> int:
        """End predictions whose deadline has passed; how many."""

        async def sweep(redis: Commands, keys: LaneKeys) -> int:
            return await expire_overdue(redis, keys, most=MOST_A_SWEEP)

        return self._each(sweep, "expired %d overdue predictions of %s")

    def lapse_orphans(self) -> int:
        """Let go what vanished workers held; how many leases."""
        grace_ms = int(self._settings.presence_s * 1000)

        async def sweep(redis: Commands, keys: LaneKeys) -> int:
            lapsed, _ = await lapse_orphans(redis, keys, grace_ms=grace_ms)
            return lapsed

        return self._each(sweep, "let go %d leases of vanished workers of %s")

    def drop_dead_letters(self) -> int:
        """Drop dead letters past their retention; how many."""
        older_than_ms = int(self._settings.dead_letter_retention_s * 1000)

        async def sweep(redis: Commands, keys: LaneKeys) -> int:
            return await drop_old_dead_letters(redis, keys, older_than_ms=older_than_ms)

        return self._each(sweep, "dropped %d old dead letters of %s")

    def unlist_predictions(self) -> int:
        """Take off the list what is no longer kept; how many predictions."""
        return self._each(unlist_gone, "took %d predictions of %s off the list")

    def compare_copies(self) -> int:
        """Compare what shadows answered with what clients got; how many copies."""
        if not self._shadows:
            return 0
        late_ms = int(self._settings.unseen_retention_s * 1000)

        async def each() -> int:
            done = 0
            for shadow in self._shadows:
                comparison = Comparison(self._client(), self._keys, shadow, late_ms=late_ms)
                done += await comparison.run(most=MOST_COMPARED)
            return done

        return self._loop.run(each())

    def drop_deliveries(self) -> int:
        """Drop webhooks that are over and past their retention; how many."""
        settings = self._settings

        async def tidy() -> int:
            return await Deliveries(self._client(), self._keys).tidy(
                older_than_ms=int(settings.webhook_retention_s * 1000), most=settings.webhook_max
            )

        dropped = self._loop.run(tidy())
        if dropped:
            log.info("dropped %d old webhooks", dropped)
        return dropped

    def expire_files(self) -> int:
        """Delete files past their retention; how many."""
        removed = self._files.expire()
        Parcels(self._files).expire()
        if removed:
            log.info("deleted %d old files", removed)
        return removed

    def close(self) -> None:
        """Close the connection and end the loop's thread."""
        if self._redis is not None:
            self._loop.run(self._redis.aclose())
            self._redis = None
        self._loop.close()

    def _client(self) -> Redis:
        if self._redis is None:
            timeout_s = self._settings.redis_timeout_s
            self._redis = connect(self._settings.redis_url, timeout_s=timeout_s)
        return self._redis

    def _each(self, sweep: Callable[[Commands, LaneKeys], Awaitable[int]], done: str) -> int:
        return self._loop.run(self._each_model(sweep, done))

    async def _each_model(
        self, sweep: Callable[[Commands, LaneKeys], Awaitable[int]], done: str
    ) -> int:
        redis = self._client()
        total = 0
        for model in await models_to_sweep(redis, self._keys, self._models):
            try:
                count = await sweep(redis, self._keys.of(model))
            except ResponseError as error:
                # The server is there: what it refuses for one model it may do for the next.
                log.warning("redis refuses a sweep of %s: %s", model, error)
                continue
            if count:
                log.info(done, count, model)
            total += count
        return total
