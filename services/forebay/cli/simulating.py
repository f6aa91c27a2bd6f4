"""What `forebay autoscale simulate` runs: traces by name or file, and the lines of its tables."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from forebay.autoscaler.policy import Goals
from forebay.autoscaler.simulation import plot, traces
from forebay.autoscaler.simulation.comparison import Line, compare
from forebay.autoscaler.simulation.traces import Trace
from forebay.autoscaler.simulation.world import Model
from forebay.contract.errors import InvalidInput
from forebay.runtime import catalog
from forebay.runtime.settings import Settings

MOST = 8
"""Replicas that there may be where no model is named."""


class Asked(msgspec.Struct, frozen=True):
    """What is simulated.

    Attributes:
        model: what is scaled.
        goals: of Forebay's policy.
    """

    model: Model
    goals: Goals

    @classmethod
    def of(
        cls,
        settings: Settings,
        name: str,
        *,
        rate: float,
        start_s: float,
        least: int | None,
        most: int | None,
        idle_s: float | None,
    ) -> "Asked":
        """From a model's table if one is named, and from what was said besides.

        Raises:
            ConfigurationError: there is no catalog, or it is wrong.
            UnknownModel: there is no such model.
            InvalidInput: there would be fewer replicas at most than at least.
        """
        goals = Goals(0, MOST, 60.0, 3.0, 300.0, 32, 15.0)
        if name:
            goals = Goals.of(catalog.read(Path(settings.models_file)).find(name))
        goals = msgspec.structs.replace(
            goals,
            least=goals.least if least is None else least,
            most=goals.most if most is None else most,
            idle_s=goals.idle_s if idle_s is None else idle_s,
        )
        if goals.most < max(goals.least, 1):
            raise InvalidInput(
                f"--max {goals.most} is less than --min {goals.least}: there would be no room for "
                "what must be there."
            )
        return cls(Model(rate, start_s, goals.least, goals.most), goals)


class Told(msgspec.Struct, frozen=True):
    """One policy on one trace, for people and programs.

    Attributes:
        policy: its name and setting.
        replica_hours: hours of one replica.
        p50_s: queue time; None where rows were left, likewise.
        p99_s: the same of the slowest in a hundred.
        starts: replicas that were started.
        turns: from more replicas to fewer, or back.
        as_quick: whether it is as quick as Forebay's.
    """

    policy: str
    replica_hours: float
    p50_s: float | None
    p99_s: float | None
    starts: int
    turns: int
    as_quick: bool

    @property
    def row(self) -> tuple[str, ...]:
        """For a table."""
        return (
            self.policy,
            f"{self.replica_hours:.2f}",
            _seconds(self.p50_s),
            _seconds(self.p99_s),
            f"{self.starts:,}",
            f"{self.turns:,}",
            "" if self.as_quick else "slower",
        )


class Compared(msgspec.Struct, frozen=True):
    """All policies on one trace."""

    trace: str
    rows: int
    seconds: int
    policies: tuple[Told, ...]


def found_traces(names: Sequence[str], peak: float) -> list[Trace]:
    """Traces by name or file.

    Raises:
        InvalidInput: one is neither, or its file is wrong.
    """
    found = []
    for name in names:
        if name in traces.MADE:
            found.append(traces.MADE[name](peak))
        elif Path(name).exists():
            found.append(traces.read(Path(name)))
        else:
            known = ", ".join(traces.MADE)
            raise InvalidInput(f"There is no trace {name!r}: give a CSV file, or one of {known}.")
    return found


def simulated(
    trace: Trace, asked: Asked, *, tell: Callable[[str], None], output: Path | None
) -> list[Line]:
    """Compare on one trace, and draw it if a folder is given."""
    lines = compare(trace, asked.model, asked.goals, tell)
    if output is not None:
        output.mkdir(parents=True, exist_ok=True)
        (output / f"{trace.name}.svg").write_text(plot.draw(trace, lines), encoding="utf-8")
    return lines


def lines_of(trace: Trace, lines: Sequence[Line]) -> Compared:
    """What is told of a trace."""
    told = tuple(
        Told(
            line.outcome.scaler,
            line.hours,
            _finite(line.p50_s),
            _finite(line.p99_s),
            line.outcome.starts,
            line.outcome.turns,
            line.as_quick,
        )
        for line in lines
    )
    return Compared(trace.name, trace.total, len(trace.rows), told)


def _finite(seconds: float) -> float | None:
    return seconds if math.isfinite(seconds) else None


def _seconds(value: float | None) -> str:
    return "rows left" if value is None else f"{value:.2f} s"
