"""The command line of `make chaos`."""

import asyncio
import os
import platform
import shlex
import signal
import sys
import time
import traceback
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from tests.chaos import page
from tests.chaos.outcome import Outcome, Scenario
from tests.chaos.scenarios import SCENARIOS

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "chaos.md"
CANT_RUN = 2

WIDTH = 140
"""Columns of the table where the terminal, or what stands for it, is narrower."""

console = Console(soft_wrap=True, highlight=False)
console.width = max(console.width, WIDTH)


def chaos(
    *,
    only: Annotated[
        list[str] | None,
        typer.Option("--only", metavar="NAME", help="Only this scenario; may be given again."),
    ] = None,
    short: Annotated[bool, typer.Option("--short", help="A few seconds each.")] = False,
    list_: Annotated[bool, typer.Option("--list", help="Name the scenarios, play none.")] = False,
) -> None:
    """Break real processes under load, and count what became of every prediction.

    Ends with 1 if a promise is broken. A whole run writes docs/chaos.md; one with --only or
    --short leaves it alone.
    """
    if list_:
        for scenario in SCENARIOS:
            console.print(f"{scenario.name:20} {scenario.promise}")
        return
    names = set(only or ())
    unknown = names - {scenario.name for scenario in SCENARIOS}
    if unknown:
        typer.secho(f"There is no scenario {min(unknown)!r}: see --list.", fg="red", err=True)
        raise typer.Exit(CANT_RUN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    begun = datetime.now(UTC)
    chosen = [scenario for scenario in SCENARIOS if not names or scenario.name in names]
    played = [page.Played(scenario, _play(scenario, short=short)) for scenario in chosen]
    console.print()
    console.print(page.show(played), soft_wrap=False)
    if not short and not names:
        PAGE.write_text(
            page.render(
                page.Run(begun.strftime("%Y-%m-%d %H:%M UTC"), _command(), _machine(), played)
            ),
            "utf-8",
        )
        console.print(f"Page: {PAGE}")
    raise typer.Exit(any(one.outcome.broken for one in played))


def _play(scenario: Scenario, *, short: bool) -> Outcome:
    console.print(f"[bold]{scenario.title}[/]: {scenario.promise}")
    began = time.monotonic()
    try:
        outcome = asyncio.run(scenario.play(short))
    except Exception as error:
        # The others are still worth playing; this one has not kept its promise.
        traceback.print_exc()
        outcome = Outcome(done="the scenario itself failed", broken=[f"{error!r}"[:500]])
    console.print(f"  {outcome.verdict} after {time.monotonic() - began:.1f} s")
    for note in outcome.notes:
        console.print(f"  {note}", style="dim")
    for what in outcome.broken:
        console.print(f"  broken: {what}", style="red")
    return outcome


def _command() -> str:
    arguments = sys.argv[1:]
    return f"python -m tests.chaos {shlex.join(arguments)}" if arguments else "make chaos"


def _machine() -> str:
    return f"{os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}"


def main() -> None:
    """Entry point."""
    typer.run(chaos)
