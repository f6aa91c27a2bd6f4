"""Runs rows of a model that generates text: each joins those that grow, and leaves by itself.

Rows of realtime have as many places as the engine has slots, and one more whose prompt can be
taken in next; rows of bulk have places of their own, and lose their slots to realtime's. Nothing
beyond that is leased.
"""

import asyncio
import contextlib
import itertools
import logging
import time
from collections.abc import AsyncGenerator, Sequence
from typing import Final

import msgspec
from redis.exceptions import RedisError

from forebay.contract.errors import Canceled, ForebayError, Interrupted, InvalidInput
from forebay.contract.prediction import Lane
from forebay.contract.rows import Options, Output, Row
from forebay.inference.assembly import Assembly, RowRef
from forebay.inference.backends.base import PreparedRow
from forebay.inference.execution import Room, Run
from forebay.inference.executor import Preparer
from forebay.inference.generation.growing import Growing
from forebay.inference.generation.protocol import Delta, Generator, Wanted
from forebay.inference.generation.speaker import RETRY_S, Leave, Speaker
from forebay.inference.generation.thread import NAME, EngineThread
from forebay.inference.urgency import Urgency
from forebay.lanes.consumer import Delivery
from forebay.lanes.producer import kept_going
from forebay.lanes.running import Running

log = logging.getLogger(__name__)

AHEAD: Final = 1
"""Rows that an engine has beyond its slots, so that one of them can begin as soon as one ends."""

SUSPECTS_FROM: Final = 2
"""Strikes from which on a row grows alone. A worker that is lost leaves a strike with all that it
was generating, and one text alone keeps all others waiting for as long as it grows: it takes a
second loss to tell the one at fault from its company."""

CROWDED_S: Final = 0.02
"""Where all of several slots are taken, texts are told of no oftener: a step quicker than that
waits for the next one, for so long again at most. Nobody reads so fast, and each telling takes time
of the cores that all grow on."""

_UNWANTED: Final = "The row was not wanted any more."


