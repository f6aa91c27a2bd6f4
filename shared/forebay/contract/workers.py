"""What workers tell of themselves, and what they may be told to do: JSON, in Redis.

A card says what a worker has; an order has one load, unload or retire a model, and is answered.
"""

from enum import StrEnum

import msgspec

from forebay.contract.errors import ErrorKind
from forebay.contract.generation import Guesses

WIRE_VERSION = 1


class ModelState(StrEnum):
    """How a worker has a model of its set. A word that a newer release uses reads as `absent`."""

    ABSENT = "absent"
    LOADING = "loading"
    READY = "ready"
    UNLOADING = "unloading"

    @classmethod
    def _missing_(cls, value: object) -> "ModelState":
        return cls.ABSENT


class ModelCard(msgspec.Struct, frozen=True, omit_defaults=True):
    """A model of a worker's set.

    Attributes:
        name: of the model.
        state: how the worker has it.
        since_ms: since when, Unix time.
        bytes: memory it takes, or took last; 0 if that is not known.
        version: short digest of the artifact, while it is ready.
        away: whether it was ordered away, and waits for an order to load it.
        error: why it could not be loaded, the last time that was tried.
        too_big: whether the worker has too little memory for it, even alone.
        guesses: what its drafts came to since it was loaded, where it drafts.
    """

    name: str
    state: ModelState
    since_ms: int
    bytes: int = 0
    version: str = ""
    away: bool = False
    error: str = ""
    too_big: bool = False
    guesses: Guesses | None = None


class WorkerCard(msgspec.Struct, frozen=True):
    """A worker that is present.

    Attributes:
        name: as in leases and histories.
        since_ms: when it started, Unix time.
        rss_bytes: memory it takes.
        memory_bytes: memory it may take; 0: no bound.
        models: its set, in its own order.
    """

    name: str
    since_ms: int
    rss_bytes: int
    memory_bytes: int
    models: tuple[ModelCard, ...]
    v: int = WIRE_VERSION

    def model(self, name: str) -> ModelCard | None:
        """A model of its set; None if it isn't."""
        return next((model for model in self.models if model.name == name), None)


class Verb(StrEnum):
    """What a worker may be told to do with a model.

    An unloaded model stays away until it is ordered back, and clients are told so. A retired one
    leaves the worker's set for good: the worker says nothing of it any more, whoever had it retired
    sees to what waits for it.
    """

    LOAD = "load"
    UNLOAD = "unload"
    RETIRE = "retire"


class Order(msgspec.Struct, frozen=True):
    """One thing a worker is told to do.

    Attributes:
        id: names the answer.
        verb: what to do.
        model: with which model.
        until_ms: nobody waits for the answer after that, Unix time; it is not begun then.
    """

    id: str
    verb: Verb
    model: str
    until_ms: int
    v: int = WIRE_VERSION


class OrderAnswer(msgspec.Struct, frozen=True, omit_defaults=True):
    """What came of an order.

    Attributes:
        error: why it was not done, one sentence; empty if it was.
        kind: of the error.
    """

    error: str = ""
    kind: ErrorKind | None = None
    v: int = WIRE_VERSION
