"""The models of one worker: loaded when their lanes have rows, unloaded for others or when idle.

    look at the lanes of absent models ▶ decide (`residency`) ▶ load, or drain and close (`housing`)
            ▲                                                          │
            └───────── every `LOOK_S`, on an order, on each change ◀───┘

What runs goes on meanwhile. While all models are here nothing is asked of Redis.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Mapping, Sequence

from redis.exceptions import RedisError

from forebay.contract.errors import ConfigurationError, NotFound, Unavailable
from forebay.contract.model import ModelSpec
from forebay.contract.workers import ModelCard, ModelState, Order, Verb
from forebay.inference.draining import drain
from forebay.inference.housing import MB, Housing
from forebay.inference.loading import Loaded, Loader
from forebay.inference.memory import resident_bytes
from forebay.inference.moves import Moves
from forebay.inference.replica import Replica, Surroundings
from forebay.inference.residency import Load, Memory, Refuse, Step, Unload, decide, fits, too_big
from forebay.inference.slot import Slot
from forebay.inference.trouble import Trouble
from forebay.lanes.depth import depth
from forebay.lanes.keys import Keys
from forebay.runtime.memory import keep_what_is_there

log = logging.getLogger(__name__)

LOOK_S = 0.1
"""How often lanes of absent models are looked at: that much later, at most, a load begins."""

CALM_S = 1.0
"""How often it is looked whether something is idle, while nothing is absent."""


class Residents:
    """The models of one worker.

    Args:
        around: what replicas share.
        specs: the worker's set, in the order in which they are loaded at its start.
        loader: loads them.
        stop: set when the process is to end.
        loaded: those that are loaded already, by name.
    """

    def __init__(
        self,
        around: Surroundings,
        specs: Sequence[ModelSpec],
        loader: Loader,
        *,
        stop: asyncio.Event,
        loaded: Mapping[str, Loaded],
    ) -> None:
        now = time.monotonic()
        self._around = around
        self._loader = loader
        self._stop = stop
        self._given = dict(loaded)
        self._keys = {spec.name: Keys(around.settings.key_prefix).of(spec.name) for spec in specs}
        self._slots = {
            spec.name: Slot(spec, loader.estimate(spec), now, is_only=len(specs) == 1)
            for spec in specs
        }
        self._moves = Moves()
        self._housing = Housing(
            around, loader, moves=self._moves, stop=stop, is_quiet=self._is_quiet
        )
        self._loads: set[asyncio.Task[None]] = set()
        self._trouble = Trouble(log, "looking at the lanes of absent models")

    @property
    def replicas(self) -> list[Replica]:
        """Those that are loaded."""
        return [slot.replica for slot in self._slots.values() if slot.replica is not None]

    @property
    def cards(self) -> tuple[ModelCard, ...]:
        """All of them as the worker tells of them, but for those that have left for good."""
        now, now_ms = time.monotonic(), self._around.clock.now_ms()
        staying = (slot for slot in self._slots.values() if not slot.retired)
        return tuple(slot.card(now, now_ms) for slot in staying)

    @property
    def loading(self) -> bool:
        """Whether a load goes on, on a thread that nobody can stop."""
        return bool(self._loads)

    def look_soon(self) -> None:
        """There may be rows on the lanes of an absent model: look at once."""
        self._moves.tell()

    async def moved(self, *, within_s: float) -> None:
        """Wait until a model's state has changed, or the time is over."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await self._moves.wait()

    async def run(self) -> None:
        """Serve until told to stop, then drain, for as long as the process's grace allows.

        Raises:
            ExceptionGroup: the backend of the only model broke its protocol.
            ConfigurationError: there are several models, and too little memory for any.
        """
        self._measure_floor()
        self._refuse_too_big()
        try:
            await self._begin()
            while not self._stop.is_set():
                await self._look()
                for step in self._steps():
                    self._take(step)
                await self._pause()
                self._end_if_broken()
        finally:
            await drain(
                self._slots.values(),
                self._housing,
                loads=self._loads,
                grace_s=self._around.settings.drain_s,
            )
        self._end_if_broken()

    async def obey(self, order: Order) -> None:
        """Carry out an order.

        Raises:
            NotFound: the worker has no such model.
            Unavailable: the model could not be loaded; says why.
        """
        slot = self._slots.get(order.model)
        if slot is None:
            raise NotFound(
                f"This worker has no model {order.model[:80]!r}. It has {', '.join(self._slots)}."
            )
        log.info("ordered to %s %s", order.verb, order.model)
        match order.verb:
            case Verb.LOAD:
                await self._load_by_order(slot)
            case Verb.UNLOAD:
                slot.send_away()
                await self._unload_by_order(slot)
            case Verb.RETIRE:
                slot.retire()
                self._moves.tell()
                await self._unload_by_order(slot)

    async def _load_by_order(self, slot: Slot) -> None:
        def is_over() -> bool:
            here = slot.state is ModelState.READY
            return here or not slot.ordered or self._stop.is_set()

        slot.order(time.monotonic())
        self._moves.tell()
        await self._moves.until(is_over)
        if slot.state is not ModelState.READY:
            raise Unavailable(slot.error or "The worker is ending, or was ordered otherwise.")

    async def _unload_by_order(self, slot: Slot) -> None:
        await self._moves.until(lambda: slot.state is not ModelState.LOADING)
        self._housing.drain(slot)
        await self._moves.until(lambda: slot.state is ModelState.ABSENT)

    def _measure_floor(self) -> None:
        self._loader.import_libraries(slot.spec for slot in self._slots.values())
        if not self._given:
            keep_what_is_there()
        given = sum(loaded.footprint.load_bytes for loaded in self._given.values())
        self._housing.floor = max(resident_bytes() - given, 0)

    def _refuse_too_big(self) -> None:
        """Say at once which models will never be loaded, rather than when somebody waits for them.

        Raises:
            ConfigurationError: none will.
        """
        memory = Memory(self._housing.budget, self._housing.floor)
        now = time.monotonic()
        for slot in self._slots.values():
            alone = slot.seen(now)
            if slot.spec.name not in self._given and too_big(alone, memory):
                self._housing.refuse(slot, memory.floor + alone.bytes)
        if all(slot.too_big for slot in self._slots.values()):
            takes = ", ".join(
                f"{name} {slot.footprint.bytes / MB:,.0f}" for name, slot in self._slots.items()
            )
            reserves = [self._loader.reserve(slot.spec) for slot in self._slots.values()]
            raise ConfigurationError(
                f"This worker may take {memory.budget / MB:,.0f} MB, and no model of it fits: it "
                f"takes {memory.floor / MB:,.0f} MB without any, and with it about as many as "
                f"this: {takes}. Raise --memory-mb (FOREBAY_WORKER_MEMORY_MB)."
                + "".join(f" {reserve}" for reserve in reserves if reserve is not None)
            )

    async def _begin(self) -> None:
        """What is loaded already is served; what fits of the rest is to be loaded."""
        planned = self._housing.floor
        for slot in self._slots.values():
            given = self._given.pop(slot.spec.name, None)
            if given is not None:
                slot.footprint = given.footprint
                await self._housing.serve(slot, given)
            size = slot.footprint.bytes
            if slot.too_big:
                continue
            if not self._housing.budget or planned + size <= self._housing.budget:
                planned += size
                slot.preload(time.monotonic())

    async def _look(self) -> None:
        """See what waits on the lanes, if something is absent that may be wanted."""
        here = not self._any_absent
        for slot in self._slots.values():
            rows, served = 0, False
            if not here:
                try:
                    told = await depth(
                        self._around.redis,
                        self._keys[slot.spec.name],
                        now_ms=self._around.clock.now_ms(),
                    )
                except (RedisError, OSError) as error:
                    self._trouble.report(error)
                    return
                rows, served = told.realtime + told.bulk, told.replicas > 0
            slot.look(time.monotonic(), rows=rows, served=served)
        self._trouble.over()

    def _steps(self) -> list[Step]:
        now = time.monotonic()
        memory = Memory(self._housing.budget, self._housing.floor, resident_bytes())
        models = [slot.seen(now) for slot in self._slots.values()]
        held = [model for model in models if model.state is not ModelState.ABSENT]
        for slot, model in zip(self._slots.values(), models, strict=True):
            if slot.preloading and not fits(held, memory, model.bytes):
                slot.preloading = (
                    False  # it is loaded when there is need: nothing goes for its sake
                )
        return decide(models, memory, now=now, idle_s=self._around.settings.idle_unload_s)

    def _take(self, step: Step) -> None:
        slot = self._slots[step.name]
        match step:
            case Load():
                slot.enter(ModelState.LOADING, time.monotonic())
                task = asyncio.create_task(self._housing.load(slot), name=f"load {step.name}")
                self._loads.add(task)
                task.add_done_callback(self._loads.discard)
            case Unload():
                log.info("unloading %s: %s", step.name, step.why)
                self._housing.make_way(slot)
            case Refuse():
                self._housing.refuse(slot, step.needs)

    def _end_if_broken(self) -> None:
        """If the only model's backend broke its protocol, so has this worker."""
        for slot in self._slots.values():
            if slot.task is not None and slot.task.done() and not slot.task.cancelled():
                slot.task.result()

    def _is_quiet(self) -> bool:
        return not any(slot.busy for slot in self._slots.values())

    @property
    def _any_absent(self) -> bool:
        """Whether something is absent that may be wanted."""
        return any(
            slot.state is not ModelState.READY and not slot.away for slot in self._slots.values()
        )

    async def _pause(self) -> None:
        """Until something has changed, the process is to end, or it is time to look again."""
        moved = asyncio.ensure_future(self._moves.wait())
        stopping = asyncio.ensure_future(self._stop.wait())
        try:
            await asyncio.wait(
                {moved, stopping},
                timeout=LOOK_S if self._any_absent else CALM_S,
                return_when=asyncio.FIRST_COMPLETED,
            )
        finally:
            moved.cancel()
            stopping.cancel()
