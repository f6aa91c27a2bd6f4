"""A slot: one model of a worker's set, whether or not it is loaded."""

import asyncio

from forebay.contract.model import ModelSpec
from forebay.contract.workers import ModelCard, ModelState
from forebay.inference.generation.protocol import WithDrafts
from forebay.inference.replica import Replica
from forebay.inference.residency import Resident
from forebay.storage.footprints import Footprint

FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 60.0
"""Before a load that failed is tried again."""


class Slot:
    """What the worker knows of one model. Times are of `time.monotonic`.

    Args:
        spec: the model.
        footprint: what it is thought to take.
        now: seconds.
        is_only: whether the worker has no other model.

    Attributes:
        replica: while it is loaded.
        task: runs the replica.
        away: whether it was ordered away.
        retired: whether it was ordered away for good, and is told of no more.
        error: why its last load failed; empty if it did not.
        too_big: whether it would not fit if it were alone.
        ordered: whether it was ordered here, and that is not yet done.
        preloading: whether it waits for its turn at the worker's start.
    """

    def __init__(self, spec: ModelSpec, footprint: Footprint, now: float, *, is_only: bool) -> None:
        self.spec = spec
        self.is_only = is_only
        self.footprint = footprint
        self.state = ModelState.ABSENT
        self.since = now
        self.replica: Replica | None = None
        self.task: asyncio.Task[None] | None = None
        self.away = False
        self.retired = False
        self.error = ""
        self.too_big = False
        self.ordered = False
        self.preloading = False
        self._used = now
        self._rows = 0
        self._served = False
        self._waiting: float | None = None
        self._barred = 0.0
        self._failures = 0

    @property
    def busy(self) -> bool:
        """Whether its replica holds anything."""
        return self.replica is not None and self.replica.busy

    def enter(self, state: ModelState, now: float) -> None:
        """It has got into a state."""
        self.state, self.since = state, now
        if state is ModelState.READY:
            self._used, self._waiting = now, None
            self._failures, self.error, self.too_big = 0, "", False
            self.ordered = self.preloading = False

    def look(self, now: float, *, rows: int, served: bool) -> None:
        """What is on its lanes, and whether another worker has it."""
        self._rows, self._served = rows, served
        if not rows and not self.ordered and not self.preloading:
            self._waiting = None
        elif self._waiting is None and self.state is ModelState.ABSENT:
            self._waiting = now

    def preload(self, now: float) -> None:
        """It is to be loaded at the worker's start."""
        if self.state is ModelState.ABSENT:
            self.preloading, self._waiting = True, now

    def send_away(self) -> None:
        """It is not wanted here until it is ordered."""
        self.away = True
        self.ordered = self.preloading = False

    def retire(self) -> None:
        """It has left this worker's set."""
        self.send_away()
        self.retired = True

    def order(self, now: float) -> None:
        """It is wanted here, whether or not it has rows."""
        self.ordered, self.away, self._barred = True, False, 0.0
        self.retired = False
        self._waiting = now if self._waiting is None else self._waiting

    def fail(self, error: str, now: float, *, pause_s: float | None = None) -> None:
        """It could not be loaded, or not be kept; it is tried again after a pause that grows."""
        self.error = error
        self.ordered = self.preloading = False
        self._waiting = None
        self._barred = now + (pause_s or min(FIRST_PAUSE_S * 2**self._failures, LONGEST_PAUSE_S))
        self._failures += 1

    def seen(self, now: float) -> Resident:
        """It as the policy sees it."""
        busy = self.busy
        if busy:
            self._used = now
        return Resident(
            self.spec.name,
            self.state,
            bytes=self.footprint.bytes,
            least=self.footprint.load_bytes,
            load_s=self.footprint.load_s,
            since=self.since,
            used=self._used,
            busy=busy,
            rows=self._rows,
            waiting=None if self.away else self._waiting,
            served=self._served,
            ordered=self.ordered,
            barred=self._barred,
        )

    def card(self, now: float, now_ms: int) -> ModelCard:
        """It as the worker tells of it."""
        state = self.state
        if self.preloading and state is ModelState.ABSENT:
            state = ModelState.LOADING
        backend = None if self.replica is None else self.replica.backend
        return ModelCard(
            self.spec.name,
            state,
            since_ms=now_ms - int((now - self.since) * 1000),
            bytes=self.footprint.bytes,
            version="" if backend is None else backend.version,
            away=self.away,
            error=self.error,
            too_big=self.too_big,
            guesses=backend.guesses if isinstance(backend, WithDrafts) else None,
        )
