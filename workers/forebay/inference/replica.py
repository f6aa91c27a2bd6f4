"""A replica: one model, loaded and warm, working on its lanes.

    join lanes, announce presence ▶ stages ▶ drain: finish or release ▶ leave

A replica that is present is ready: presence is announced only once the model has answered its
samples.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence

import msgspec
from redis.asyncio import Redis
from redis.exceptions import RedisError

from forebay.contract.model import ModelSpec
from forebay.contract.prediction import Lane
from forebay.contract.rows import Task
from forebay.inference.assembly import RowRef
from forebay.inference.backends.base import Backend, Model
from forebay.inference.backends.load import brief, interruptible
from forebay.inference.execution import Execution, Run
from forebay.inference.executor import Executor
from forebay.inference.gate import Gate
from forebay.inference.generation.flow import Generation
from forebay.inference.generation.protocol import Generator
from forebay.inference.generation.speaker import Speaker
from forebay.inference.intake import BLOCK_MS
from forebay.inference.log_sender import LogSender
from forebay.inference.reload import Reload
from forebay.inference.stages import Stages
from forebay.inference.steps.flows import Flows
from forebay.inference.steps.model import PipelineModel
from forebay.inference.watch.telling import Telling
from forebay.inference.watch.watched import watched
from forebay.lanes.consumer import Consumer, ConsumerLimits
from forebay.lanes.endings import Endings
from forebay.lanes.keys import Keys
from forebay.lanes.producer import Producer
from forebay.lanes.reloads import Reloads
from forebay.lanes.running import Running
from forebay.runtime.catalog import Catalog
from forebay.runtime.clock import Clock
from forebay.runtime.redis import Channel
from forebay.runtime.settings import Settings
from forebay.runtime.wire import Wire

log = logging.getLogger(__name__)

BEATS_A_PRESENCE = 3
"""Beats, and renewals, in the time after which a silent worker or lease lapses."""


class Surroundings(msgspec.Struct, frozen=True):
    """What the replicas of a process share.

    Attributes:
        settings: the process's.
        worker: its name.
        redis: for upkeep; commands of all replicas take turns on its connections.
        blocking: connections for reading, settling and listening; each replica takes its own.
        catalog: all models, also those of other workers.
        clock: the server's.
        gate: which batches may run beside one another.
        anew: set when the process is to drain and start anew.
    """

    settings: Settings
    worker: str
    redis: Redis
    blocking: Redis
    catalog: Catalog
    clock: Clock
    gate: Gate
    anew: asyncio.Event


class Replica:
    """One replica of one model.

    Args:
        around: what it shares with others.
        spec: the model.
        backend: loaded and warm, or what generates its texts.
        is_only: whether the process has no other model, whom a row on the event loop would hold up.
    """

    def __init__(
        self,
        around: Surroundings,
        spec: ModelSpec,
        backend: Backend | PipelineModel | Generator,
        *,
        is_only: bool,
    ) -> None:
        settings = around.settings
        self.backend = backend
        self._settings = settings
        self._spec = spec
        timeout_s = settings.redis_timeout_s
        keys = Keys(settings.key_prefix).of(spec.name)
        self._wire = Wire(settings.redis_url, timeout_s=timeout_s)
        self._running = Running(self._wire, keys, around.worker)
        self._flows: Flows | None = None
        self._generation: Generation | None = None
        self._letting_go: asyncio.Task[None] | None = None
        self._logs = LogSender(around.redis, keys)
        limits = spec.batch
        settles = Channel(around.blocking, timeout_s=timeout_s)
        channels = [settles]
        executor: Execution
        model: Model
        here: Callable[[Sequence[RowRef]], Run] | None = None
        if isinstance(backend, PipelineModel):
            executor = self._flows = Flows(
                backend,
                places=limits.max_rows,
                producer=Producer(settings, around.catalog.served),
                catalog=around.catalog,
                running=self._running,
                gate=around.gate,
                retain_ms=int(settings.unseen_retention_s * 1000),
                take=self._logs.take,
            )
            model, limits = backend, msgspec.structs.replace(limits, max_rows=1)
        elif isinstance(backend, Generator):
            channels.append(Channel(around.blocking, timeout_s=timeout_s))
            speaker = Speaker(
                channels[-1], keys, version=backend.version, run_s=spec.generation.timeout_s
            )
            executor = self._generation = Generation(backend, speaker, self._running)
            model, limits = backend, msgspec.structs.replace(limits, max_rows=1, prefetch_rows=1)
        else:
            watching = watched(spec, backend)
            take = self._logs.take if spec.task is Task.PYTHON else None
            threads = Executor(
                watching, self._running, take=take, interruptible=interruptible(spec)
            )
            model, executor = watching, threads
            here = threads.run_here if is_only and brief(spec) else None
        self._telling = Telling(model, around.redis, keys, around.clock, spec.drift)
        reads = {
            lane: Channel(around.blocking, timeout_s=BLOCK_MS / 1000 + timeout_s) for lane in Lane
        }
        self._channels = (*reads.values(), *channels)
        self._consumer = Consumer(
            around.redis,
            keys,
            reads=reads,
            settles=settles,
            worker=around.worker,
            limits=ConsumerLimits(
                lease_ms=int(settings.lease_s * 1000),
                presence_ms=int(settings.presence_s * 1000),
                dead_letter_max=settings.dead_letter_max,
                dead_letter_max_bytes=settings.dead_letter_max_bytes,
                cache=spec.cache,
                ready_rows=max(2 * limits.max_rows, limits.prefetch_rows),
            ),
            clock=around.clock,
        )
        self._stages = Stages(
            self._consumer,
            model,
            limits,
            executor=executor,
            clock=around.clock,
            max_strikes=settings.max_strikes,
            reclaim_s=settings.presence_s / BEATS_A_PRESENCE,
            gate=around.gate,
            logs=self._logs,
            here=here,
        )
        self._endings = Endings(
            around.blocking,
            keys,
            ended=self._stages.drop,
            ahead=self._stages.read_on,
            missed=self._catch_up,
        )
        self._reload = Reload(
            settings,
            Reloads(around.redis, keys),
            spec.name,
            worker=around.worker,
            version=backend.version,
            due=around.anew,
        )

    @property
    def busy(self) -> bool:
        """Whether it holds anything."""
        return bool(self._stages.held)

    @property
    def hung(self) -> list[str]:
        """Where a forward pass takes longer than any may."""
        return self._stages.hung

    async def join(self, stop: asyncio.Event) -> bool:
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

    async def run(self) -> None:
        """Work until `drain`, or until cancelled; then leave, releasing what is still held.

        Raises:
            ExceptionGroup: the backend broke its protocol; what it held has been released.
        """
        upkeep = [
            asyncio.create_task(self._beat(), name=f"beat {self._spec.name}"),
            asyncio.create_task(self._renew(), name=f"renew {self._spec.name}"),
            asyncio.create_task(self._endings.run(), name=f"endings {self._spec.name}"),
            asyncio.create_task(self._telling.run(), name=f"telling {self._spec.name}"),
            asyncio.create_task(self._reload.run(), name=f"reload {self._spec.name}"),
            asyncio.create_task(self._logs.run(), name=f"logs {self._spec.name}"),
        ]
        async with self._beside():
            work = asyncio.create_task(self._stages.run(), name=f"stages {self._spec.name}")
            try:
                await asyncio.wait({work})
                work.result()
            finally:
                for task in upkeep:
                    task.cancel()
                await asyncio.gather(*upkeep, return_exceptions=True)
                await self.leave()

    def _beside(self) -> contextlib.AbstractAsyncContextManager[None]:
        """What its kind of model takes beside the stages."""
        if self._flows is not None:
            return self._flows.running()
        if self._generation is not None:
            return self._generation.telling(lose=self._stages.lose, drop=self._stages.drop)
        return contextlib.nullcontext()

    def drain(self) -> None:
        """Lease nothing more; finish what is in hand, give back what is not."""
        self._stages.drain()

    def make_way(self) -> None:
        """Likewise; but a pipeline gives back what is in hand, too.

        It might wait for the very model that it is to make way for. Its rows run again later, and
        find what their steps have done.
        """
        self._stages.drain()
        if self._flows is not None:
            self._letting_go = asyncio.create_task(self._stages.let_go())

    async def leave(self) -> None:
        """Release what is held, and be present no more."""
        await self._telling.tell()
        held = self._stages.held
        try:
            if held:
                log.warning("letting go %d deliveries of %s", len(held), self._spec.name)
                await self._consumer.release(held)
            await self._consumer.leave()
        except (RedisError, OSError) as error:
            log.warning("left without a word to Redis, which lapses our leases: %s", error)

    def accuse(self, slots: list[str]) -> None:
        """This process is about to end: what hangs there is to blame for it, and nothing else.

        Args:
            slots: as in `hung`; none if another model is to blame.
        """
        reason = f"took longer than {self._spec.batch.timeout_s:g} s"
        if slots:
            log.error(
                "a forward pass of %s %s: this worker ends, and its rows run again, "
                "each prediction alone",
                self._spec.name,
                reason,
            )
        self._running.last_word(slots, reason=reason)

    async def aclose(self) -> None:
        """Give the connections back; the backend is its loader's to close."""
        for channel in self._channels:
            await channel.aclose()
        self._wire.close()

    async def _beat(self) -> None:
        while True:
            try:
                await self._consumer.beat(rate=self._stages.rate)
            except (RedisError, OSError) as error:
                log.debug("beat failed: %s", error)
            await asyncio.sleep(self._settings.presence_s / BEATS_A_PRESENCE)

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(self._settings.lease_s / BEATS_A_PRESENCE)
            held = self._stages.held
            try:
                self._stages.lose(await self._consumer.renew(held))
            except (RedisError, OSError) as error:
                log.warning("renewing %d leases failed: %s", len(held), error)

    async def _catch_up(self) -> None:
        """Find out which leases have ended while nobody listened."""
        self._stages.lose(await self._consumer.renew(self._stages.held))
