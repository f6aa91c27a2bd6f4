"""The worker process: load, warm, join, work, drain.

    map artifact ▶ warm on its samples ▶ join lanes, announce presence ▶ pipeline
                                                         SIGTERM ▶ finish or release ▶ leave

A worker that is present is ready: presence is announced only once the model has answered its
samples.
"""

import asyncio
import contextlib
import logging
import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import msgspec
import uvloop
from redis.exceptions import RedisError

from forebay.contract.model import BackendName, ModelSpec
from forebay.contract.prediction import Lane
from forebay.inference.backends.base import Backend
from forebay.inference.backends.load import load
from forebay.inference.execution import Execution
from forebay.inference.executor import Executor
from forebay.inference.intake import BLOCK_MS
from forebay.inference.memory import give_back_large_blocks
from forebay.inference.pipeline import Pipeline
from forebay.inference.steps.flows import Flows
from forebay.inference.steps.model import PipelineModel
from forebay.inference.watch.telling import Telling
from forebay.inference.watch.watched import watched
from forebay.lanes.consumer import Consumer, ConsumerLimits
from forebay.lanes.endings import Endings
from forebay.lanes.keys import Keys
from forebay.lanes.producer import Producer
from forebay.lanes.running import Running
from forebay.runtime.clock import Clock
from forebay.runtime.process import EXIT_HUNG, process_name
from forebay.runtime.redis import Channel, connect, connect_blocking
from forebay.runtime.settings import Settings
from forebay.runtime.wire import Wire
from forebay.storage.artifacts import ArtifactStore
from forebay.storage.descriptions import Descriptions

log = logging.getLogger(__name__)

BEATS_A_PRESENCE = 3
"""Beats, and renewals, in the time after which a silent worker or lease lapses."""

WATCH_S = 1.0
"""How often it is looked whether a forward pass hangs."""

RELEASE_MARGIN_S = 2.0
"""Part of the drain's grace kept for letting go what could not be finished."""


