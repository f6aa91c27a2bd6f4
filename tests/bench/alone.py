"""The sections that are no loads of the interleaved rounds: each starts what it needs by itself."""

import asyncio
from collections.abc import Callable, Mapping

import msgspec
import uvloop

from tests.bench import batches, cold, fair, jobs, queued, traced
from tests.bench.jobs import FOREBAY, Measured
from tests.bench.loads import Section, Workload
from tests.bench.session import Folders, find_artifact
from tests.bench.stats import Figures, over

COLD_STARTS = 3
"""Of each model, in each round."""

BATCH_LINES = 50_000
QUICK_LINES = 15_000
JOBS = 5_000


class Told(msgspec.Struct, frozen=True):
    """What a section has found."""

    figures: Figures = {}
    jobs: list[Measured] = []


def _cold(folders: Folders, rounds: int, quick: bool) -> Told:
    found: Figures = {}
    for model in (Workload.MINILM, Workload.SMOLLM2):
        find_artifact(folders, model, tell=print)
        artifacts = folders.home / "artifacts"
        found |= cold.measure(folders.root, artifacts, model, COLD_STARTS * rounds)
    return Told(found)


def _queued(folders: Folders, rounds: int, quick: bool) -> Told:
    return Told(uvloop.run(queued.measure(folders.root, rounds)))


def _mixed(folders: Folders, rounds: int, quick: bool) -> Told:
    lines, times = (QUICK_LINES, 1) if quick else (BATCH_LINES, rounds)
    return Told(over([asyncio.run(batches.measure(lines)) for _ in range(times)]))


def _fair(folders: Folders, rounds: int, quick: bool) -> Told:
    find_artifact(folders, Workload.MINILM, tell=print)
    return Told(asyncio.run(fair.measure(folders.home / "artifacts", 1 if quick else rounds)))


def _tracing(folders: Folders, rounds: int, quick: bool) -> Told:
    return Told(traced.measure(folders.root, folders.home / "artifacts", rounds))


def _jobs(folders: Folders, rounds: int, quick: bool) -> Told:
    known = jobs.find()
    names = [FOREBAY, *known]
    with jobs.clients([known.get(name) for name in names], folders.output / "logs") as started:
        return Told(jobs=jobs.measure(started, names, known, rounds=rounds, jobs=JOBS))


MEASURES: Mapping[Section, Callable[[Folders, int, bool], Told]] = {
    Section.COLD: _cold,
    Section.QUEUED: _queued,
    Section.MIXED: _mixed,
    Section.FAIR: _fair,
    Section.TRACING: _tracing,
    Section.JOBS: _jobs,
}
"""By section; each is given the folders, how often to measure, and whether to be quick: those that
take minutes are measured once then."""
