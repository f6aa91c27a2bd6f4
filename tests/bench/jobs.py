"""`python -m tests.bench.jobs [NAMES]`: how many jobs a second a queue takes, runs and answers.

    for each round, for each queue:   client ─▶ Redis ─▶ one worker process ─▶ Redis ─▶ client

A job is given a number and gives it back. A queue's client enqueues some thousands; one rate
counts until the one enqueued last has its result, the other until the client has read all results.
All share one Redis that keeps nothing on disk, Forebay too, each with a database of its own, and
all but one are idle.
"""

import os
import select
import shlex
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated, Final, NoReturn

import msgspec
import typer
from rich.console import Console

from forebay.runtime import settings
from tests.bench import environments, headers, redis_server
from tests.bench.processes import Process, StartError
from tests.bench.stats import ratios, spread
from tests.bench.table import MISSING, Table

ROOT: Final = Path(__file__).parents[2]
FOLDER: Final = environments.FOLDER / "queues"
FOREBAY: Final = "forebay"
WARMING_JOBS: Final = 200
LONGEST_S: Final = 180.0
CANT_RUN: Final = 2

console = Console(soft_wrap=True, stderr=True)


class Queue(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The `[tool.jobs]` table of a queue's header; its file is its client too.

    Attributes:
        title: name for the table.
        environment: whose pinned packages it runs on: `requirements-NAME.txt`.
        worker: what to start in that environment; `{url}` is put in.
    """

    title: str
    environment: str
    worker: str
    name: str = ""


class Took(msgspec.Struct, frozen=True):
    """What a client answers to a number of jobs.

    Attributes:
        ran_s: from the first call until the job that was enqueued last has its result.
        seconds: from the first call until the client has read all results.
        wrong: jobs whose result was not what it should be.
    """

    ran_s: float
    seconds: float
    wrong: int


class Measured(msgspec.Struct, frozen=True):
    """One queue's rates, by round.

    Attributes:
        ran_s: jobs a second until the last one had its result; wrong ones do not count.
        answered_s: likewise, until the client had read all results.
        wrong: in all rounds.
    """

    name: str
    title: str
    version: str
    ran_s: dict[int, float]
    answered_s: dict[int, float]
    wrong: int


class Client:
    """The process that enqueues a queue's jobs and waits for their results.

    Args:
        command: program and arguments.
        env: the whole environment.
        cwd: folder to run in.
        log: takes what it writes to stderr.
    """

    def __init__(
        self, command: Sequence[str], *, env: dict[str, str], cwd: Path, log: Path
    ) -> None:
        self._log = log
        with log.open("ab") as stderr:
            self._popen = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr,
                env=env, cwd=cwd, start_new_session=True,
            )  # fmt: skip

    def run(self, jobs: int) -> Took:
        """Have so many jobs run.

        Raises:
            StartError: the client has ended, or gives no answer in time.
        """
        stdin, stdout = self._popen.stdin, self._popen.stdout
        assert stdin is not None
        assert stdout is not None
        line = b""
        try:
            stdin.write(b"%d\n" % jobs)
            stdin.flush()
            # An answer is written at once, so there is a whole line as soon as there is any of it.
            if select.select([stdout], [], [], LONGEST_S)[0]:
                line = stdout.readline()
        except BrokenPipeError:
            pass
        if not line:
            end = "\n".join(self._log.read_text("utf-8", "replace").splitlines()[-15:])
            raise StartError(f"{self._log.stem} gives no answer to {jobs} jobs:\n{end}")
        return msgspec.json.decode(line, type=Took)

    def stop(self) -> None:
        """End the process."""
        self._popen.kill()
        self._popen.communicate()


def find() -> dict[str, Queue]:
    """Every queue there is a file for, by name."""
    found = {}
    for path in sorted(FOLDER.glob("*_jobs.py")):
        queue = headers.read(path.read_text("utf-8"), "jobs", Queue)
        if queue is not None:
            name = path.stem.removesuffix("_jobs")
            found[name] = msgspec.structs.replace(queue, name=name)
    return found


def main(
    names: Annotated[list[str] | None, typer.Argument(help="Only these queues.")] = None,
    rounds: Annotated[int, typer.Option(min=1, help="How often each is measured.")] = 5,
    jobs: Annotated[int, typer.Option(min=1, help="Jobs in one measurement.")] = 5_000,
) -> None:
    """Measure Forebay and other queues in turn, and print a table.

    Raw results go to .forebay/bench/jobs.json.
    """
    known = find()
    chosen = names or [FOREBAY, *known]
    unknown = [name for name in chosen if name != FOREBAY and name not in known]
    if unknown:
        stop(f"Nothing here is called {unknown[0]!r}: there are {FOREBAY}, {', '.join(known)}.")
    output = ROOT / settings.load().settings.home / "bench"
    try:
        with clients([known.get(name) for name in chosen], output / "logs") as started:
            found = measure(started, chosen, known, rounds=rounds, jobs=jobs)
    except (StartError, OSError) as error:
        stop(str(error))
    (output / "jobs.json").write_bytes(msgspec.json.format(msgspec.json.encode(found)) + b"\n")
    Console(soft_wrap=True).print(table(found).rich())


def measure(
    started: Sequence[Client],
    names: Sequence[str],
    known: dict[str, Queue],
    *,
    rounds: int,
    jobs: int,
) -> list[Measured]:
    """All rounds, the queues in turn in each."""
    found = {name: Measured(name, *_called(known.get(name)), {}, {}, 0) for name in names}

    def add(name: str, took: Took) -> None:
        one = found[name]
        found[name] = msgspec.structs.replace(one, wrong=one.wrong + took.wrong)

    for client, name in zip(started, names, strict=True):
        console.print(f"Warming {name} …")
        add(name, client.run(WARMING_JOBS))
    for round_ in range(rounds):
        for client, name in zip(started, names, strict=True):
            took = client.run(jobs)
            add(name, took)
            right = jobs - took.wrong
            found[name].ran_s[round_] = right / took.ran_s
            found[name].answered_s[round_] = right / took.seconds
            console.print(
                f"round {round_ + 1} · {name} · {right / took.ran_s:,.0f} run a second, "
                f"{right / took.seconds:,.0f} with their results read"
            )
    return list(found.values())


def table(found: Sequence[Measured]) -> Table:
    """Jobs a second and Forebay's ratio to each, the quickest first."""
    ours = next((one for one in found if one.name == FOREBAY), None)
    rows = []
    for one in sorted(found, key=lambda one: -statistics.median(one.ran_s.values())):
        cells = [f"{one.title} {one.version}".strip()]
        for own, others in (
            (None if ours is None else ours.ran_s, one.ran_s),
            (None if ours is None else ours.answered_s, one.answered_s),
        ):
            rate = spread(others.values())
            ratio = None if own is None or one is ours else spread(ratios(own, others))
            assert rate is not None
            cells += [
                f"{rate.median:,.0f}",
                f"{rate.low:,.0f}–{rate.high:,.0f}",
                MISSING if ratio is None else f"{ratio.median:.1f}×",
            ]
        rows.append((*cells, f"{one.wrong:,}"))
    heads = (
        "", "run/s", "spread", "Forebay", "answered/s", "spread", "Forebay", "failed",
    )  # fmt: skip
    return Table("Bare jobs: enqueued, run by one worker process, answered", heads, tuple(rows))


@contextmanager
def clients(queues: Sequence[Queue | None], logs: Path) -> Iterator[list[Client]]:
    """Start workers and clients, and end them afterwards.

    Args:
        queues: which; None is Forebay.
        logs: folder for what they write.

    Raises:
        StartError: an environment can't be made, or a program can't be started.
    """
    logs.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="forebay-jobs-")))
        url = stack.enter_context(
            redis_server.serve(folder=folder / "redis", log=logs / "jobs-redis.log")
        )
        found = []
        for database, queue in enumerate(queues):
            own = f"{url}/{database}"
            worker, client, env, cwd = _ours(own, folder) if queue is None else _theirs(queue, own)
            name = FOREBAY if queue is None else queue.name
            log = logs / f"jobs-{name}-worker.log"
            stack.callback(Process(worker, env=env, cwd=cwd, log=log).stop)
            found.append(Client(client, env=env, cwd=cwd, log=logs / f"jobs-{name}.log"))
            stack.callback(found[-1].stop)
        yield found


