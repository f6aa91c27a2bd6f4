"""`python -m tests.bench.celery_ingress`: tasks through Forebay, and the same as ordinary ones.

    10,000 messages, staged ─▶ COPY ─▶ the queue ─▶ Forebay's background ─▶ worker ─▶ results
                               COPY ─▶ the queue ─▶ a prefork worker that holds the model ─▶ results

Both drain the same number of tasks that are already queued, in turn, on the same Redis: whatever
else the machine does hits both. Rates count from the copy to the last result.
"""

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import redis
import typer
from celery import Celery

from forebay.contract.errors import ArtifactError
from forebay.contract.model import ModelSpec
from forebay.runtime import catalog
from forebay.runtime.settings import load
from forebay.storage.artifacts import ArtifactStore
from tests.bench import redis_server
from tests.bench.processes import Process
from tests.bench.texts import make_texts

ROOT: Final = Path(__file__).parents[2]
STAGES_DB, OURS_DB, THEIRS_DB = 4, 5, 6
GOALS: Final = {"echo": 3.0, "minilm": 1.4}
POLL_S: Final = 0.01
LONGEST_S: Final = 600.0


class Drain(msgspec.Struct, frozen=True):
    """One side of the comparison.

    Attributes:
        title: of it.
        staged: key of the messages.
        queue: where they go.
        database: of queue and results.
    """

    title: str
    staged: str
    queue: str
    database: int


def main(
    tasks: Annotated[int, typer.Option(help="Tasks queued, of each model.")] = 10_000,
    rounds: Annotated[int, typer.Option(help="How often each side drains them.")] = 3,
    model: Annotated[list[str] | None, typer.Option(help="Only this.")] = None,
) -> None:
    """Measure both, in turn, and print their rates, ratios and the mean micro-batch."""
    for name in model or list(GOALS):
        with tempfile.TemporaryDirectory() as folder, _running(name, Path(folder)) as url:
            _measure(name, url, tasks, rounds, Path(folder))


def _measure(name: str, url: str, tasks: int, rounds: int, folder: Path) -> None:
    sides = [
        Drain("forebay", "ours", f"forebay.{name}", OURS_DB),
        Drain("ordinary", "theirs", "celery", THEIRS_DB),
    ]
    _stage(name, url, tasks)
    for side in sides:  # both are up, and have their models loaded
        _drain(side, url, limit=200)
    rates: dict[str, list[float]] = {side.title: [] for side in sides}
    batches: list[int] = []
    for number in range(rounds):
        for side in sides if number % 2 == 0 else reversed(sides):
            before = _noted(folder)
            rates[side.title].append(tasks / _drain(side, url))
            batches += _noted(folder)[len(before) :]
    ours, theirs = (statistics.median(rates[side.title]) for side in sides)
    ratios = [one / other for one, other in zip(*rates.values(), strict=True)]
    shown = ", ".join(f"{ratio:.2f}" for ratio in ratios)
    print(
        f"{name}: Forebay {ours:,.0f}/s, an ordinary task {theirs:,.0f}/s; "
        f"ratio {statistics.median(ratios):.2f} ({shown}), goal {GOALS[name]}; "
        f"{statistics.mean(batches):.1f} rows a batch",
        flush=True,
    )


def _stage(name: str, url: str, tasks: int) -> None:
    """Have Celery write the messages once."""
    inputs: list[dict[str, Any]] = (
        [{"text": text} for text in make_texts(tasks, seed="celery")]
        if name == "minilm"
        else [{"value": number} for number in range(tasks)]
    )
    app = Celery("staging", broker=f"{url}/{STAGES_DB}", set_as_current=False)
    with app.producer_pool.acquire(block=True) as producer:
        for given in inputs:
            for task, queue in (("forebay.predict", "ours"), (f"ordinary.{name}", "theirs")):
                app.send_task(task, kwargs={"input": given}, queue=queue, producer=producer)


def _drain(side: Drain, url: str, *, limit: int | None = None) -> float:
    """Queue the messages and wait until all have results; seconds.

    Args:
        side: whose queue.
        url: of the server.
        limit: only so many messages.
    """
    with redis.Redis.from_url(f"{url}/{STAGES_DB}") as stages:
        queued = int(stages.llen(side.staged))
        stages.copy(side.staged, "part", replace=True)
        if limit is not None:
            stages.ltrim("part", 0, limit - 1)
            queued = limit
        with redis.Redis.from_url(f"{url}/{side.database}") as client:
            for key in client.scan_iter("celery-task-meta-*", count=5000):
                client.delete(key)
            resting = int(client.dbsize())
            began = time.perf_counter()
            stages.copy("part", side.queue, destination_db=side.database)
            until = began + LONGEST_S
            # What a side keeps for itself meanwhile is not counted as results.
            while client.dbsize() < resting + queued or _results(client) < queued:
                if time.perf_counter() > until:
                    raise SystemExit(f"{side.title} has not drained its queue")
                time.sleep(POLL_S)
            return time.perf_counter() - began


def _results(client: "redis.Redis") -> int:
    return sum(1 for _ in client.scan_iter("celery-task-meta-*", count=10_000))


def _noted(folder: Path) -> list[int]:
    notes = folder / "batches"
    return [int(line) for line in notes.read_text().split()] if notes.exists() else []


@contextmanager
def _running(name: str, folder: Path) -> Iterator[str]:
    """Both sides, on a Redis of their own; yields its URL, without a database."""
    spec = _spec(name)
    home = load().settings.home
    with ExitStack() as stack:
        url = stack.enter_context(redis_server.serve(folder=folder / "redis", log=folder / "log"))
        shared = {
            **{key: value for key, value in os.environ.items() if "FOREBAY" not in key},
            "APP_BROKER": f"{url}/{THEIRS_DB}",
            "APP_BACKEND": f"{url}/{THEIRS_DB}",
            "FOREBAY_HOME": str(home),
            "FOREBAY_MODELS_FILE": str(ROOT / "models.toml"),
            "FOREBAY_REDIS_URL": f"{url}/0",
            "FOREBAY_CELERY_BROKER_URL": f"{url}/{OURS_DB}",
            "FOREBAY_LOG_LEVEL": "warning",
        }
        if spec.is_built:
            artifact = ArtifactStore(home).open(name).folder
            shared |= {
                "BENCH_ARTIFACT": str(artifact),
                "BENCH_TOKENIZER": str(artifact / "tokenizer.json"),
            }
        forebay = (sys.executable, "-m", "forebay.cli")
        cores = str(os.cpu_count() or 1)
        for command in (
            (sys.executable, "-m", "tests.bench.counted_worker", str(folder / "batches"), name),
            (*forebay, "background"),
            (
                *(sys.executable, "-m", "celery", "-A", "tests.bench.celery_tasks", "worker"),
                *("--concurrency", cores, "--loglevel", "WARNING"),
            ),
        ):
            process = Process(command, env=shared, cwd=ROOT, log=folder / "log")
            stack.callback(process.stop)
        yield url


def _spec(name: str) -> ModelSpec:
    return catalog.read(ROOT / "models.toml").find(name)


if __name__ == "__main__":
    try:
        program = typer.Typer(pretty_exceptions_enable=False)
        program.command()(main)
        program()
    except ArtifactError as error:
        raise SystemExit(f"{error.message} `forebay up` builds it.") from None
