"""The protocol between a worker's stages and what runs its batches.

`executor` runs a backend's on threads; `steps.flows` runs a pipeline's rows, which mostly wait.
"""

import asyncio
from collections.abc import Sequence
from typing import Protocol

import msgspec

from forebay.contract.errors import ForebayError, InvalidInput
from forebay.contract.prediction import StepTime
from forebay.contract.rows import Options, Output, Row
from forebay.inference.assembly import Assembly, RowRef
from forebay.inference.backends.base import PreparedRow
from forebay.inference.urgency import Urgency
from forebay.lanes.consumer import Delivery


class Run(msgspec.Struct, frozen=True):
    """What one micro-batch came to.

    Attributes:
        results: one a row: its output, or why there is none.
        began: `time.monotonic()` when the device began.
        ended: and when it was done.
        steps: of a pipeline, what its steps took.
    """

    results: list[Output | ForebayError]
    began: float
    ended: float
    steps: tuple[StepTime, ...] = ()


class Room:
    """Where batches of some urgencies run, so many at once.

    Args:
        places: for so many.
        urgencies: of the rows that run there, the most urgent first.
        isolates: whether its batches pass the process's gate, where one under suspicion runs alone.
            Where batches wait for others they don't: those may have to pass it themselves.
        suspects_from: strikes from which on a row is under suspicion.
        interrupted: whether what runs there is interrupted for what is more urgent, so that it need
            not be short.

    Attributes:
        free: has a permit for each place that is free.
        running: batches that were begun and have not ended.
    """

    def __init__(
        self,
        places: int,
        *,
        urgencies: Sequence[Urgency],
        isolates: bool = True,
        suspects_from: int = 1,
        interrupted: bool = False,
    ) -> None:
        self.places = places
        self.urgencies = urgencies
        self.isolates = isolates
        self.suspects_from = suspects_from
        self.interrupted = interrupted
        self.free = asyncio.Semaphore(places)
        self.running = 0


class Execution(Protocol):
    """Runs micro-batches off the event loop."""

    @property
    def rooms(self) -> Sequence[Room]:
        """Where they run; each urgency has one at most, `REALTIME` and `BULK` have."""
        ...

    def longer_than(self, seconds: float) -> list[str]:
        """Where code has been running for longer than this, as `Running` names it."""
        ...

    def prepare(
        self, delivery: Delivery, rows: Sequence[Row], *, truncate: bool, options: Options
    ) -> "asyncio.Future[list[PreparedRow | InvalidInput]]":
        """Tokenize rows of a delivery, or check them, while others run."""
        ...

    def submit(self, rows: Sequence[RowRef], urgency: Urgency) -> "asyncio.Future[Run]":
        """Run a batch, whose place in its room is taken already; all its rows are as urgent."""
        ...

    def stop(self, assembly: Assembly) -> None:
        """Nobody here waits any more for what still runs of it."""
        ...

    def ended(self, assembly: Assembly, *, surely: bool) -> None:
        """It is this worker's no longer.

        Args:
            assembly: has run, or some of it.
            surely: whether it has ended for all; else a peer may have taken it over.
        """
        ...

    def close(self) -> None:
        """Wait for what runs, then end the threads."""
        ...
