"""The command line of `make bench`, and the order of things: start, check, measure, tell."""

import shlex
import signal
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, NoReturn

import msgspec
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from forebay.contract.errors import ForebayError
from forebay.runtime import catalog, settings
from tests.bench import forebay_server, machine, page, regress, results, rounds, wrk
from tests.bench.check import WrongAnswerError
from tests.bench.loads import Contender
from tests.bench.neighbours import Neighbours
from tests.bench.processes import StartError
from tests.bench.results import Results
from tests.bench.session import MODEL, Choice, Folders, contender_names, find_artifact, started
from tests.bench.stats import Sample
from tests.bench.tables import tables
from tests.bench.wrk import LoadFailedError

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "benchmarks.md"
KEPT = ROOT / "docs" / "benchmarks.json"
QUICK = rounds.Pace(rounds=2, seconds=1)
CHECK = rounds.Pace(rounds=3, seconds=1)
FULL = rounds.Pace(rounds=5, seconds=2)
GOT_WORSE = 1
CANT_RUN = 2
BUSY_NEIGHBOURS = 0.05

console = Console(soft_wrap=True)


def bench(
    *,
    quick: Annotated[
        bool, typer.Option("--quick", help="Two short rounds of the main loads: under two minutes.")
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
            help="Only this contender, workload or load; may be given more than once. "
            f"Contenders: {', '.join(contender_names())}. Loads: null, minilm, null-c64, …",
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
            help="A quick run; its ratios against those in docs/benchmarks.json. Ends with 1 if "
            "one got worse.",
        ),
    ] = False,
    render: Annotated[
        bool, typer.Option("--render", help="Run nothing: show the latest results, write the page.")
    ] = False,
) -> None:
    """Measure Forebay, its peers and the bare model in one interleaved run.

    Raw results go to .forebay/bench/latest.json. A whole run also writes docs/benchmarks.md and
    docs/benchmarks.json.

    A run with --quick, --check or --only leaves both alone.
    """
    try:
        home = ROOT / settings.load().settings.home
        folders = Folders(ROOT, home, home / "bench", ROOT / ".venv-peers")
        latest = folders.output / "latest.json"
        if render:
            tell(results.read(latest), latest)
            return
        if wrk.find() is None:
            stop(wrk.HOW_TO_GET_IT)
        if check and not KEPT.exists():
            stop(f"There is no {KEPT.name} to compare with: a whole `make bench` writes it.")
        kept = results.read(KEPT) if check else None
        choice = Choice(tuple(only or ()), quick or check)
        unknown = choice.unknown(contender_names())
        if unknown:
            stop(f"Nothing here is called {unknown[0]!r}: see --help for the names.")
        usual = CHECK if check else QUICK if quick else FULL
        pace = rounds.Pace(rounds_ or usual.rounds, seconds or usual.seconds)
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
        found = run(choice, folders, pace, artifact)
        results.write(found, latest)
        tell(found, latest)
        if kept is not None:
            judge_by(kept, found)
    except (
        StartError, WrongAnswerError, LoadFailedError, ForebayError, OSError, msgspec.MsgspecError
    ) as error:  # fmt: skip
        stop(str(error))


def run(choice: Choice, folders: Folders, pace: rounds.Pace, artifact: Path | None) -> Results:
    """Bring everything up, take all steps, and gather what was found."""
    here = machine.describe()
    neighbours = Neighbours()
    begun = datetime.now(UTC)
    spec = catalog.read(folders.root / "models.toml").find(MODEL)
    built = artifact or find_artifact(folders, tell=console.print)
    samples: list[Sample] = []
    with tempfile.TemporaryDirectory(prefix="forebay-bench-") as scratch:
        bodies = Path(scratch)
        with started(
            choice, folders, artifact=built, spec=spec, threads=here.cores, bodies=bodies,
            tell=console.print,
        ) as session:  # fmt: skip
            steps = rounds.plan(session.contenders, choice.loads(), rounds=pace.rounds)

            def redis_url(contender: Contender) -> str | None:
                return session.redis_url if contender.name == forebay_server.NAME else None

            console.print(
                f"{len(steps)} measurements, about {pace.estimate_s(steps) / 60:.1f} minutes."
            )
            with Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                console=console,
            ) as progress:
                task = progress.add_task("", total=len(steps))

                def begin(step: rounds.Step) -> None:
                    told = f"round {step.round + 1} · {step.load.name} · {step.contender.title}"
                    progress.update(task, description=told)

                for sample in rounds.run(
                    steps, seconds=pace.seconds, folder=bodies, redis_url=redis_url, begin=begin
                ):
                    samples.append(sample)
                    progress.advance(task)
            memory = session.forebay.worker_memory() if session.forebay else []
            passes = session.passes
            others = neighbours.share()
            titles = {c.name: c.title for c in session.contenders}
    return Results(
        started_at=begun.strftime("%Y-%m-%d %H:%M UTC"),
        command=command(),
        partial=choice.quick or bool(choice.only),
        rounds=pace.rounds,
        seconds=pace.seconds,
        threads=here.cores,
        passes=passes,
        max_rows=spec.batch.max_rows,
        artifact=built.name[:12],
        machine=here,
        titles=titles,
        samples=samples,
        memory=memory,
        neighbours=others,
        notes=notes(here, others, samples, titles),
    )


def command() -> str:
    """What reproduces this run."""
    arguments = sys.argv[1:]
    return f"python -m tests.bench {shlex.join(arguments)}" if arguments else "make bench"


def notes(
    here: machine.Machine,
    neighbours: float | None,
    samples: list[Sample],
    titles: dict[str, str],
) -> list[str]:
    """What a reader has to know about a run: a busy machine, unequal libraries, failures."""
    told = [f"{difference}." for difference in machine.differing(here)]
    if neighbours is not None and neighbours > BUSY_NEIGHBOURS:
        told.append(
            f"The machine was busy with something else: {neighbours:.0%} of its cores' time, so "
            "these figures are lower and vary more than they should."
        )
    for name, title in titles.items():
        failed = sum(s.measured.failed for s in samples if s.contender == name)
        if failed:
            told.append(f"{title}: {failed:,} requests failed.")
    return told


def tell(found: Results, latest: Path) -> None:
    """Print the tables; write the page, unless the run was partial."""
    for table in tables(found):
        console.print()
        console.print(table.rich())
    for note in found.notes:
        console.print(note, style="yellow", highlight=False)
    console.print(f"\nRaw results: {latest}")
    if found.partial:
        console.print(f"A part of the benchmark does not rewrite {PAGE.name}.")
    else:
        PAGE.write_text(page.render(found), "utf-8")
        results.write(found, KEPT)
        console.print(f"Page: {PAGE}")


def judge_by(kept: Results, found: Results) -> None:
    """Print each kept ratio beside this run's, and end with `GOT_WORSE` if one got worse.

    Raises:
        typer.Exit: something got worse, or nothing could be compared.
    """
    compared = regress.compare(kept.samples, found.samples)
    if all(one.now is None for one in compared):
        stop(f"Nothing of this run is kept in {KEPT.name}.")
    console.print()
    console.print(regress.changes_table(compared).rich())
    if regress.has_worse(compared):
        raise typer.Exit(GOT_WORSE)


def stop(message: str) -> NoReturn:
    """One line on stderr, and the status that says the benchmark could not run."""
    typer.secho(message, fg="red", err=True)
    raise typer.Exit(CANT_RUN)


def main() -> None:
    """Entry point."""
    typer.run(bench)