_Programs = tuple[list[str], list[str], dict[str, str], Path]
"""Worker, client, their environment and their folder."""


def _ours(url: str, folder: Path) -> _Programs:
    env = {key: value for key, value in os.environ.items() if not key.startswith("FOREBAY_")}
    env |= {
        "FOREBAY_HOME": str(folder / "home"),
        "FOREBAY_MODELS_FILE": str(ROOT / "models.toml"),
        "FOREBAY_REDIS_URL": url,
        "FOREBAY_LOG_LEVEL": "warning",
    }
    worker = [sys.executable, "-m", "forebay.cli", "worker", "echo"]
    return worker, [sys.executable, "-m", "tests.bench.forebay_jobs"], env, ROOT


def _theirs(queue: Queue, url: str) -> _Programs:
    programs = environments.prepare(ROOT / ".venv-peers", queue.environment, tell=console.print)
    env = {
        "PATH": f"{programs}{os.pathsep}{os.environ.get('PATH', '')}",
        "HOME": os.environ.get("HOME", "/"),
        "PYTHONDONTWRITEBYTECODE": "1",
        "BENCH_REDIS_URL": url,
    }
    first, *rest = shlex.split(queue.worker.format(url=url))
    client = [str(programs / "python"), f"{queue.name}_jobs.py"]
    return [str(programs / first), *rest], client, env, FOLDER


def _called(queue: Queue | None) -> tuple[str, str]:
    """Title and version."""
    if queue is None:
        return "Forebay", ""
    return queue.title, environments.pins(queue.environment).get(queue.name, "")


def stop(message: str) -> NoReturn:
    """One line on stderr, and the status that says the benchmark could not run."""
    typer.secho(message, fg="red", err=True)
    raise typer.Exit(CANT_RUN)


if __name__ == "__main__":
    typer.run(main)
