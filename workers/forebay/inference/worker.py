"""The worker process: its connections, its replicas, its place on the roster, and how it ends.

    load, warm ▶ join lanes, announce presence ▶ work ── SIGTERM ▶ finish or release ▶ leave
    (`housing`, for each model)                    └──── a forward pass hangs ▶ accuse it, end

One process serves one model or several. The only model of a worker is loaded before anything else,
and if it can't be, the process ends and says why. Of several each is loaded when there is need and
room, and one that can't be keeps nobody from the others.
"""

import asyncio
import functools
import logging
import os
import signal
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import uvloop
from redis.exceptions import RedisError

from forebay.contract.errors import ConfigurationError
from forebay.contract.model import ModelSpec
from forebay.contract.workers import Order, WorkerCard
from forebay.inference.gate import Gate
from forebay.inference.loading import Loaded, Loader
from forebay.inference.memory import give_back_large_blocks, resident_bytes
from forebay.inference.reload import start_anew
from forebay.inference.replica import BEATS_A_PRESENCE, Replica, Surroundings
from forebay.inference.residents import Residents
from forebay.lanes.keys import Keys
from forebay.lanes.orders import BLOCK_S, Orders
from forebay.lanes.roster import Roster
from forebay.runtime.catalog import Catalog
from forebay.runtime.clock import Clock
from forebay.runtime.memory import keep_what_is_there
from forebay.runtime.process import EXIT_HUNG, process_name
from forebay.runtime.redis import Channel, connect, connect_blocking
from forebay.runtime.settings import Settings
from forebay.runtime.tracing import finish

if TYPE_CHECKING:
    from forebay.storage.file_records import Files

log = logging.getLogger(__name__)

WATCH_S = 1.0
"""How often it is looked whether a forward pass hangs."""

LAST_WORDS_S = 2.0
"""Longest that the end of a hung worker is put off for the sake of what its other models hold."""


def _files(settings: Settings) -> "Files":
    # Imported by those whom it concerns: of a model's start it would be a twentieth.
    from forebay.storage.file_records import files_of

    return files_of(settings)


