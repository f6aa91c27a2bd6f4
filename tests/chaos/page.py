"""The table of a run, for the terminal, and `docs/chaos.md`, written from nothing else."""

from collections.abc import Sequence
from textwrap import fill

import msgspec
from rich.table import Table as RichTable

from tests.bench.table import Table
from tests.chaos.outcome import Outcome, Scenario

HEADS = (
    "scenario", "what was done", "accepted", "succeeded", "failed", "lost", "seen twice", "re-run",
    "verdict",
)  # fmt: skip

INTRODUCTION = """\
<!-- Written by `make chaos`. Edit tests/chaos/page.py instead. -->
# Chaos

What Forebay promises, tried by breaking it: real gateways, workers, backgrounds and servers,
killed, paused and told to end while predictions come over HTTP.
"""

WORDS = """\
- **accepted**: the client was given an id, or a result.
- **succeeded**: with its own output, as a gateway shows it in the end.
- **failed**: ended in any other way, expired included.
- **lost**: accepted, and never ended or gone. Allowed only where the level of durability allows it.
- **seen twice**: published more than once, shown otherwise after its end, or counted twice. Where a
  server may have forgotten an end, one that comes again, the same, is counted here and allowed.
- **re-run**: leased more than once. A computation may run twice; only one of its results is seen.

At the end of each scenario the demand counters are at 0 and the lanes are empty, or its promise is
broken. A client that is refused or cut off tries again as a new prediction.
"""


class Played(msgspec.Struct, frozen=True):
    """A scenario and what came of it."""

    scenario: Scenario
    outcome: Outcome

    def cells(self) -> tuple[str, ...]:
        """Its line in the table."""
        outcome, tally = self.outcome, self.outcome.tally
        counts = msgspec.structs.astuple(tally)
        return (
            self.scenario.title,
            outcome.done,
            *(f"{count:,}" for count in counts),
            outcome.verdict,
        )


class Run(msgspec.Struct, frozen=True):
    """A whole run.

    Attributes:
        started_at: date and time, UTC.
        command: what reproduces it.
        machine: where.
    """

    started_at: str
    command: str
    machine: str
    played: Sequence[Played]


def table(played: Sequence[Played]) -> Table:
    """What was done, and what came of it."""
    return Table("Chaos", HEADS, tuple(one.cells() for one in played))


def show(played: Sequence[Played]) -> RichTable:
    """The table for the terminal: what was done is wrapped, the counts are not."""
    shown = RichTable(title="Chaos", title_justify="left", title_style="bold", show_lines=True)
    for head in HEADS[:2]:
        shown.add_column(head, min_width=16)
    for head in HEADS[2:]:
        shown.add_column(head, justify="right", no_wrap=True)
    for one in played:
        shown.add_row(*one.cells())
    return shown


def render(run: Run) -> str:
    """The whole page."""
    parts = [INTRODUCTION, table(run.played).markdown() + "\n", WORDS]
    parts.append("## What is promised, and what was seen\n")
    for one in run.played:
        told = [one.scenario.promise, *one.outcome.notes]
        told += [f"**Broken:** {what}" for what in one.outcome.broken]
        parts.append(
            f"**{one.scenario.title}** (`--only {one.scenario.name}`)\n\n"
            + "\n".join(_bullet(text) for text in told)
            + "\n"
        )
    parts += ["## How to repeat it\n", f"```console\n$ {run.command}\n```\n"]
    parts.append(f"{run.started_at}, on {run.machine}.")
    return "\n".join(parts) + "\n"


def _bullet(text: str) -> str:
    text = text[0].upper() + text[1:].rstrip(".") + "."
    return fill(
        text, width=100, initial_indent="- ", subsequent_indent="  ", break_on_hyphens=False
    )
