"""What a scenario is, and what came of one."""

from collections.abc import Callable, Coroutine
from typing import Any

import msgspec


class Tally(msgspec.Struct):
    """Predictions, counted by what became of them.

    Attributes:
        accepted: their client was given an id, or a result.
        succeeded: with the right output.
        failed: ended in any other way.
        lost: accepted and never ended, or gone.
        twice: ended, and then seen otherwise; or published or counted more than once.
        rerun: leased more than once.
    """

    accepted: int = 0
    succeeded: int = 0
    failed: int = 0
    lost: int = 0
    twice: int = 0
    rerun: int = 0


class Outcome(msgspec.Struct):
    """What came of a scenario.

    Attributes:
        done: what was done to whom, with its figures.
        tally: what was counted.
        broken: what did not hold.
        notes: what else was seen.
    """

    done: str = ""
    tally: Tally = msgspec.field(default_factory=Tally)
    broken: list[str] = msgspec.field(default_factory=list)
    notes: list[str] = msgspec.field(default_factory=list)

    def promise(self, held: bool, otherwise: str) -> None:
        """Note what is broken unless it held."""
        if not held:
            self.broken.append(otherwise)

    def add(self, other: "Outcome") -> None:
        """Count what became of another load, too."""
        mine, theirs = msgspec.structs.asdict(self.tally), msgspec.structs.asdict(other.tally)
        self.tally = Tally(**{name: count + theirs[name] for name, count in mine.items()})
        self.broken += other.broken
        self.notes += other.notes

    def all_succeed(self, count: int) -> None:
        """Promise that so many were accepted, and that each of them succeeded."""
        accepted, succeeded = self.tally.accepted, self.tally.succeeded
        self.promise(accepted == count, f"{accepted} of {count} were accepted")
        self.promise(succeeded == accepted, f"{succeeded} of {accepted} succeeded")

    @property
    def verdict(self) -> str:
        """In a word."""
        return "broken" if self.broken else "kept"


class Scenario(msgspec.Struct, frozen=True):
    """Something to break, and what is promised all the same.

    Attributes:
        name: for the command line.
        title: for the table.
        promise: one sentence.
        play: breaks it, in the short form if the argument is true, and counts.
    """

    name: str
    title: str
    promise: str
    play: Callable[[bool], Coroutine[Any, Any, Outcome]]