class Worker:
    """One replica of one model.

    Args:
        settings: the process's settings.
        spec: the model.
        backend: loaded and warm.
        models: specs of all models, by name; a pipeline's steps are among them.
    """

    def __init__(
        self,
        settings: Settings,
        spec: ModelSpec,
        backend: Backend | PipelineModel,
        *,
        models: Mapping[str, ModelSpec] = MappingProxyType({}),
    ) -> None:
        self._settings = settings
        self._backend = backend
        self.name = process_name()
        timeout_s = settings.redis_timeout_s
        self._redis = connect(settings.redis_url, timeout_s=timeout_s)
        self._blocking = connect_blocking(settings.redis_url, timeout_s=timeout_s)
        self._wire = Wire(settings.redis_url, timeout_s=timeout_s)
        clock, keys = Clock(), Keys(settings.key_prefix).of(spec.name)
        self._running = Running(self._wire, keys, self.name)
        self._telling = Telling(backend, self._redis, keys, clock, spec.drift)
        self._timeout_s = spec.batch.timeout_s
        reads = {
            lane: Channel(self._blocking, timeout_s=BLOCK_MS / 1000 + timeout_s) for lane in Lane
        }
        settles = Channel(self._blocking, timeout_s=timeout_s)
        self._channels = (*reads.values(), settles)
        self._consumer = Consumer(
            self._redis,
            keys,
            reads=reads,
            settles=settles,
            worker=self.name,
            limits=ConsumerLimits(
                lease_ms=int(settings.lease_s * 1000),
                presence_ms=int(settings.presence_s * 1000),
                dead_letter_max=settings.dead_letter_max,
                dead_letter_max_bytes=settings.dead_letter_max_bytes,
            ),
            clock=clock,
        )
        self._flows: Flows | None = None
        limits = spec.batch
        executor: Execution
        if isinstance(backend, PipelineModel):
            executor = self._flows = Flows(
                backend,
                places=limits.max_rows,
                producer=Producer(settings, models),
                running=self._running,
                retain_ms=int(settings.unseen_retention_s * 1000),
            )
            limits = msgspec.structs.replace(limits, max_rows=1)
        else:
            executor = Executor(backend, self._running)
        self._pipeline = Pipeline(
            self._consumer,
            backend,
            limits,
            executor=executor,
            clock=clock,
            max_strikes=settings.max_strikes,
            reclaim_s=settings.presence_s / BEATS_A_PRESENCE,
        )

        self._endings = Endings(
            self._blocking, keys, ended=self._pipeline.drop, missed=self._catch_up
        )

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT, then drain."""
        loop = asyncio.get_running_loop()
        stop = asyncio.Event()
        for signum in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(signum, stop.set)
        joined = await self._join(stop)
        try:
            if joined:
                steps = contextlib.nullcontext() if self._flows is None else self._flows.running()
                async with steps:
                    await self._serve(stop)
        finally:
            for channel in self._channels:
                await channel.aclose()
            await self._redis.aclose()
            await self._blocking.aclose()
            self._wire.close()
            self._backend.close()

    async def _join(self, stop: asyncio.Event) -> bool:
        """Join the lanes, however long Redis takes to come; False if told to stop meanwhile."""
        warned = False
        while not stop.is_set():
            try:
                await self._consumer.join()
            except (RedisError, OSError) as error:
                if not warned:
                    log.warning("can't join the lanes yet: %s", error)
                    warned = True
                await asyncio.sleep(0.2)
            else:
                return True
        return False

    async def _serve(self, stop: asyncio.Event) -> None:
        upkeep = [
            asyncio.create_task(self._beat(), name="beat"),
            asyncio.create_task(self._renew(), name="renew"),
            asyncio.create_task(self._watch(), name="watch"),
            asyncio.create_task(self._endings.run(), name="endings"),
            asyncio.create_task(self._telling.run(), name="telling"),
        ]
        work = asyncio.create_task(self._pipeline.run(), name="pipeline")
        stopping = asyncio.create_task(stop.wait(), name="stop")
        try:
            await asyncio.wait({work, stopping}, return_when=asyncio.FIRST_COMPLETED)
            self._pipeline.drain()
            grace = max(self._settings.drain_s - RELEASE_MARGIN_S, 0.1)
            done, _ = await asyncio.wait({work}, timeout=grace)
            if done:
                work.result()
        finally:
            stopping.cancel()
            for task in upkeep:
                task.cancel()
            await self._leave()

    async def _leave(self) -> None:
        await self._telling.tell()
        held = self._pipeline.held
        try:
            if held:
                log.warning("letting go %d deliveries that the grace was too short for", len(held))
                await self._consumer.release(held)
            await self._consumer.leave()
        except (RedisError, OSError) as error:
            log.warning("left without a word to Redis, which lapses our leases: %s", error)

    async def _beat(self) -> None:
        while True:
            try:
                await self._consumer.beat(rate=self._pipeline.rate)
            except (RedisError, OSError) as error:
                log.debug("beat failed: %s", error)
            await asyncio.sleep(self._settings.presence_s / BEATS_A_PRESENCE)

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(self._settings.lease_s / BEATS_A_PRESENCE)
            held = self._pipeline.held
            try:
                self._pipeline.lose(await self._consumer.renew(held))
            except (RedisError, OSError) as error:
                log.warning("renewing %d leases failed: %s", len(held), error)

    async def _catch_up(self) -> None:
        """Find out which leases have ended while nobody listened."""
        self._pipeline.lose(await self._consumer.renew(self._pipeline.held))

    async def _watch(self) -> None:
        """End this process if a forward pass hangs: no thread can be stopped from outside."""
        while True:
            await asyncio.sleep(min(WATCH_S, self._timeout_s / 4))
            if self._pipeline.hung:
                break
        log.error(
            "a forward pass takes longer than %g s: this worker ends, and its rows run again, "
            "each prediction alone",
            self._timeout_s,
        )
        self._running.accuse(f"took longer than {self._timeout_s:g} s")
        os._exit(EXIT_HUNG)


def run(settings: Settings, spec: ModelSpec, models: Mapping[str, ModelSpec]) -> None:
    """Serve one model in this process until SIGTERM.

    Args:
        settings: the process's.
        spec: the model.
        models: specs of all models, by name.

    Raises:
        ArtifactError: the model's artifact is missing or damaged.
        ConfigurationError: a setting is wrong.
    """
    give_back_large_blocks()
    began = time.monotonic()
    backend: Backend | PipelineModel
    if spec.backend is BackendName.PIPELINE:
        backend = PipelineModel(spec, models, tell=Descriptions(settings.home).write)
    else:
        backend = load(spec, ArtifactStore(Path(settings.home)))
    loaded = time.monotonic()
    backend.warm()
    warm = time.monotonic()
    log.info(
        "%s %s is ready: loaded in %.0f ms, warm in %.0f ms",
        spec.name,
        backend.version,
        (loaded - began) * 1000,
        (warm - loaded) * 1000,
    )
    served = backend if isinstance(backend, PipelineModel) else watched(spec, backend)
    worker = Worker(settings, spec, served, models=models)
    uvloop.run(worker.run())
