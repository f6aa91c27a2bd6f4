"""One task under way, and how it ended."""

import asyncio

import msgspec

from forebay.background.ingress.outcomes import Ended
from forebay.background.ingress.results import Told
from forebay.background.taking.place import Taken


class Flight(msgspec.Struct, eq=False):
    """One task under way.

    Attributes:
        taken: its message, in its place.
        task: works on it.
        id: of the task, once read.
        kept: whether its result is.
        model: that was asked, once one was.
        key: what it is known by there.
    """

    taken: Taken
    task: "asyncio.Task[None] | None" = None
    id: str = ""
    kept: bool = True
    model: str = ""
    key: str = ""


class Finished(msgspec.Struct, frozen=True):
    """A task that has ended.

    Attributes:
        flight: it.
        ended: how.
        told: what is to be told in bulk; None if all is told.
    """

    flight: Flight
    ended: Ended
    told: Told | None = None