class Worker:
    """One worker.

    Args:
        settings: the process's settings.
        specs: the models it may have.
        catalog: all models; a pipeline's steps are among them.
        loader: loads them.
        loaded: those that are loaded already, by name.
    """

    def __init__(
        self,
        settings: Settings,
        specs: Sequence[ModelSpec],
        catalog: Catalog,
        loader: Loader,
        *,
        loaded: Mapping[str, Loaded] | None = None,
    ) -> None:
        self._settings = settings
        self.name = process_name()
        timeout_s = settings.redis_timeout_s
        self._redis = connect(settings.redis_url, timeout_s=timeout_s)
        self._blocking = connect_blocking(settings.redis_url, timeout_s=timeout_s)
        self._clock = Clock()
        self._since_ms = self._clock.now_ms()
        self._stop = asyncio.Event()
        self._anew = asyncio.Event()
        self._told_to_end = False
        self._telling = asyncio.Lock()
        self._watch_s = min([WATCH_S, *(spec.batch.timeout_s / 4 for spec in specs)])
        keys = Keys(settings.key_prefix)
        self._residents = Residents(
            Surroundings(
                settings=settings,
                worker=self.name,
                redis=self._redis,
                blocking=self._blocking,
                catalog=catalog,
                clock=self._clock,
                gate=Gate(),
                anew=self._anew,
            ),
            specs,
            loader,
            stop=self._stop,
            loaded=loaded or {},
        )
        self._roster = Roster(self._redis, keys)
        self._line = Channel(self._blocking, timeout_s=BLOCK_S + timeout_s)
        self._orders = Orders(
            self._line,
            self._redis,
            keys,
            self.name,
            clock=self._clock,
            obey=self._obey,
        )

    @property
    def loading(self) -> bool:
        """Whether a load goes on, on a thread that nobody can stop."""
        return self._residents.loading

    @property
    def starts_anew(self) -> bool:
        """Whether it has drained for a fresh image of itself to take its place."""
        return self._anew.is_set() and not self._told_to_end

    async def run(self) -> None:
        """Serve until SIGTERM, SIGINT or a reload that is due, then drain."""
        loop = asyncio.get_running_loop()
        for signum in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(signum, self._end)
        upkeep = [
            asyncio.create_task(self._end_for_reload(), name="reload"),
            asyncio.create_task(self._watch(), name="watch"),
            asyncio.create_task(self._tell(), name="roster"),
            asyncio.create_task(self._orders.run(), name="orders"),
        ]
        try:
            await self._residents.run()
        finally:
            for task in upkeep:
                task.cancel()
            await asyncio.gather(*upkeep, return_exceptions=True)
            await self._sign_off()
            await self._line.aclose()
            await self._redis.aclose()
            await self._blocking.aclose()

    def _end(self) -> None:
        self._told_to_end = True
        self._stop.set()

    async def _end_for_reload(self) -> None:
        await self._anew.wait()
        self._stop.set()

    async def _tell(self) -> None:
        """Keep this worker's card on the roster."""
        while True:
            await self._enter()
            await self._residents.moved(within_s=self._settings.presence_s / BEATS_A_PRESENCE)

    async def _enter(self) -> None:
        async with self._telling:  # or an older card might come after a newer one
            card = WorkerCard(
                self.name,
                since_ms=self._since_ms,
                rss_bytes=resident_bytes(),
                memory_bytes=self._settings.worker_memory_mb * 1_000_000,
                models=self._residents.cards,
            )
            try:
                await self._roster.enter(card, presence_ms=int(self._settings.presence_s * 1000))
            except (RedisError, OSError) as error:
                log.debug("telling of this worker failed: %s", error)

    async def _obey(self, order: Order) -> None:
        """Carry out an order; who gave it finds on the roster what came of it."""
        await self._residents.obey(order)
        await self._enter()

    async def _sign_off(self) -> None:
        try:
            await self._roster.leave(self.name)
        except (RedisError, OSError) as error:
            log.debug("this worker's card lapses by itself: %s", error)

    async def _watch(self) -> None:
        """End this process if a forward pass hangs: no thread can be stopped from outside."""
        while True:
            await asyncio.sleep(self._watch_s)
            if any(replica.hung for replica in self._residents.replicas):
                break
        hung = {replica: replica.hung for replica in self._residents.replicas}
        for replica, slots in hung.items():
            replica.accuse(slots)
        # What hangs is taken over by a peer at once, with a strike: it sees that we are gone. What
        # other models hold goes back without one.
        others = [replica for replica, slots in hung.items() if not slots]
        await asyncio.wait([asyncio.ensure_future(_leave(others))], timeout=LAST_WORDS_S)
        os._exit(EXIT_HUNG)


async def _leave(replicas: Sequence[Replica]) -> None:
    await asyncio.gather(*(replica.leave() for replica in replicas), return_exceptions=True)


def run(
    settings: Settings,
    specs: Sequence[ModelSpec],
    catalog: Catalog,
    loader: Loader | None = None,
) -> None:
    """Serve models in this process until SIGTERM.

    Args:
        settings: the process's settings.
        specs: one model or several, the most important first.
        catalog: all models; a pipeline's steps are among them.
        loader: loads them; by default one of the settings' home.

    Raises:
        ArtifactError: the only model's artifact is missing or damaged.
        ConfigurationError: a setting is wrong; or the only model takes more memory than it may.
    """
    give_back_large_blocks()
    loader = loader or Loader(
        settings.home, catalog, files=functools.cache(functools.partial(_files, settings))
    )
    loaded: dict[str, Loaded] = {}
    if len(specs) == 1:
        loader.import_libraries(specs)
        keep_what_is_there()
        (spec,) = specs
        loaded[spec.name] = loader.load(spec)
        slots = loader.reserve(spec)
        taken = resident_bytes() + (0 if slots is None else slots.bytes)
        most = settings.worker_memory_mb * 1_000_000
        if most and taken > most:
            raise ConfigurationError(
                f"A worker with {spec.name} takes {taken / 1e6:,.0f} MB, and it may take "
                f"{most / 1e6:,.0f} MB: raise --memory-mb (FOREBAY_WORKER_MEMORY_MB)."
                + (f" {slots}" if slots is not None else "")
            )
    worker = Worker(settings, specs, catalog, loader, loaded=loaded)
    uvloop.run(worker.run())
    if worker.starts_anew:
        finish()
        start_anew()
    if worker.loading:
        # The thread that loads would outlive the interpreter it runs in.
        finish()
        logging.shutdown()
        os._exit(0)