class Generation:
    """Runs rows side by side.

    Args:
        model: loaded and warm.
        speaker: tells what is generated.
        running: is told what runs, before it does.
    """

    def __init__(self, model: Generator, speaker: Speaker, running: Running) -> None:
        slots = self._slots = model.engine.slots
        self._told_at = float("-inf")
        self._withheld: asyncio.TimerHandle | None = None
        self.rooms = (
            Room(slots + AHEAD, urgencies=(Urgency.REALTIME,), suspects_from=SUSPECTS_FROM),
            Room(slots, urgencies=(Urgency.BULK,), suspects_from=SUSPECTS_FROM),
        )
        self._version = model.version
        self._speaker = speaker
        self._running = running
        self._preparer = Preparer(model, running)
        self._thread = EngineThread(model.engine, heard=self._hear, broken=self._break)
        self._ids = itertools.count(1)
        self._growing: dict[int, Growing] = {}

    @contextlib.asynccontextmanager
    async def telling(self, *, lose: Leave, drop: Leave) -> AsyncGenerator[None]:
        """Generate, and tell of it, until the block ends; see `Speaker.run` for the arguments."""
        self._thread.start()

        async def run() -> None:
            await self._speaker.run(lose=lose, drop=drop, stop=self._cancel)

        try:
            async with kept_going("speaker", run):
                yield
        finally:
            # Waited for, off the event loop: the interpreter aborts if it ends within a step.
            await asyncio.to_thread(self._thread.close)

    def longer_than(self, seconds: float) -> list[str]:
        """The engine's thread, if a step has taken longer than this."""
        return [NAME] if self._thread.longer_than(seconds) else []

    def prepare(
        self, delivery: Delivery, rows: Sequence[Row], *, truncate: bool, options: Options
    ) -> "asyncio.Future[list[PreparedRow | InvalidInput]]":
        """Render and tokenize rows of a delivery while others grow."""
        return self._preparer.prepare(delivery, rows, truncate=truncate, options=options)

    def submit(self, rows: Sequence[RowRef], urgency: Urgency) -> "asyncio.Future[Run]":
        """Let a row grow."""
        (ref,) = rows
        growing = Growing(next(self._ids), ref)
        self._growing[growing.id] = growing
        self._tell_running()
        return asyncio.create_task(self._grow(growing), name="grow")

    def stop(self, assembly: Assembly) -> None:
        """Nobody here waits for it any more: its slots are free at the next step."""
        self._speaker.forget(assembly)
        for growing in list(self._growing.values()):
            if growing.ref.assembly is assembly:
                self._thread.cancel(growing.id)
                growing.end(ForebayError(_UNWANTED))

    def ended(self, assembly: Assembly, *, surely: bool) -> None:
        """Nothing is left of it."""

    def close(self) -> None:
        """End the threads."""
        self._thread.close()
        self._preparer.close()

    async def _grow(self, growing: Growing) -> Run:
        try:
            try:
                await self._begin(growing)
            except ForebayError as error:
                result: Output | ForebayError = error
            else:
                result = await growing.result
        finally:
            del self._growing[growing.id]
            self._tell_running()
        return Run([result], growing.began, time.monotonic())

    async def _begin(self, growing: Growing) -> None:
        """Hand a row to the engine, on from what another worker has told of it.

        Raises:
            ForebayError: nobody wants it any more, or this worker can't go on with it.
        """
        assembly = growing.ref.assembly
        if assembly.computation.stream and not assembly.settled:
            after = 0
            if assembly.delivery.attempt > 1:
                after = await self._recall(growing)
            self._speaker.begin(growing, after=after)
        if assembly.settled:
            self._speaker.forget(assembly)
            raise ForebayError(_UNWANTED)
        if growing.finished:
            growing.end()
            return
        self._thread.submit(
            Wanted(
                growing.id,
                growing.ref.prepared,
                growing.sampling,
                row=growing.row,
                urgent=assembly.delivery.lane is Lane.REALTIME,
                written=growing.tokens,
            )
        )

    async def _recall(self, growing: Growing) -> int:
        """Take up what was told of a row elsewhere; returns the last sequence of its prediction.

        Raises:
            Interrupted: it can't be gone on with.
        """
        assembly = growing.ref.assembly
        while True:
            try:
                before = await self._speaker.recall(assembly)
                break
            except msgspec.MsgspecError as error:
                raise Interrupted from error
            except (RedisError, OSError) as error:
                log.debug("reading what was told of %s: %s", assembly.delivery.prediction, error)
                if assembly.settled:
                    return 0
                await asyncio.sleep(RETRY_S)
        if not before.chunks:
            return 0
        if before.version != self._version:
            raise Interrupted
        for chunk in before.chunks:
            if chunk.row == growing.row:
                growing.recall(chunk)
        return before.chunks[-1].sequence

    def _hear(self, deltas: Sequence[Delta]) -> None:
        """The engine has made a step."""
        told = at_once = False
        for delta in deltas:
            growing = self._growing.get(delta.id)
            if growing is None or growing.result.done():
                continue
            if delta.error is not None:
                growing.end(delta.error)
                told = at_once = True
                continue
            tell = self._speaker.tells(growing)
            at_once = at_once or not growing.begun or delta.finish is not None
            growing.take(delta, tell=tell)
            told = told or tell
            if not tell:
                growing.end()  # if it has a finish
        if told:
            self._tell(at_once=at_once)

    def _tell(self, *, at_once: bool) -> None:
        """Have it told, now or with the next step.

        Args:
            at_once: something begins or ends with this step.
        """
        crowded = len(self._growing) >= max(self._slots, 2)
        if at_once or not crowded or time.monotonic() - self._told_at >= CROWDED_S:
            self._look()
        elif self._withheld is None:
            self._withheld = asyncio.get_running_loop().call_later(CROWDED_S, self._look)

    def _look(self) -> None:
        """Have told what there is."""
        if self._withheld is not None:
            self._withheld.cancel()
            self._withheld = None
        self._told_at = time.monotonic()
        self._speaker.look()

    def _break(self, error: Exception) -> None:
        """The engine is of no use any more: nor is this worker."""
        log.error("the engine broke", exc_info=error)
        for growing in self._growing.values():
            if not growing.result.done():
                growing.result.set_exception(error)

    def _cancel(self, assembly: Assembly) -> None:
        """Nobody reads it any more."""
        self._speaker.forget(assembly)
        for growing in self._growing.values():
            if growing.ref.assembly is assembly:
                self._thread.cancel(growing.id)
                growing.end(Canceled("Nobody reads this stream any more."))

    def _tell_running(self) -> None:
        """Name what runs, before it does."""
        assemblies = dict.fromkeys(growing.ref.assembly for growing in self._growing.values())
        if assemblies:
            self._running.begin(NAME, [assembly.delivery for assembly in assemblies])
        else:
            self._running.end(NAME, tell=True)
