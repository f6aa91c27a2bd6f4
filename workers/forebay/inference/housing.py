"""How a model gets into a slot and out of it again: load, join, serve, drain, leave, close."""

import asyncio
import functools
import logging
import time
from collections.abc import Callable

from forebay.contract.errors import ForebayError
from forebay.contract.workers import ModelState
from forebay.inference.loading import Loaded, Loader, on_thread
from forebay.inference.moves import Moves
from forebay.inference.replica import Replica, Surroundings
from forebay.inference.slot import LONGEST_PAUSE_S, Slot

log = logging.getLogger(__name__)

MB = 1_000_000


class Housing:
    """Where the models of one worker live.

    Args:
        around: what replicas share.
        loader: loads models, and lets go of them.
        moves: is told of every change.
        stop: set when the process is to end.
        is_quiet: whether no model runs anything.

    Attributes:
        floor: bytes that the process takes without any model.
        budget: bytes that it may take; 0: no bound.
    """

    def __init__(
        self,
        around: Surroundings,
        loader: Loader,
        *,
        moves: Moves,
        stop: asyncio.Event,
        is_quiet: Callable[[], bool],
    ) -> None:
        self._around = around
        self._loader = loader
        self._moves = moves
        self._stop = stop
        self._is_quiet = is_quiet
        self.floor = 0
        self.budget = around.settings.worker_memory_mb * MB

    async def load(self, slot: Slot) -> None:
        """Load a model on a thread, and begin to serve it; or note in the slot why not."""
        name = slot.spec.name
        try:
            async with self._around.gate.loading():
                load = functools.partial(self._loader.load, slot.spec, quiet=self._is_quiet)
                loaded = await on_thread(f"load {name}", load)
            slot.footprint = loaded.footprint
            # Slots take memory as they fill, and all of it is to be there.
            slots = slot.footprint.bytes if self._loader.reserve(slot.spec) is not None else 0
            needs = self.floor + max(slot.footprint.load_bytes, slots)
            if self.budget and needs > self.budget:
                await self._close(slot, loaded)
                self.refuse(slot, needs)
            else:
                await self.serve(slot, loaded)
        except ForebayError as error:
            log.error("%s can't be loaded: %s", name, error.message)
            self._failed(slot, error.message)
        except Exception:
            log.exception("%s can't be loaded", name)
            self._failed(slot, f"{name} can't be loaded. The worker's log says why.")

    def refuse(self, slot: Slot, needs: int) -> None:
        """A model doesn't fit, and never will.

        Args:
            slot: the model's.
            needs: bytes that the process would take with it alone.
        """
        slot.too_big = True
        reserve = self._loader.reserve(slot.spec)
        slot.fail(
            f"{slot.spec.name} doesn't fit: with it alone this worker takes about "
            f"{needs / MB:,.0f} MB, and it may take {self.budget / MB:,.0f} MB "
            "(worker_memory_mb). "
            + (f"{reserve} " if reserve is not None else "")
            + "Its predictions wait for another worker.",
            time.monotonic(),
            pause_s=LONGEST_PAUSE_S,
        )
        log.error("%s", slot.error)
        self._moves.tell()

    async def serve(self, slot: Slot, loaded: Loaded) -> None:
        """Join the lanes with a model that is loaded; its task works until it is drained."""
        replica = Replica(self._around, slot.spec, loaded.backend, is_only=slot.is_only)
        if not await replica.join(self._stop):
            await replica.aclose()
            del replica
            await self._close(slot, loaded)
            return
        slot.replica = replica
        slot.task = asyncio.create_task(self._work(slot, loaded), name=f"replica {slot.spec.name}")
        self._enter(slot, ModelState.READY)

    def drain(self, slot: Slot) -> None:
        """Have a model finish what it holds; then it is closed."""
        if slot.replica is not None and slot.state is ModelState.READY:
            self._enter(slot, ModelState.UNLOADING)
            slot.replica.drain()

    def make_way(self, slot: Slot) -> None:
        """Likewise, for another model's sake: it waits for none meanwhile."""
        if slot.replica is not None and slot.state is ModelState.READY:
            self._enter(slot, ModelState.UNLOADING)
            slot.replica.make_way()

    async def _work(self, slot: Slot, loaded: Loaded) -> None:
        assert slot.replica is not None
        try:
            await slot.replica.run()
        except Exception as error:
            if slot.is_only:
                raise
            log.exception("%s broke and is closed; the others go on", slot.spec.name)
            slot.fail(f"Its backend broke: {error!r}. The worker's log says more.",
                      time.monotonic())  # fmt: skip
        finally:
            await slot.replica.aclose()
        self._enter(slot, ModelState.UNLOADING)
        slot.replica = None
        await self._close(slot, loaded)

    async def _close(self, slot: Slot, loaded: Loaded) -> None:
        """Let go of a model; nothing of it runs any more."""
        unload = functools.partial(self._loader.unload, slot.spec, loaded, quiet=self._is_quiet)
        given_back = await on_thread(f"unload {slot.spec.name}", unload)
        slot.footprint = self._loader.estimate(slot.spec)
        log.info("%s is unloaded: %.0f MB given back", slot.spec.name, given_back / MB)
        self._enter(slot, ModelState.ABSENT)

    def _failed(self, slot: Slot, error: str) -> None:
        slot.fail(error, time.monotonic())
        self._enter(slot, ModelState.ABSENT)

    def _enter(self, slot: Slot, state: ModelState) -> None:
        slot.enter(state, time.monotonic())
        self._moves.tell()
