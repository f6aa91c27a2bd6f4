"""Running the chosen sections one after the other, and gathering what they find."""

import shlex
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from forebay.contract.model import ModelSpec
from forebay.runtime import catalog
from tests.bench import alone, forebay_server, machine, rounds, usage
from tests.bench.forebay_server import ForwardPasses, WorkerMemory
from tests.bench.jobs import Measured
from tests.bench.loads import Contender, Load, Section
from tests.bench.neighbours import Neighbours
from tests.bench.results import Ran, Results
from tests.bench.session import MODEL, TOGETHER, Choice, Folders, Session, find_artifact, started
from tests.bench.stats import Figures, Sample, spread
from tests.bench.usage import Memory

console = Console(soft_wrap=True, stderr=True)


class Found(msgspec.Struct):
    """What has been found so far."""

    samples: list[Sample] = msgspec.field(default_factory=list)
    titles: dict[str, str] = msgspec.field(default_factory=dict)
    memory: list[WorkerMemory] = msgspec.field(default_factory=list)
    passes: ForwardPasses | None = None
    figures: Figures = msgspec.field(default_factory=dict)
    processes: dict[str, list[Memory]] = msgspec.field(default_factory=dict)
    jobs: list[Measured] = msgspec.field(default_factory=list)
    sections: list[Ran] = msgspec.field(default_factory=list)


def run(choice: Choice, folders: Folders, pace: rounds.Pace, artifact: Path | None) -> Results:
    """Run the chosen sections, and gather what was found.

    Raises:
        StartError: something does not come up.
        WrongAnswerError: a contender gives another embedding than the bare model.
        LoadFailedError: wrk could not run.
    """
    here = machine.describe()
    shares: list[float] = []
    spec = catalog.read(folders.root / "models.toml").find(MODEL)
    built = artifact or find_artifact(folders, tell=console.print)
    found = Found()
    begun = _now()
    for together in TOGETHER:
        loads = [load for load in choice.loads() if load.section in together]
        if loads:
            since = _now()
            share = _run_loads(choice, folders, loads, pace, built, spec, found)
            shares += [] if share is None else [share]
            _note(found, choice, together, pace, since, share)
    for section in choice.sections():
        console.print(f"Section {section} …")
        watch, since = Neighbours(), _now()
        told = alone.MEASURES[section](folders, pace.rounds, choice.quick)
        if section is Section.JOBS:
            found.jobs = told.jobs
        found.figures |= told.figures
        share = watch.share()
        shares += [] if share is None else [share]
        _note(found, choice, (section,), pace, since, share)
    others = max(shares, default=None)
    return Results(
        started_at=begun,
        command=command(),
        partial=not choice.whole(),
        rounds=pace.rounds,
        seconds=pace.seconds,
        threads=here.cores,
        passes=found.passes,
        max_rows=spec.batch.max_rows,
        artifact=built.name[:12],
        machine=here,
        titles=found.titles,
        samples=found.samples,
        memory=found.memory,
        neighbours=others,
        figures=found.figures,
        processes=found.processes,
        jobs=found.jobs,
        sections=found.sections,
    )


def _run_loads(
    choice: Choice,
    folders: Folders,
    loads: list[Load],
    pace: rounds.Pace,
    built: Path,
    spec: ModelSpec,
    found: Found,
) -> float | None:
    """Bring up who takes these loads, and take all steps; gives what somebody else used meanwhile.

    That is asked while all still run: of what was killed with its parent nobody knows what it used.
    """
    watch = Neighbours()
    with tempfile.TemporaryDirectory(prefix="forebay-bench-") as scratch:
        bodies = Path(scratch)
        with started(
            choice, folders, loads, artifact=built, spec=spec, threads=machine.cores(),
            bodies=bodies, tell=console.print,
        ) as session:  # fmt: skip
            _take_steps(session, loads, pace, bodies, found)
            if session.forebay:
                section = loads[0].section
                found.memory = found.memory or session.forebay.worker_memory()
                found.processes[section] = usage.memory([session.forebay.pid])
                if section is Section.CLOSED:
                    peaks = [m.peak_bytes for m in found.memory if m.model == MODEL]
                    found.figures |= _given("worker-rss", [peak / 1e6 for peak in peaks])
            found.passes = found.passes or session.passes
            found.titles |= {c.name: c.title for c in session.contenders}
            return watch.share()


def _take_steps(
    session: Session, loads: list[Load], pace: rounds.Pace, bodies: Path, found: Found
) -> None:
    steps = rounds.plan(session.contenders, loads, rounds=pace.rounds)

    def redis_url(contender: Contender) -> str | None:
        return session.redis_url if contender.name in forebay_server.EXTRA else None

    console.print(f"{len(steps)} measurements, about {pace.estimate_s(steps) / 60:.1f} minutes.")
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
            steps, seconds=pace.seconds, folder=bodies, redis_url=redis_url, begin=begin,
            programs=session.programs, pausing=session.pausing,
        ):  # fmt: skip
            found.samples.append(sample)
            progress.advance(task)


def _note(
    found: Found,
    choice: Choice,
    sections: tuple[Section, ...],
    pace: rounds.Pace,
    since: str,
    neighbours: float | None,
) -> None:
    """Of sections that were run in full, when and how."""
    found.sections += [
        Ran(section, since, command(), pace.rounds, pace.seconds, neighbours)
        for section in sections
        if section in choice.whole()
    ]


def _given(name: str, values: list[float]) -> Figures:
    value = spread(values)
    return {} if value is None else {name: value}


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")


def command() -> str:
    """What reproduces this run."""
    arguments = sys.argv[1:]
    return f"python -m tests.bench {shlex.join(arguments)}" if arguments else "make bench"
