"""The command line of `make bench`, and the order of things: start, check, measure, tell."""

import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, NoReturn

import msgspec
import typer
from rich.console import Console

from forebay.contract.errors import ForebayError
from forebay.runtime import settings
from tests.bench import page, plots, regress, results, rounds, sections, wrk
from tests.bench.check import WrongAnswerError
from tests.bench.efficiency import PRICE
from tests.bench.loads import MINILM_1, MINILM_64, NULL_1, NULL_64, SMOLLM2_8, ZIPF_64, Section
from tests.bench.notes import notes
from tests.bench.processes import StartError
from tests.bench.report import tables
from tests.bench.results import Results
from tests.bench.session import Choice, Folders, contender_names
from tests.bench.wrk import LoadFailedError

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "benchmarks.md"
KEPT = ROOT / "docs" / "benchmarks.json"
IMAGES = ROOT / "docs" / "images"
QUICK = rounds.Pace(rounds=2, seconds=1)
CHECK = rounds.Pace(rounds=3, seconds=1)
FULL = rounds.Pace(rounds=5, seconds=2)
CHECKED = (
    *(load.name for load in (NULL_1, NULL_64, MINILM_1, MINILM_64, ZIPF_64, SMOLLM2_8)),
    Section.MIXED,
    Section.FAIR,
)
"""What `--check` runs, if nothing else is named: where a change for the worse would show."""

GOT_WORSE = 1
CANT_RUN = 2

console = Console(soft_wrap=True)


def bench(
    *,
    quick: Annotated[
        bool,
        typer.Option("--quick", help="Two short rounds of the main loads: under five minutes."),
    ] = False,
    rounds_: Annotated[
        int | None, typer.Option("--rounds", min=1, help="How often everything is measured.")
    ] = None,
    seconds: Annotated[
        int | None, typer.Option("--seconds", min=1, help="Length of one measurement.")
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(
            "--only",
            metavar="NAME",
            help="Only this section, contender, workload or load; may be given more than once. "
            f"Sections: {', '.join(Section)}. Contenders: {', '.join(contender_names())}. "
            "Loads: null, minilm, null-c64, …",
        ),
    ] = None,
    artifact: Annotated[
        Path | None,
        typer.Option(help="Artifact folder for a run without Forebay, if not the built one."),
    ] = None,
    check: Annotated[
        bool,
        typer.Option(
            "--check",
            help="A short run of the main loads, of a batch beside realtime and of keys beside one "
            "another; its ratios against those in docs/benchmarks.json. Ends with 1 if one got "
            "worse.",
        ),
    ] = False,
    price: Annotated[
        float,
        typer.Option("--core-hour", min=0, help="Price of a core for an hour, for what rows cost."),
    ] = PRICE,
    render: Annotated[
        bool, typer.Option("--render", help="Run nothing: show what is kept, write the page.")
    ] = False,
) -> None:
    """Measure Forebay, its peers and the bare model in one interleaved run.

    Raw results go to .forebay/bench/latest.json. Sections that are run in full, all of them or
    those named with --only, replace what docs/benchmarks.json has of them, and docs/benchmarks.md
    is written from all that is kept.

    A run with --quick or --check, or of some contenders or loads, leaves both alone.
    """
    try:
        home = ROOT / settings.load().settings.home
        folders = Folders(ROOT, home, home / "bench", ROOT / ".venv-peers")
        latest = folders.output / "latest.json"
        if render:
            source = KEPT if KEPT.exists() else latest
            tell(results.read(source), source, price)
            return
        if wrk.find() is None:
            stop(wrk.HOW_TO_GET_IT)
        if check and not KEPT.exists():
            stop(f"There is no {KEPT.name} to compare with: a whole `make bench` writes it.")
        kept = results.read(KEPT) if check else None
        choice = Choice(tuple(only or (CHECKED if check else ())), quick or check)
        unknown = choice.unknown(contender_names())
        if unknown:
            stop(f"Nothing here is called {unknown[0]!r}: see --help for the names.")
        usual = CHECK if check else QUICK if quick else FULL
        pace = rounds.Pace(rounds_ or usual.rounds, seconds or usual.seconds)
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
        found = sections.run(choice, folders, pace, artifact)
        results.write(found, latest)
        tell(found, latest, price)
        if kept is not None:
            judge_by(
                kept,
                found,
                lambda names: sections.run(Choice(names, quick=True), folders, pace, artifact),
            )
    except (
        StartError, WrongAnswerError, LoadFailedError, ForebayError, OSError, msgspec.MsgspecError
    ) as error:  # fmt: skip
        stop(str(error))


def tell(found: Results, latest: Path, price: float) -> None:
    """Print the tables; keep sections that were run in full, and write the page."""
    for table in tables(found, price):
        console.print()
        console.print(table.rich())
    for note in notes(found):
        console.print(note, style="yellow", highlight=False)
    console.print(f"\nRaw results: {latest}")
    if found.partial:
        console.print(f"A part of a section does not rewrite {PAGE.name}.")
        return
    kept = results.merged(results.read(KEPT), found) if KEPT.exists() else found
    results.write(kept, KEPT)
    drawn = plots.draw(kept, IMAGES)
    PAGE.write_text(page.render(kept, price, drawn), "utf-8")
    console.print(f"Page: {PAGE}")


def judge_by(kept: Results, found: Results, again: Callable[[tuple[str, ...]], Results]) -> None:
    """Print each kept ratio or share beside this run's, and end with `GOT_WORSE` if one got worse.

    What seems worse is measured once more: of some thirty ratios one is now and then far off by
    chance, and seldom twice.

    Args:
        kept: what it was.
        found: what it is.
        again: measures what these names stand for once more.

    Raises:
        typer.Exit: something got worse, or nothing could be compared.
    """
    compared = _compared(kept, found)
    if all(one.now is None for one in compared):
        stop(f"Nothing of this run is kept in {KEPT.name}.")
    if suspects := regress.worse(compared):
        console.print(f"\nOnce more: {', '.join(one.of.title for one in suspects)}.")
        second = _compared(kept, again(regress.where(suspects)))
        console.print(regress.changes_table([one for one in second if one.now]).rich())
        compared = regress.confirmed(compared, second)
    console.print()
    console.print(regress.changes_table(compared).rich())
    if regress.worse(compared):
        raise typer.Exit(GOT_WORSE)


def _compared(kept: Results, found: Results) -> list[regress.Compared]:
    return regress.compare(
        kept.samples, found.samples, kept_figures=kept.figures, now_figures=found.figures
    )


def stop(message: str) -> NoReturn:
    """One line on stderr, and the status that says the benchmark could not run."""
    typer.secho(message, fg="red", err=True)
    raise typer.Exit(CANT_RUN)


def main() -> None:
    """Entry point."""
    typer.run(bench)
